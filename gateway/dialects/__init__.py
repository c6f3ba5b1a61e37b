"""Wire formats to events and back. Pure: bytes in, values out."""
