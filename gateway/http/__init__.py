"""Sockets: the servers we listen with and the client we call with."""
