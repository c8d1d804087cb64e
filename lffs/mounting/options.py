"""What a mount is asked for, and everything that can be found wrong with it before it is made.

Options come from the command line and from mount(8), in its comma list.  The checks look at the
machine and change nothing but one thing: a dead mount of ours in the way is detached, and said so.
Making the mount is the daemon's (lffs.daemon), going into the background lffs.mounting.background's.
"""

import difflib
import enum
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from lffs.control.client import open_daemon
from lffs.errors import MountError
from lffs.mounting.table import (
    FUSERMOUNT,
    Mount,
    UsageError,
    detach,
    is_dead_mount,
    mount_over,
    read_mounts,
    resolve,
)
from lffs.state_dir import STATE_NAME

DEV_FUSE = Path("/dev/fuse")


class TransportChoice(enum.StrEnum):
    """Who speaks FUSE; auto is passthrough where the kernel and the user's rights allow it."""

    AUTO = "auto"
    PYFUSE3 = "pyfuse3"
    PASSTHROUGH = "passthrough"


@dataclass(frozen=True, slots=True)
class MountOptions:
    """One mount as it was asked for.  All paths are absolute: the daemon leaves the directory."""

    backing: Path
    mountpoint: Path
    config: Path | None = None
    state_dir: Path | None = None  # None: where it was, at first BACKING/.lffs
    foreground: bool = False
    allow_other: bool = False
    read_only: bool = False
    suid: bool = False
    dev: bool = False
    transport: TransportChoice = TransportChoice.AUTO
    kernel_options: tuple[str, ...] = ()  # noexec, sync, dirsync: handed to mount(2) as they are
    overrides: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))  # by key


# ---------------------------------------------------------------------------------------------------
# The comma list
# ---------------------------------------------------------------------------------------------------

_FLAGS: Mapping[str, tuple[str, bool]] = {  # option → field and what it becomes
    "allow_other": ("allow_other", True),
    "ro": ("read_only", True),
    "rw": ("read_only", False),
    "suid": ("suid", True),
    "nosuid": ("suid", False),
    "dev": ("dev", True),
    "nodev": ("dev", False),
}
_VALUED = ("transport", "config", "state_dir", "status_names")
_OVERRIDING = ("debug",)
_KERNEL_OPTIONS = ("noexec", "sync", "dirsync")  # ignored, they would promise what nobody keeps
# What mount(8), fstab and habit add, and what is so anyway.  FUSE leaves atime to the backing store.
_ACCEPTED = frozenset((
    "defaults", "auto", "noauto", "user", "users", "nouser", "owner", "group", "_netdev", "nofail",
    "exec", "async", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime",
    "strictatime", "nostrictatime", "default_permissions",
))  # fmt: skip
_ACCEPTED_PREFIXES = ("x-", "X-", "comment=")


def split_options(text: str) -> Iterator[str]:
    r"""Yield the options of a comma list; ``\`` takes the next character as it is (``a\,b``)."""
    option = ""
    characters = iter(text)
    for character in characters:
        if character == ",":
            if option:
                yield option
            option = ""
        else:
            option += next(characters, "\\") if character == "\\" else character
    if option:
        yield option


