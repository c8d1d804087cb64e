"""What systemd wants to hear of a service of Type=notify (sd_notify(3))."""

import logging
import os
import socket

log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send *state*, such as READY=1 or STOPPING=1; nothing happens where systemd doesn't listen."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.connect(address)
            connection.sendall(state.encode("ascii"))
    except OSError as exc:  # serving goes on; systemd will say what it missed
        log.warning("cannot tell systemd %s: %s", state, exc)
