"""The manifest as JSON: what interface.md promises to other programs.

`job_manifest` makes the object, `write_export` puts it into the state directory in one step.
"""

import contextlib
import datetime
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lffs import syscalls
from lffs.cleanup.plan import effective_type
from lffs.handles import DirectoryHandles, join, split
from lffs.jobs import NAME_MAX
from lffs.manifest.exported import with_checksum
from lffs.manifest.records import DirectoryState, Entry, Job
from lffs.manifest.store import Store
from lffs.model import DIRECTORY_NAMES, DirectoryType, EntryState

if TYPE_CHECKING:
    from lffs.config import Settings

MANIFEST_VERSION = 1
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_FIRST = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC)
_LAST = datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=datetime.UTC)
_ENDING = b".json"

# The directory types by what a job calls its directories; what none names is base.
_DIRECTORY_TYPES = {name.encode(): type_ for type_, name in DIRECTORY_NAMES.items()} | {
    b"long": DirectoryType.LONG_FORM,
    b"llm_responses": DirectoryType.METADATA,
}


def directory_type(path: bytes) -> DirectoryType:
    """Return what a job's directory is for, by its last name."""
    return _DIRECTORY_TYPES.get(split(path)[1], DirectoryType.BASE)


def timestamp(moment_ns: int) -> str:
    """Return a moment as ISO 8601 in UTC with microseconds.

    A program may set a file's times to any year; beyond 1 to 9999 it is the nearest that is written.
    """
    try:
        moment = _EPOCH + datetime.timedelta(microseconds=moment_ns // 1000)
    except OverflowError:
        moment = _LAST if moment_ns > 0 else _FIRST
    return moment.isoformat()


def text(path: bytes) -> str:
    """Return a path as text, bytes that are no UTF-8 as surrogate escapes."""
    return path.decode("utf-8", "surrogateescape")


def job_manifest(
    job: Job, store: Store, handles: DirectoryHandles, settings: "Settings", retention_hours: float
) -> dict[str, Any]:
    """Return the manifest of *job*; sizes of present files are what stat says now."""
    files: dict[str, list[str]] = {}
    entries: dict[str, dict[str, Any]] = {}
    for removal in store.removals(job.number):
        entries[text(removal.entry.path)] = {
            **_described(removal.entry, store),
            "state": EntryState.REMOVED.value,
            "removed_at": timestamp(removal.removed_ns),
            "removed_by": removal.why,
        }
    # The longest hidden first, so that of several with one path the newest has the plain name.
    for one in store.trash(job.number):
        entries[text(one.name)] = {
            **_described(one.entry, store),
            "state": EntryState.HIDDEN.value,
            "hidden_at": timestamp(one.hidden_ns),
            "hidden_because": one.reason.value,
        }
    for entry in store.entries(job.number):
        described = _described(entry, store)
        try:
            status = syscalls.statx(*_place(handles, join(job.path, entry.path)))
            described["size"] = status.size
            described["modified_at"] = timestamp(status.mtime_ns)
        except (FileNotFoundError, NotADirectoryError):
            pass  # removed beside lffs: the size at the last close is what there is to say
        path = text(entry.path)
        entries[path] = {**described, "state": EntryState.PRESENT.value}
        files.setdefault(described["type"], []).append(path)
    directories: dict[str, list[str]] = {}
    for directory in store.directories(job.path):
        if directory.path != job.path and directory.state is not DirectoryState.HIDDEN:
            below = directory.path[len(job.path) + 1 :]
            type_ = directory.type or directory_type(below)
            directories.setdefault(type_.value, []).append(text(below))
    policy = settings.cleanup
    return {
        "version": MANIFEST_VERSION,
        "job_id": job.id,
        "number": job.number,
        "job_type": job.type.value,
        "status": job.status.value,
        "created_at": timestamp(job.created_ns),
        "updated_at": timestamp(job.updated_ns),
        "adopted": job.adopted,
        "removed_at": None if job.ended_ns is None else timestamp(job.ended_ns),
        "files": files,
        "directories": directories,
        "cleanup_policy": {
            "enabled": policy.enabled,
            "retention_hours": retention_hours,
            "file_types_to_clean": sorted(type_.value for type_ in policy.file_types_to_clean),
            "preserve_on_failure": policy.preserve_on_failure,
            "debug_mode_disables": policy.debug_mode_disables,
        },
        "entries": entries,
    }


def _place(handles: DirectoryHandles, path: bytes) -> tuple[int, bytes]:
    directory, name = split(path)
    return handles.open(directory), name


def _described(entry: Entry, store: Store) -> dict[str, Any]:
    mark = store.mark(entry.identity)
    creator = entry.creator
    return {
        "type": effective_type(entry, mark).value,
        "kind": entry.kind.value,
        "size": entry.size,
        "created_at": timestamp(entry.created_ns),
        "created_by": {"uid": creator.uid, "pid": creator.pid, "command": creator.command},
        "origin": entry.origin.value,
        "keep": mark.keep,
    }


def encode(manifest: dict[str, Any]) -> bytes:
    """Return the JSON text: ASCII, so that no file name can break whoever reads it."""
    return json.dumps(manifest, indent=2).encode("ascii") + b"\n"


def export_path(manifests: Path, job_path: bytes, number: int) -> Path:
    """Return where a job's export lies below the state directory's ``manifests``.

    A name that ``.json`` would make longer than 255 bytes is cut, the job's number behind it.
    """
    parent, name = split(job_path)
    if len(name) + len(_ENDING) > NAME_MAX:
        tail = b"~%d" % number
        name = name[: NAME_MAX - len(_ENDING) - len(tail)] + tail
    return manifests / os.fsdecode(join(parent, name + _ENDING))


def write_export(manifests: Path, job: Job, manifest: dict[str, Any]) -> None:
    """Write the export in one step: a reader sees the old one or the new one, whole."""
    path = export_path(manifests, job.path, job.number)
    for directory in reversed([path.parent, *path.parent.parents]):
        # One by one: mkdir's own parents=True would make them with the daemon's umask, which is 0.
        if directory.is_relative_to(manifests):
            directory.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_name(f".{job.number}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(with_checksum(encode(manifest)))
    draft.replace(path)


def remove_export(manifests: Path, job_path: bytes, number: int) -> None:
    """Remove the export of a job that is not there any more, with the directories it leaves empty."""
    path = export_path(manifests, job_path, number)
    with contextlib.suppress(OSError):  # never written, or the disk's trouble: stale, and no harm
        path.unlink()
        for directory in path.parents:
            if directory == manifests:
                break
            directory.rmdir()
