"""The number's TPS: what happened, what may be sent, and when. Pure: values and `now_ns` in, answers out."""
