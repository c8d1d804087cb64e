"""The trash against a recovered store: every hidden file keeps a row, and none is due earlier.

A store that was restored from a backup does not know what was hidden, brought back and hidden again
since.  Nothing is moved or deleted here.
"""

import dataclasses
import logging
import os
import re
from collections import Counter
from collections.abc import Callable

from lffs import syscalls
from lffs.cleanup.trash import Trash
from lffs.directories import identity_of
from lffs.handles import join, split
from lffs.jobs import Jobs
from lffs.manifest.records import Creator, Entry, HideReason, Job, TrashEntry
from lffs.manifest.scan import kind_of
from lffs.manifest.store import Store
from lffs.model import EntryOrigin, FileType, JobStatus, JobType

log = logging.getLogger(__name__)

_ASIDE = re.compile(rb"\.~\d+~$")
_HIGHEST_NUMBER = 10**18  # beyond it Trash.highest_job sees none, nor could SQLite hold it


class TrashMender:
    """Makes the trash's rows agree with its files."""

    def __init__(self, store: Store, jobs: Jobs, trash: Trash) -> None:
        self._store = store
        self._jobs = jobs
        self._trash = trash

    def settle_rows(self, now_ns: int) -> None:
        """Look at each row of an outdated store: its file may be elsewhere, or hidden anew since.

        Retention counts from now.  A row whose file is not there becomes an entry of its job, from
        which the scan goes on: in its place, renamed, or gone.
        """
        live = {job.number for job in self._jobs.live()}
        for row in self._store.trash():
            entry = row.entry
            name = self._where(row)
            if name is not None:
                hidden_ns = max(row.hidden_ns, now_ns)
                self._store.update_trash(dataclasses.replace(row, name=name, hidden_ns=hidden_ns, held=False))
                continue
            self._store.remove_trash(row.number)
            if entry.job in live and self._store.entry(entry.job, entry.path) is None:
                self._store.add_entry(entry)
        self._store.commit()

    def _where(self, row: TrashEntry) -> bytes | None:
        if self._trash.identity(row.entry.job, row.name) == row.entry.identity:
            return row.name
        return self._trash.find(row.entry.job, row.name, row.entry.identity)

    def give_rows(
        self,
        classify: Callable[[bytes, JobType], FileType],
        retention_hours: Callable[[Job], float],
        default_type: JobType,
        now_ns: int,
    ) -> int:
        """Record what lies in the trash and no row knows; return how many files that are.

        Nobody knows why it was hidden, so it is *rebuilt*: never deleted by itself, and brought back
        as what lffs hid.  ``NAME.~N~`` had the path NAME.
        """
        known = {(row.entry.job, row.name) for row in self._store.trash()}
        jobs = {job.number: job for job in self._store.jobs(ended=True)}
        found: Counter[int] = Counter()
        for number, name, _ in list(self._trash.files()):
            if (number, name) in known or number >= _HIGHEST_NUMBER:
                continue
            if number not in jobs:
                jobs[number] = _unknown_job(number, default_type, now_ns)
                self._store.put_jobs([jobs[number]])
            job = jobs[number]
            directory, base = split(join(self._trash.directory_of(number), name))
            try:
                status = syscalls.statx(self._trash.open(directory), base)
            except (FileNotFoundError, NotADirectoryError):
                continue
            path = _ASIDE.sub(b"", name)
            entry = Entry(
                job=number,
                path=path,
                kind=kind_of(status),
                type=classify(path, job.type),
                size=status.size,
                created_ns=status.birth_ns or now_ns,
                creator=Creator(uid=status.uid, gid=status.gid),
                identity=identity_of(status),
                origin=EntryOrigin.REBUILT,
            )
            # A move changes ctime, on most filesystems: of several with one path the newest is known.
            hidden_ns = min(status.ctime_ns, now_ns)
            self._store.add_trash(entry, name, HideReason.STATUS, hidden_ns, retention_hours(job), False)
            found[number] += 1
        for number, count in found.items():
            log.warning(
                "job %s: %d hidden files that were not recorded are kept in .lffs/trash/%d",
                jobs[number].id, count, number,
            )  # fmt: skip
        self._store.commit()
        return found.total()


def _unknown_job(number: int, type_: JobType, now_ns: int) -> Job:
    """Return a removed job for hidden files of which only the job's number is known.

    No directory of that path is ever a job, so it takes nobody's place.
    """
    return Job(
        number=number,
        path=os.fsencode(f"lost+found/{number}"),
        type=type_,
        status=JobStatus.RUNNING,
        created_ns=now_ns,
        updated_ns=now_ns,
        status_since_ns=now_ns,
        ended_ns=now_ns,
        adopted=True,
    )
