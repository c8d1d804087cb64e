"""Notes to the kernel that pyfuse3 has no call for, written to the /dev/fuse descriptor.

Linux 6.16 has FUSE_NOTIFY_INC_EPOCH: it ages every name that the kernel remembers, also of what is
not there, at once and without taking a lock (invalidating single entries takes the lock of their
directory, which a request may be holding that waits for this very daemon).
"""

import errno
import os
import struct

_NOTIFY_INC_EPOCH = 8
# struct fuse_out_header: length, error (a notification's code), unique (0: no reply to anything).
_INC_EPOCH = struct.pack("<IiQ", 16, _NOTIFY_INC_EPOCH, 0)


def fuse_descriptor() -> int:
    """Return this process's descriptor of /dev/fuse.  Raises FileNotFoundError without one."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                return int(name)
        except FileNotFoundError:  # listdir's own
            continue
    raise FileNotFoundError(errno.ENOENT, "no descriptor of /dev/fuse is open")


def increase_epoch(descriptor: int) -> bool:
    """Age every name the kernel remembers; False where the kernel does not know how."""
    try:
        os.write(descriptor, _INC_EPOCH)
    except OSError as exc:
        if exc.errno in (errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True
