"""The native core: what is touched once per event. Each module is one structure, with its .pxd and .pyi."""
