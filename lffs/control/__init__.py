"""Asking a store, mounted or not: the calls, who answers them, and the socket in between."""
