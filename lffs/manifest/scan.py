"""The store against the disk: what a kill lost is found again, what appeared beside lffs is adopted.

`walk_jobs` reads the disk and nothing else, so it can run in a thread; `reconcile` and `compare`
take what it found and mend the store, or only say what differs.
"""

import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from lffs import syscalls
from lffs.classify import Classifier
from lffs.directories import Directories, identity_of
from lffs.handles import DirectoryHandles, join
from lffs.jobs import STATE_DIRECTORY, JobRoots, Jobs
from lffs.manifest.records import UNKNOWN_CREATOR, Creator, DirectoryState, Entry, Job
from lffs.manifest.store import Store
from lffs.model import EntryKind, EntryOrigin, FileIdentity, JobStatus
from lffs.progress import Progress, report_progress
from lffs.syscalls import Stat

log = logging.getLogger(__name__)

_KINDS = {
    stat.S_IFREG: EntryKind.FILE,
    stat.S_IFLNK: EntryKind.SYMLINK,
    stat.S_IFIFO: EntryKind.FIFO,
    stat.S_IFSOCK: EntryKind.SOCKET,
    stat.S_IFCHR: EntryKind.DEVICE,
    stat.S_IFBLK: EntryKind.DEVICE,
}


def kind_of(status: Stat) -> EntryKind:
    """Return what kind of non-directory *status* is of."""
    return _KINDS[stat.S_IFMT(status.mode)]


@dataclass(slots=True)
class JobOnDisk:
    """One job's directory as the disk has it; paths below the job."""

    path: bytes  # below BACKING
    status: Stat
    files: dict[bytes, Stat] = field(default_factory=dict)
    directories: dict[bytes, Stat] = field(default_factory=dict)


def walk_jobs(handles: DirectoryHandles, roots: JobRoots) -> list[JobOnDisk]:
    """Return every job directory on disk with all that is below it.

    Costs one statx a file.  What vanishes meanwhile is left out.
    """
    found: list[JobOnDisk] = []
    seen = 0
    for path, status in _walk(handles, b"", lambda path: path != STATE_DIRECTORY):
        seen += 1
        if seen % 10_000 == 0:
            report_progress(Progress("files checked", seen))
        job_path = roots.job_path(path)
        if job_path is None:
            continue
        if job_path == path:
            if status.is_directory:
                found.append(JobOnDisk(path, status))
            continue
        job = found[-1]  # depth first, so what is below a job follows it
        below = path[len(job.path) + 1 :]
        (job.directories if status.is_directory else job.files)[below] = status
    return found


def _walk(
    handles: DirectoryHandles, top: bytes, wanted: Callable[[bytes], bool]
) -> Iterator[tuple[bytes, Stat]]:
    """Yield (path, stat) of all that is below *top*: a directory, its files, then what is deeper."""
    pending: list[tuple[bytes, Stat | None]] = [(top, None)]
    while pending:
        directory, status = pending.pop()
        if status is not None:
            yield directory, status
        try:
            names = sorted(
                os.fsencode(entry.name) for entry in syscalls.list_directory(handles.open(directory))
            )
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as exc:
            # Not root, and somebody else's directory: what is in it can't be known, the rest can.
            log.warning("cannot look into %s: %s", os.fsdecode(directory) or "/", exc.strerror)
            continue
        below: list[tuple[bytes, Stat | None]] = []
        for name in names:
            path = join(directory, name)
            if not wanted(path):
                continue
            try:
                status = syscalls.statx(handles.open(directory), name)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if status.is_directory:
                below.append((path, status))
            else:
                yield path, status
        pending.extend(reversed(below))


def job_on_disk(handles: DirectoryHandles, path: bytes, status: Stat) -> JobOnDisk:
    """Return the job's directory at *path*, which *status* is of, with all that is below it."""
    found = JobOnDisk(path, status)
    for below, one in walk_below(handles, path):
        (found.directories if one.is_directory else found.files)[below] = one
    return found


def walk_below(handles: DirectoryHandles, top: bytes) -> Iterator[tuple[bytes, Stat]]:
    """Yield (path below *top*, stat) of all that is in the directory *top*."""
    for path, status in _walk(handles, top, lambda path: True):
        yield path[len(top) + 1 :] if top else path, status


@dataclass(slots=True)
class Differences:
    """What `compare` found; paths below BACKING."""

    missing: list[bytes] = field(default_factory=list)  # on disk, unrecorded
    phantom: list[bytes] = field(default_factory=list)  # recorded, not on disk
    corrupt: list[str] = field(default_factory=list)
    unowned: list[bytes] = field(default_factory=list)  # in the trash, in no job's record

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.phantom or self.corrupt or self.unowned)


def compare(store: Store, jobs: Jobs, handles: DirectoryHandles, disk: list[JobOnDisk]) -> Differences:
    """Say how the records differ from the disk, changing nothing.

    *disk* may be older than the records (a thread walked it while the mount worked), so each
    difference is looked at again before it counts.
    """
    result = Differences()
    by_path = {found.path: found for found in disk}
    for found in disk:
        job = jobs.at(found.path)
        if job is None:
            if _stat(handles, found.path) is not None:
                result.missing.append(found.path)
            continue
        recorded = {entry.path for entry in store.entries(job.number)}
        for path in found.files:
            whole = join(found.path, path)
            if path not in recorded and _is_file(_stat(handles, whole)):
                result.missing.append(whole)
        known = {one.path for one in store.directories(found.path)}
        for path in found.directories:
            whole = join(found.path, path)
            if whole not in known and _is_directory(_stat(handles, whole)):
                result.missing.append(whole)
    for job in jobs.live():
        on_disk = by_path.get(job.path)
        for entry in store.entries(job.number):
            whole = join(job.path, entry.path)
            seen = on_disk.files.get(entry.path) if on_disk else None
            if seen is None or identity_of(seen) != entry.identity:
                now = _stat(handles, whole)
                if not _is_file(now):
                    result.phantom.append(whole)
                elif now is not None and identity_of(now) != entry.identity:
                    result.corrupt.append(f"{os.fsdecode(whole)}: another file than the recorded one")
        for one in store.directories(job.path):
            if one.state is DirectoryState.REAL and not _is_directory(_stat(handles, one.path)):
                result.phantom.append(one.path)
    return result


