"""From the node's webhook to the customer's backend."""