def mount_options(
    backing: str,
    mountpoint: str,
    comma_lists: Iterable[str] = (),
    *,
    config: str | None = None,
    state_dir: str | None = None,
    foreground: bool = False,
) -> MountOptions:
    """Return what a command line asks for; of contrary options the last counts, as with mount(8).

    *config* is a file or the name of a shipped profile.  Touches no disk but to find that file.
    Raises UsageError.
    """
    flags = {"allow_other": os.geteuid() == 0, "read_only": False, "suid": False, "dev": False}
    values: dict[str, str] = {}
    kernel_options: list[str] = []
    overrides: dict[str, object] = {}
    for option in (option for comma_list in comma_lists for option in split_options(comma_list)):
        name, equals, value = option.partition("=")
        if option in _FLAGS:
            flag, setting = _FLAGS[option]
            flags[flag] = setting
        elif option in _KERNEL_OPTIONS:
            kernel_options.append(option)
        elif option in _OVERRIDING:
            overrides[option] = True
        elif name in _VALUED:
            if not value:
                raise UsageError(f"-o {name} needs a value: -o {name}=…")
            values[name] = value
        elif option not in _ACCEPTED and not option.startswith(_ACCEPTED_PREFIXES):
            raise UsageError(_unknown_option(name, bool(equals)))
    if "status_names" in values:
        overrides["jobs.status_names"] = values["status_names"]
    state_dir = _only_one("--state-dir", state_dir, "-o state_dir", values.get("state_dir"))
    return MountOptions(
        backing=_absolute(backing, "BACKING"),
        mountpoint=_absolute(mountpoint, "MOUNTPOINT"),
        config=find_config(_only_one("-c", config, "-o config", values.get("config"))),
        state_dir=None if state_dir is None else _absolute(state_dir, "--state-dir"),
        foreground=foreground,
        transport=_transport(values.get("transport", TransportChoice.AUTO)),
        kernel_options=tuple(kernel_options),
        overrides=MappingProxyType(overrides),
        **flags,
    )


def _unknown_option(name: str, has_value: bool) -> str:
    known = [*_FLAGS, *_VALUED, *_OVERRIDING, *_KERNEL_OPTIONS, *sorted(_ACCEPTED)]
    if name in known:
        return f"-o {name} takes no value"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join((*_FLAGS, *_VALUED, *_OVERRIDING))}"
    return f"unknown mount option {name}{'=' if has_value else ''}: {hint}"


def _only_one(name: str, value: str | None, other_name: str, other: str | None) -> str | None:
    if value is not None and other is not None and value != other:
        raise UsageError(f"{name} says {value}, {other_name} says {other}: give one")
    return value if value is not None else other


def _absolute(text: str, what: str) -> Path:
    if not text:
        raise UsageError(f"{what} is empty")
    return Path(text).absolute()


def _transport(name: str) -> TransportChoice:
    try:
        return TransportChoice(name)
    except ValueError:
        raise UsageError(f"-o transport={name}: there are {', '.join(TransportChoice)}") from None


def find_config(name: str | None) -> Path | None:
    """Return the configuration file that *name* means; None for none.

    The name of a shipped profile is that profile, whatever lies in the working directory; ``./NAME``
    is a file there.  Raises UsageError for a missing one.
    """
    if name is None:
        return None
    from lffs.config import find_profile  # pydantic, a fifth of a second

    if "/" not in name:
        profile = find_profile(name)
        if profile is not None:
            return profile
    file = Path(name).absolute()
    if not file.is_file():
        what = "is not a file" if file.exists() else "does not exist, and no shipped profile has that name"
        raise UsageError(f"configuration {name} {what}")
    return file


# ---------------------------------------------------------------------------------------------------
# Before mounting
# ---------------------------------------------------------------------------------------------------


def check_mount(options: MountOptions, say: Callable[[str], None]) -> MountOptions:
    """Return *options* with its paths resolved, once nothing speaks against the mount.

    A dead mount of ours at the mountpoint is detached and said.  Raises UsageError for what can't be
    meant, MountError for what is refused or missing, and what the system raises.
    """
    backing = _resolved_directory(options.backing, "the backing store")
    mountpoint = _clear_mountpoint(options.mountpoint, backing, say)
    _refuse_overlap(backing, mountpoint)
    _refuse_content(mountpoint)
    state_dir = options.state_dir
    if state_dir is not None:
        state_dir = resolve(state_dir, read_mounts())
        _refuse_exposed_state(state_dir, backing, mountpoint)
    check_fuse()
    return replace(options, backing=backing, mountpoint=mountpoint, state_dir=state_dir)