def _stat(handles: DirectoryHandles, path: bytes) -> Stat | None:
    directory, _, name = path.rpartition(b"/")
    try:
        return syscalls.statx(handles.open(directory), name)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_file(status: Stat | None) -> bool:
    return status is not None and not status.is_directory


def _is_directory(status: Stat | None) -> bool:
    return status is not None and status.is_directory


class Reconciler:
    """Makes the records agree with the disk, keeping all that they know."""

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        directories: Directories,
        classifier: Classifier,
        *,
        rebuilt: bool,
        beside: bool = False,
    ) -> None:
        """Say where unrecorded files come from: by default, what a kill lost of an active job.

        *rebuilt*: the store was lost, what is found was never seen being made.  *beside*: nothing
        was lost, so what is found appeared beside lffs.
        """
        self._loses_records = not (rebuilt or beside)
        self._store = store
        self._jobs = jobs
        self._directories = directories
        self._classifier = classifier
        self._unknown_origin = EntryOrigin.REBUILT if rebuilt else EntryOrigin.ADOPTED

    def reconcile(self, disk: Iterable[JobOnDisk], now_ns: int) -> int:
        """Mend the store; return how many records were added, changed or dropped."""
        found = {job.path: job for job in disk}
        self._follow_moved_jobs(found, now_ns)
        changed = self._directories.meet_disk()
        for on_disk in found.values():
            changed += self.reconcile_job(on_disk, now_ns)
        for job in self._jobs.live():
            if job.path not in found and self._directories.lazy(job.path) is None:
                self._jobs.end(job, now_ns)
                self._directories.drop_below(job.path)
                changed += 1
        self._store.commit()
        return changed

    def reconcile_job(self, on_disk: JobOnDisk, now_ns: int) -> int:
        """Mend the records of one job; begin it if it is none yet."""
        changed = 0
        job = self._jobs.at(on_disk.path)
        if job is None:
            identity = identity_of(on_disk.status)
            job = self._jobs.begin(on_disk.path, now_ns, identity, adopted=bool(on_disk.files))
            changed += 1
        if self._directories.lazy(on_disk.path) is not None:
            self._directories.found_real(on_disk.path, on_disk.status)
        changed += self._directories_of(on_disk)
        return changed + self._entries_of(job, on_disk, now_ns)

    def _follow_moved_jobs(self, found: dict[bytes, JobOnDisk], now_ns: int) -> None:
        """A job's directory that was renamed just before a kill takes its record along."""
        gone = {
            job.identity: job
            for job in self._jobs.live()
            if job.path not in found and job.identity is not None
        }
        for path, on_disk in found.items():
            job = gone.pop(identity_of(on_disk.status), None)
            if job is not None and self._jobs.at(path) is None:
                self._directories.move(job.path, path)
                self._jobs.move(job, path, now_ns)

    def _directories_of(self, on_disk: JobOnDisk) -> int:
        changed = 0
        for path, status in on_disk.directories.items():
            whole = join(on_disk.path, path)
            known = self._store.directory(whole)
            if known is None or known.identity != identity_of(status):
                self._directories.record_real(whole, status)
                changed += 1
        for known in self._store.directories(on_disk.path):
            below = known.path[len(on_disk.path) + 1 :]
            if known.state is DirectoryState.REAL and below and below not in on_disk.directories:
                self._directories.remove(known.path)
                changed += 1
        return changed

    def _entries_of(self, job: Job, on_disk: JobOnDisk, now_ns: int) -> int:
        recorded = {entry.path: entry for entry in self._store.entries(job.number)}
        gone: dict[FileIdentity, Entry] = {
            entry.identity: entry for path, entry in recorded.items() if path not in on_disk.files
        }
        is_its_own = self._loses_records and is_active(job)
        origin = EntryOrigin.RECORDED if is_its_own else self._unknown_origin
        changed = 0
        for path, status in on_disk.files.items():
            known = recorded.get(path)
            if known is not None and known.identity == identity_of(status):
                continue
            renamed = gone.get(identity_of(status))
            self._store.add_entry(
                Entry(
                    job=job.number,
                    path=path,
                    kind=kind_of(status),
                    type=self._classifier.classify(path, job.type),
                    size=status.size,
                    created_ns=renamed.created_ns if renamed else status.birth_ns or now_ns,
                    creator=renamed.creator if renamed else _owner(status),
                    identity=identity_of(status),
                    origin=renamed.origin if renamed else origin,
                )
            )
            changed += 1
        # By name, not by *gone*: hard links share an identity.
        for path in recorded.keys() - on_disk.files.keys():
            self._store.remove_entry(job.number, path)
            changed += 1
        if job.status is JobStatus.CREATED and not job.adopted and on_disk.files:
            self._jobs.set_status(job, JobStatus.RUNNING, now_ns)
        return changed


def is_active(job: Job) -> bool:
    """Tell whether what is found in the job unrecorded is its own: a kill or a full disk lost it."""
    return job.status is JobStatus.RUNNING or (job.status is JobStatus.CREATED and not job.adopted)


def _owner(status: Stat) -> Creator:
    return Creator(uid=status.uid, gid=status.gid) if status.uid or status.gid else UNKNOWN_CREATOR
