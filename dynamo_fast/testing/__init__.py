"""A cluster in one process, and what can be made to go wrong in it."""
