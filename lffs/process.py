"""What /proc says of the process behind a request: its command name and its groups."""

import os


def command_name(pid: int) -> str:
    """Return the process's command name (15 bytes at most, proc_pid_comm(5)); "" if it is gone."""
    if pid <= 0:
        return ""
    try:
        descriptor = os.open(b"/proc/%d/comm" % pid, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 64).rstrip(b"\n").decode("utf-8", "backslashreplace")
    except ProcessLookupError:
        return ""
    finally:
        os.close(descriptor)


def supplementary_groups(pid: int) -> frozenset[int]:
    """Return the process's supplementary group ids; none if it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"Groups:"):
                    return frozenset(map(int, line.split()[1:]))
    except (FileNotFoundError, ProcessLookupError):
        pass
    return frozenset()
