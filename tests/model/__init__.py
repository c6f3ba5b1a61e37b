"""Plain versions of what gateway._fast does fast: slow, short, and the truth it is compared with."""
