"""Bytes to messages and back, sans-I/O: a frame comes in as bytes and leaves as bytes; nobody here opens a socket."""
