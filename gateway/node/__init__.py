"""The node as its clients see it."""
