"""What people said, and where each job stands: a small file beside the backups.

A backup is up to an hour old, and what it lacks a scan can't find again: a status, a pin, a job's
retention, under which number its hidden files lie.  So all of that is written anew, whole, each time
that some of it changed: 1 ms for 100 jobs.  With a backup and this file a lost store is what it was,
but for files and lazy directories made since, and the files are on the disk.

The file is JSON with a checksum in front of the text that it is of.  A kill leaves the old file or
the new one; it is not fsynced, so power loss may leave neither.
"""

import contextlib
import json
import logging
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lffs.manifest.records import Job, Mark
from lffs.manifest.store import Store
from lffs.model import FileIdentity, FileType, JobStatus, JobType

log = logging.getLogger(__name__)

SAID_NAME = "said.json"
_VERSION = 1
_HEAD = b'{"crc32": "%08x", "said": '
_HEAD_LENGTH = len(_HEAD % 0)
_TAIL = b"}\n"


@dataclass(frozen=True, slots=True)
class Said:
    """What the file holds."""

    sequence: int  # the store's when it was written: an older store lost something since
    last_number: int  # the highest that a job had
    jobs: tuple[Job, ...]  # ended ones too
    marks: dict[FileIdentity, Mark]
    pins: frozenset[bytes]  # directories with user.lffs.keep = 1, below BACKING


def what_is_said(store: Store, pins: frozenset[bytes], sequence: int) -> Said:
    """Return what the store has of it now."""
    return Said(sequence, store.last_number(), tuple(store.jobs(ended=True)), store.marks(), pins)


def write_said(directory: Path, said: Said) -> None:
    """Write the file in one step.  Where that fails there is none afterwards: an old one would lie."""
    path = directory / SAID_NAME
    text = json.dumps(_to_json(said)).encode("ascii")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        draft = path.with_name(f"{SAID_NAME}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
            file.write(_HEAD % zlib.crc32(text) + text + _TAIL)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def read_said(directory: Path) -> Said | None:
    """Return what the file says, or None: there is none, or it is damaged (which is logged)."""
    path = directory / SAID_NAME
    try:
        return _decoded(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
        log.warning("%s can't be used: %s", path, exc)
        return None


def _decoded(content: bytes) -> Said:
    text = content[_HEAD_LENGTH : -len(_TAIL)]
    if content != _HEAD % zlib.crc32(text) + text + _TAIL:
        raise ValueError("its checksum is wrong")
    data = json.loads(text)
    if data["version"] != _VERSION:
        raise ValueError(f"it has version {data['version']}, this lffs knows {_VERSION}")
    return Said(
        sequence=data["sequence"],
        last_number=data["last_number"],
        jobs=tuple(map(_job, data["jobs"])),
        marks={
            FileIdentity(inode, birth_ns): Mark(keep, FileType(type_) if type_ else None)
            for inode, birth_ns, keep, type_ in data["marks"]
        },
        pins=frozenset(map(os.fsencode, data["pins"])),
    )


def _to_json(said: Said) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "sequence": said.sequence,
        "last_number": said.last_number,
        "jobs": [
            {
                "number": job.number,
                "path": os.fsdecode(job.path),
                "type": job.type,
                "type_set": job.type_set,
                "status": job.status,
                "created_ns": job.created_ns,
                "updated_ns": job.updated_ns,
                "status_since_ns": job.status_since_ns,
                "identity": job.identity and [job.identity.inode, job.identity.birth_ns],
                "ended_ns": job.ended_ns,
                "retention_hours": job.retention_hours,
                "debug": job.debug,
                "adopted": job.adopted,
            }
            for job in said.jobs
        ],
        "marks": [
            [identity.inode, identity.birth_ns, mark.keep, mark.type] for identity, mark in said.marks.items()
        ],
        "pins": sorted(map(os.fsdecode, said.pins)),
    }


def _job(data: dict[str, Any]) -> Job:
    identity = data["identity"]
    return Job(
        **data
        | {
            "path": os.fsencode(data["path"]),
            "type": JobType(data["type"]),
            "status": JobStatus(data["status"]),
            "identity": FileIdentity(*identity) if identity else None,
        }
    )
