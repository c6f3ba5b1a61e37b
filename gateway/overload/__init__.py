"""How hard the gateway is pressed, and which receipts give way for it. Pure: values and `now_ns` in, decisions out."""
