"""The filesystem core: synchronous, without FUSE.  Transports translate to and from it."""
