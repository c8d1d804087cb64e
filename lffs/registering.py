"""What a program says of its job to a store: this file is mine, this directory is for that, it is gone.

A mount needs nobody to say so; a store that is not mounted is told.  What is said counts as if lffs
had seen it being made.  Paths are looked up by descriptor, name by name, and lead through no link.
"""

import contextlib
import dataclasses
import errno
import os

from lffs import syscalls
from lffs.backing import Backing
from lffs.control.explaining import in_job
from lffs.directories import identity_of
from lffs.errors import InvalidJobIdError, InvalidPathError, UnknownJobError
from lffs.handles import join, split
from lffs.manifest.export import text
from lffs.manifest.records import Creator, DirectoryState, Entry, Job
from lffs.manifest.scan import Reconciler, job_on_disk, kind_of
from lffs.model import DirectoryType, EntryOrigin, FileType, JobStatus
from lffs.syscalls import Stat


def find_to_start(backing: Backing, job_id: str) -> Job:
    """Return the job that is to be started, by any of its names.

    Raises InvalidJobIdError for what jobs.roots does not match and UnknownJobError where there is
    no directory yet.  One whose directory was removed beside lffs, or made anew, ends here.
    """
    try:
        job = backing.jobs.find(job_id)
    except UnknownJobError:
        path = job_id.encode("utf-8", "surrogateescape")
        if not backing.jobs.roots.is_job(path):
            roots = ", ".join(backing.settings.jobs.roots)
            raise InvalidJobIdError(f"{job_id!r} matches none of jobs.roots: {roots}") from None
        raise
    if _is_at_its_place(backing, job):
        return job
    backing.jobs.end(job, backing.clock.wall_ns())
    backing.directories.drop_below(job.path)
    backing.store.commit()
    raise UnknownJobError(f"the directory of job {job.id} is gone")


def _is_at_its_place(backing: Backing, job: Job) -> bool:
    if backing.directories.lazy(job.path) is not None:
        return True
    found = backing.status_of(job.path)
    return found is not None and found.is_directory and job.identity in (None, identity_of(found))


def make_directory(backing: Backing, path: bytes) -> None:
    """Make the directory at *path* below BACKING for real, with what is missing above it.

    For a store that is not mounted: what was lazy in the mount becomes real too.  Raises
    FileExistsError where anything else has the name.
    """
    made = b""
    for name in path.split(b"/"):
        parent, made = made, join(made, name)
        if backing.directories.lazy(made) is not None:
            backing.directories.materialise(made)
        else:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o777, dir_fd=backing.handles.open(parent))
        status = syscalls.statx(backing.handles.open(parent), name)
        if not status.is_directory:
            raise FileExistsError(errno.EEXIST, "it is there, and no directory", text(made))
        _take_in(backing, made, status)
    backing.store.commit()


def _take_in(backing: Backing, path: bytes, status: Stat) -> None:
    """Record a directory; a job's that was not one yet is adopted with all that it holds."""
    job = backing.jobs.of(path)
    if job is not None and job.path != path:
        backing.directories.record_real(path, status)
    elif job is not None and job.identity is None:
        job.identity = identity_of(status)
        backing.jobs.update(job, backing.clock.wall_ns())
    elif job is None and backing.jobs.roots.is_job(path):
        reconciler = Reconciler(
            backing.store, backing.jobs, backing.directories, backing.classifier, rebuilt=False
        )
        reconciler.reconcile_job(job_on_disk(backing.handles, path, status), backing.clock.wall_ns())


def path_in_job(backing: Backing, job: Job, path: str) -> bytes:
    """Return *path* relative to the job: it is that already, or begins with ``/`` at the mountpoint.

    Raises InvalidPathError for one that lies elsewhere, and for an empty, ``.`` or ``..`` component.
    """
    whole = path.encode("utf-8", "surrogateescape")
    components = whole.removeprefix(b"/").split(b"/")
    if b"\0" in whole or {b"", b".", b".."} & set(components):
        raise InvalidPathError(f"{path!r} is no path in job {job.id}: it is empty, or contains . or ..")
    if not whole.startswith(b"/"):
        return whole
    try:
        found, below = in_job(backing, whole[1:])
    except InvalidJobIdError:
        raise InvalidPathError(f"{path[1:]} does not lie in job {job.id}") from None
    if found is not job:
        raise InvalidPathError(f"{path[1:]} lies in job {found.id}, not in {job.id}")
    return below


