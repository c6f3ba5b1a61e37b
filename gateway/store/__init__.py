"""What is on disk: the store, its group commit, and the queues that are windows on it."""
