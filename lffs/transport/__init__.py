"""Transports speak FUSE: they translate requests to the filesystem core and decide nothing."""
