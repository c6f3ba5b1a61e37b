"""wa-gateway: durable webhooks in, paced sends out, one process beside each WhatsApp number."""

__version__ = "0.1.0"
