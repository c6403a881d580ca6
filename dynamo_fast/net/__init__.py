"""The only floor that touches sockets: one trio task serves every data connection through a nested epoll descriptor."""
