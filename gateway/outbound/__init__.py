"""From the push API to the node, within the number's TPS."""
