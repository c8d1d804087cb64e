"""What can be asked of a store, mounted or not: the one place that names the calls.

Admin answers them beside the filesystem, RemoteAdmin from another process through the control
socket; the command line sees no difference.  CALLS is all that the socket lets in: a name that is
no key here is never looked up on anything.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from lffs.work import Answer

JsonObject: TypeAlias = dict[str, Any]


class AdminApi(Protocol):
    """*job* is a job id or a path below the mountpoint, with or without a status suffix.

    All raise LffsError or OSError.  An answer is plain data for JSON, or Work that comes to it.
    """

    def jobs(self, status: str | None, all: bool) -> Answer[list[JsonObject]]:
        """Return a row a job, by id; with *all* also those that are removed.  Keys: interface.md."""
        ...

    def show(self, job: str) -> Answer[JsonObject]:
        """Return all that is known of one job."""
        ...

    def status(self, job: str, status: str | None) -> Answer[str]:
        """Set the status, unless None, and return the one that holds then."""
        ...

    def manifest(self, job: str) -> Answer[JsonObject]:
        """Return the manifest as it is exported."""
        ...

    def verify(self, repair: bool) -> Answer[JsonObject]:
        """Return ok, missing, phantom, corrupt and unowned: the manifests against the disk."""
        ...

    def clean(
        self,
        job: str | None,
        pattern: str | None,
        older_than_s: float | None,
        types: list[str] | None,
        dry_run: bool,
    ) -> Answer[JsonObject]:
        """Delete for good what these name, or only say what that is: dry_run, removed, failed, bytes."""
        ...

    def restore(self, job: str, paths: list[str]) -> Answer[JsonObject]:
        """Bring hidden files back to view: restored and failed."""
        ...

    def explain(self, path: str) -> Answer[JsonObject]:
        """Return what gives the file at *path* its type, and what will happen to it."""
        ...

    def expiring(self, within_s: float) -> Answer[list[JsonObject]]:
        """Return what will be deleted for good within so many seconds."""
        ...

    def start_job(self, job: str, job_type: str) -> Answer[str]:
        """Take a job whose directory is there to running; return its id.

        UnknownJobError where there is no directory, InvalidJobIdError where there can't be a job.
        """
        ...

    def complete_job(self, job: str, success: bool) -> Answer[JsonObject]:
        """Take a job to completed or failed: removed, restored, failed, directories, bytes, errors."""
        ...

    def cleanup_job(self, job: str, preserve_on_failure: bool) -> Answer[JsonObject]:
        """Carry out the policy on a job that ended; answers as complete_job does."""
        ...

    def reap(self) -> Answer[JsonObject]:
        """Delete what is past its retention, on a store that nobody does it for; answers as cleanup_job."""
        ...

    def add_file(self, job: str, path: str, file_type: str) -> Answer[None]:
        """Record a file with this type.

        *path*, here and below, is relative to the job, or begins with a slash at the mountpoint.
        """
        ...

    def add_directory(self, job: str, path: str, dir_type: str) -> Answer[None]:
        """Record a directory and what it is for."""
        ...

    def remove_from_manifest(self, job: str, path: str) -> Answer[bool]:
        """Drop what is recorded of a path, and tell whether anything was."""
        ...

    def export(self, job: str) -> Answer[str]:
        """Write the manifest's export as it is now and return its path."""
        ...

    def config(self) -> Answer[JsonObject]:
        """Return the settings in force, by dotted key."""
        ...

    def health(self) -> Answer[JsonObject]:
        """Return at least pid, version, mountpoint, backing and transport."""
        ...

    def reload(self) -> Answer[None]:
        """Read the configuration again; ConfigError leaves the old one in force."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One call as the socket admits it: arguments by name, every one given, each of its types."""

    parameters: Mapping[str, tuple[type, ...]]
    invoke: Callable[[AdminApi, JsonObject], Answer[Any]]


_TEXT = (str,)
_TEXT_OR_NONE = (str, type(None))

CALLS: Mapping[str, Call] = {
    "jobs": Call(
        {"status": _TEXT_OR_NONE, "all": (bool,)},
        lambda admin, given: admin.jobs(status=given["status"], all=given["all"]),
    ),
    "show": Call({"job": _TEXT}, lambda admin, given: admin.show(given["job"])),
    "status": Call(
        {"job": _TEXT, "status": _TEXT_OR_NONE},
        lambda admin, given: admin.status(given["job"], given["status"]),
    ),
    "manifest": Call({"job": _TEXT}, lambda admin, given: admin.manifest(given["job"])),
    "verify": Call({"repair": (bool,)}, lambda admin, given: admin.verify(given["repair"])),
    "clean": Call(
        {
            "job": _TEXT_OR_NONE,
            "pattern": _TEXT_OR_NONE,
            "older_than_s": (int, float, type(None)),
            "types": (list, type(None)),
            "dry_run": (bool,),
        },
        lambda admin, given: admin.clean(**given),
    ),
    "restore": Call(
        {"job": _TEXT, "paths": (list,)},
        lambda admin, given: admin.restore(given["job"], list(map(str, given["paths"]))),
    ),
    "explain": Call({"path": _TEXT}, lambda admin, given: admin.explain(given["path"])),
    "expiring": Call({"within_s": (int, float)}, lambda admin, given: admin.expiring(given["within_s"])),
    "start_job": Call({"job": _TEXT, "job_type": _TEXT}, lambda admin, given: admin.start_job(**given)),
    "complete_job": Call(
        {"job": _TEXT, "success": (bool,)}, lambda admin, given: admin.complete_job(**given)
    ),
    "cleanup_job": Call(
        {"job": _TEXT, "preserve_on_failure": (bool,)}, lambda admin, given: admin.cleanup_job(**given)
    ),
    "reap": Call({}, lambda admin, given: admin.reap()),
    "add_file": Call(
        {"job": _TEXT, "path": _TEXT, "file_type": _TEXT}, lambda admin, given: admin.add_file(**given)
    ),
    "add_directory": Call(
        {"job": _TEXT, "path": _TEXT, "dir_type": _TEXT}, lambda admin, given: admin.add_directory(**given)
    ),
    "remove_from_manifest": Call(
        {"job": _TEXT, "path": _TEXT}, lambda admin, given: admin.remove_from_manifest(**given)
    ),
    "export": Call({"job": _TEXT}, lambda admin, given: admin.export(given["job"])),
    "config": Call({}, lambda admin, given: admin.config()),
    "health": Call({}, lambda admin, given: admin.health()),
    "reload": Call({}, lambda admin, given: admin.reload()),
}