def record_file(backing: Backing, job: Job, path: str, type_: FileType) -> None:
    """Record a file of the job, with the type that its maker gives it: that overrides the rules.

    One that was adopted or rebuilt is the job's own from now on.  Raises FileNotFoundError and
    IsADirectoryError.
    """
    below = path_in_job(backing, job, path)
    status = _require(backing, job, below)
    if status.is_directory:
        raise IsADirectoryError(errno.EISDIR, "a directory, no file", text(below))
    identity = identity_of(status)
    known = backing.store.entry(job.number, below)
    if known is not None and known.identity != identity:
        known = None
    _record_parents(backing, job, below)
    backing.store.add_entry(
        Entry(
            job=job.number,
            path=below,
            kind=kind_of(status),
            type=backing.classifier.classify(below, job.type),
            size=status.size,
            created_ns=known.created_ns if known else backing.clock.wall_ns(),
            creator=known.creator if known else Creator(uid=status.uid, gid=status.gid),
            identity=identity,
            origin=EntryOrigin.RECORDED,
        )
    )
    mark = backing.store.mark(identity)
    backing.store.set_mark(identity, dataclasses.replace(mark, type=type_))
    if job.status is JobStatus.CREATED:
        backing.jobs.set_status(job, JobStatus.RUNNING, backing.clock.wall_ns())
    backing.store.commit()
    backing.export_changed()


def record_directory(backing: Backing, job: Job, path: str, type_: DirectoryType) -> None:
    """Record a directory of the job and what it is for.

    Raises FileNotFoundError and NotADirectoryError.
    """
    below = path_in_job(backing, job, path)
    status = _require(backing, job, below)
    if not status.is_directory:
        raise NotADirectoryError(errno.ENOTDIR, "a file, no directory", text(below))
    _record_parents(backing, job, below)
    backing.directories.set_type(join(job.path, below), status, type_)
    backing.store.commit()


def _require(backing: Backing, job: Job, below: bytes) -> Stat:
    status = backing.status_of(join(job.path, below))
    if status is None:
        raise FileNotFoundError(errno.ENOENT, f"there is no such path in job {job.id}", text(below))
    return status


def _record_parents(backing: Backing, job: Job, below: bytes) -> None:
    directory = split(below)[0]
    while directory:
        whole = join(job.path, directory)
        status = backing.status_of(whole)
        if status is not None and backing.directories.lazy(whole) is None:
            backing.directories.record_real(whole, status)
        directory = split(directory)[0]


def forget(backing: Backing, job: Job, path: str, *, adopts: bool) -> bool:
    """Drop a file from the job's manifest and leave it where it is; tell whether it was recorded.

    With *adopts* one that is there stays recorded as an adopted one, which no cleanup takes by itself.
    A directory that is gone is dropped with all that was below it.  Raises InvalidPathError for one
    that is still there: the manifest lists it for as long as it is.
    """
    below = path_in_job(backing, job, path)
    whole = join(job.path, below)
    status = backing.status_of(whole)
    entry = backing.store.entry(job.number, below)
    if entry is not None:
        gone = [entry]
    elif status is None:
        gone = backing.store.entries(job.number, below)
    elif status.is_directory:
        raise InvalidPathError(f"{text(below)} is a directory that is there: remove it, then its record")
    else:
        return False
    for one in gone:
        backing.store.remove_entry(job.number, one.path)
    for one in gone:
        _forget_type(backing, one)
    if adopts and entry is not None and status is not None and identity_of(status) == entry.identity:
        backing.store.add_entry(dataclasses.replace(entry, origin=EntryOrigin.ADOPTED))
    directories = [
        known for known in backing.store.directories(whole) if known.state is not DirectoryState.HIDDEN
    ]
    if directories and status is None:
        backing.directories.drop_below(whole)
    backing.store.commit()
    return bool(gone or directories)


def _forget_type(backing: Backing, entry: Entry) -> None:
    """What its maker said of the file goes with its last record; that it is pinned stays."""
    mark = backing.store.mark(entry.identity)
    if mark.type is not None and not backing.store.is_recorded(entry.identity):
        backing.store.set_mark(entry.identity, dataclasses.replace(mark, type=None))
