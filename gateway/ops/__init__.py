"""What an operator sees: metrics, logs, the service manager."""
