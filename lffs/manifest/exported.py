"""Exports read back: whether they are whole, and what they say of their jobs when all else is lost.

An export ends with a checksum of the text before it, so that it can be told without parsing it (300 MB
for a million entries) that nothing in it was changed or cut off.
"""

import contextlib
import datetime
import json
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lffs.model import JobStatus, JobType

_TAIL = b',\n  "crc32": "%08x"\n}\n'
_TAIL_LENGTH = len(_TAIL % 0)
_STATUS = re.compile(rb'^  "status": "(\w+)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ExportedJob:
    """What the rebuilding of a lost store takes from an export."""

    number: int
    path: bytes
    type: JobType
    status: JobStatus
    created_ns: int
    updated_at: str


def with_checksum(text: bytes) -> bytes:
    """Return the JSON text of an object with its checksum as the last key."""
    body = text.removesuffix(b"\n}\n")
    return body + _TAIL % zlib.crc32(body)


def is_whole(text: bytes) -> bool:
    """Tell whether an export is as it was written."""
    body = text[:-_TAIL_LENGTH]
    return text == body + _TAIL % zlib.crc32(body)


def says(path: Path, status: JobStatus) -> bool:
    """Tell whether the export at *path* is there, whole, and gives this status."""
    try:
        text = path.read_bytes()
    except OSError:
        return False
    found = _STATUS.search(text)
    return is_whole(text) and found is not None and found[1] == status.value.encode()


def exported_jobs(manifests: Path) -> Iterator[ExportedJob]:
    """Yield what the whole exports below *manifests* say of their jobs."""
    for path in sorted(manifests.rglob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            text = path.read_bytes()
            if is_whole(text):
                yield _exported_job(text)


def _exported_job(text: bytes) -> ExportedJob:
    data = json.loads(text)
    return ExportedJob(
        number=int(data["number"]),
        path=os.fsencode(data["job_id"]),
        type=JobType(data["job_type"]),
        status=JobStatus(data["status"]),
        created_ns=round(datetime.datetime.fromisoformat(data["created_at"]).timestamp() * 1e9),
        updated_at=data["updated_at"],
    )