def _resolved_directory(path: Path, what: str) -> Path:
    try:
        resolved = path.resolve(strict=True)
        is_directory = resolved.is_dir()
    except FileNotFoundError:
        raise MountError(f"{what} {path} does not exist; make it first: mkdir -p") from None
    except OSError as exc:
        if exc.errno != errno.ENOTCONN:
            raise
        raise MountError(f"{what} {path} lies on a dead mount; unmount that first: umount -l") from None
    except RuntimeError:  # pathlib's word for a loop of links
        raise MountError(f"{what} {path}: {os.strerror(errno.ELOOP)}") from None
    if not is_directory:
        raise MountError(f"{what} {path} is not a directory")
    return resolved


def _clear_mountpoint(path: Path, backing: Path, say: Callable[[str], None]) -> Path:
    """Return the mountpoint resolved, with no mount of ours on it."""
    mounts = read_mounts()
    mountpoint = resolve(path, mounts)
    while (there := mount_over(mountpoint, mounts)) and there.mountpoint == mountpoint and there.is_lffs:
        if _has_daemon(there):
            raise MountError(_already_mounted(there, backing))
        detach(mountpoint)
        say(f"detached a dead mount of {there.backing} at {mountpoint}: its daemon had died")
        mounts = read_mounts()
    return _resolved_directory(mountpoint, "the mountpoint")


def _has_daemon(mount: Mount) -> bool:
    # The socket first: a mount whose daemon hangs would never answer whether it is dead.
    daemon_fd = open_daemon(mount.backing)
    if daemon_fd is None:
        return not is_dead_mount(mount.mountpoint)
    os.close(daemon_fd)
    return True


def _already_mounted(there: Mount, backing: Path) -> str:
    if there.backing == backing:
        return f"{backing} is mounted at {there.mountpoint} already"
    return f"{there.mountpoint} is in use: {there.backing} is mounted there; lffs umount {there.mountpoint}"


def _refuse_overlap(backing: Path, mountpoint: Path) -> None:
    if _is_same(backing, mountpoint):
        raise UsageError(f"backing store and mountpoint are the same directory, {backing}: lffs needs two")
    if _lies_in(mountpoint, backing):
        raise UsageError(f"the mountpoint {mountpoint} lies in the backing store {backing}; put it elsewhere")
    if _lies_in(backing, mountpoint):
        raise UsageError(
            f"the backing store {backing} lies below the mountpoint {mountpoint}, which hides it"
        )


def _is_same(one: Path, other: Path) -> bool:
    return os.path.samestat(one.stat(), other.stat())


def _lies_in(inner: Path, outer: Path) -> bool:
    # By inode, since a bind mount gives a directory a second path.
    return any(_is_same(parent, outer) for parent in inner.parents)


def _refuse_content(mountpoint: Path) -> None:
    with os.scandir(mountpoint) as entries:
        first = next(entries, None)
    if first is not None:
        raise MountError(
            f"the mountpoint {mountpoint} is not empty (it holds {first.name}); what lies there would be"
            " hidden, and was perhaps written by a pipeline while nothing was mounted: move it away first"
        )


def _refuse_exposed_state(state_dir: Path, backing: Path, mountpoint: Path) -> None:
    if state_dir.is_relative_to(mountpoint):
        raise UsageError(f"--state-dir {state_dir} lies below the mountpoint, which hides it")
    if state_dir.is_relative_to(backing) and not state_dir.is_relative_to(backing / STATE_NAME):
        raise UsageError(f"--state-dir {state_dir} lies in the backing store, where the mount would show it")


def check_fuse(device: Path = DEV_FUSE) -> None:
    """Raise MountError unless this user can mount through *device*; says what to install or do."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise MountError(
            f"{device} does not exist: load the kernel module (modprobe fuse), or start the container with"
            f" --device {device} --cap-add SYS_ADMIN"
        ) from None
    except OSError as exc:
        raise MountError(
            f"{device} can't be opened ({exc.strerror}): in a container, start it with --device {device}"
            " --cap-add SYS_ADMIN; elsewhere, ask for read and write permission on it"
        ) from None
    if os.geteuid() != 0 and shutil.which(FUSERMOUNT) is None:
        raise MountError(f"{FUSERMOUNT} is not installed: apt install fuse3 (only root mounts without it)")
