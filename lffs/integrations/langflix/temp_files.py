"""LangFlix's TempFileManager: temporary files and directories that go when their user is done.

The difference from LangFlix's own is where they are made, see TempFileManager.base_dir.  Errors in
cleaning up are logged and never raised.  Not thread safe, as LangFlix's own is not.
"""

import atexit
import contextlib
import functools
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lffs.integrations.langflix.binding import JobBinding
from lffs.integrations.langflix.permissions import make_shared_directory

log = logging.getLogger(__name__)

_JOB_ID = "user.lffs.job_id"  # the attribute that a mount's job directories have


class TempFileManager:
    """Makes temporary files, and deletes what it made and what it was told of."""

    def __init__(
        self,
        prefix: str = "langflix_",
        base_dir: Path | str | None = None,
        *,
        job: JobBinding | None = None,
    ) -> None:
        self.prefix = prefix
        self.temp_files: list[Path] = []
        self.temp_dirs: list[Path] = []
        self.job = job
        self._base_dir = Path(base_dir) if base_dir else None
        self._tmpdir = _tmpdir_in_a_job()
        self._jobs: dict[Path, JobBinding] = {}  # of what was tracked while a job was bound
        atexit.register(self.cleanup_all)

    @property
    def base_dir(self) -> Path:
        """Where files are made: what was asked for; else the bound job's temp directory; else the system's.

        The system's is TMPDIR, which under ``lffs run`` is the job's temp directory too.
        """
        if self._base_dir is not None:
            return self._base_dir
        if self.job is not None:
            return self.job.temp_dir
        return self._tmpdir or Path(tempfile.gettempdir())

    @base_dir.setter
    def base_dir(self, directory: Path | str) -> None:
        self._base_dir = Path(directory)

    @contextlib.contextmanager
    def bound_to(self, job: JobBinding) -> Iterator[None]:
        """Hand out files of *job* meanwhile; then of the job before, if any.

        If the block raises, the job has failed: what is there of its files is then lffs's to keep for
        debugging and to delete some day, and cleanup_all, which runs at exit, no longer knows of it.
        """
        before, self.job = self.job, job
        try:
            yield
        except BaseException:
            for path in [path for path, owner in self._jobs.items() if owner is job]:
                self._untrack(path)
            raise
        finally:
            job.record_waiting()
            self.job = before

    @contextlib.contextmanager
    def create_temp_file(
        self, suffix: str = "", prefix: str | None = None, delete: bool = True
    ) -> Iterator[Path]:
        """Make an empty file for the block.  Without *delete* it stays, and stays tracked."""
        path = self.create_persistent_temp_file(suffix, prefix)
        try:
            yield path
        finally:
            if delete:  # what can't be deleted stays tracked, for cleanup_all to try again
                self.cleanup_temp_file(path)

    @contextlib.contextmanager
    def create_temp_dir(self, prefix: str | None = None) -> Iterator[Path]:
        """Make a directory for the block; it goes with all that is in it."""
        path = Path(tempfile.mkdtemp(prefix=prefix or self.prefix, dir=self._directory()))
        self.temp_dirs.append(path)
        try:
            yield path
        finally:
            if _rmtree(path) and path in self.temp_dirs:
                self.temp_dirs.remove(path)

    def create_persistent_temp_file(self, suffix: str = "", prefix: str | None = None) -> Path:
        """Make an empty file that stays until cleanup_temp_file or cleanup_all."""
        handle, name = tempfile.mkstemp(suffix, prefix or self.prefix, self._directory())
        os.close(handle)
        path = Path(name)
        self._track(path)
        return path

    def register_file(self, file_path: Path | str) -> None:
        """Track a file that somebody else makes, or will make."""
        path = Path(file_path)
        if path not in self.temp_files:
            self._track(path)

    def cleanup_temp_file(self, file_path: Path | str) -> bool:
        """Delete the file, registered or not, and return whether it is gone; False: see the log."""
        path = Path(file_path)
        if not _unlink(path):
            return False
        job = self._untrack(path) or self.job
        if job is not None:
            job.forget(path)
        return True

    def cleanup_all(self) -> None:
        """Delete all files and directories that are tracked, and track none of them any longer."""
        for path in list(self.temp_files):
            self.cleanup_temp_file(path)
        for directory in self.temp_dirs:
            _rmtree(directory)
        self.temp_files.clear()
        self.temp_dirs.clear()
        self._jobs.clear()

    def _directory(self) -> Path:
        """Return base_dir.  A job's is made: when a job completes, its empty directories vanish."""
        is_a_jobs = self._base_dir is None and (self.job is not None or self._tmpdir is not None)
        return make_shared_directory(self.base_dir) if is_a_jobs else self.base_dir

    def _track(self, path: Path) -> None:
        self.temp_files.append(path)
        if self.job is not None:
            self._jobs[path] = self.job
            self.job.record(path)

    def _untrack(self, path: Path) -> JobBinding | None:
        """Return the job that was bound when *path* was tracked."""
        if path in self.temp_files:
            self.temp_files.remove(path)
        return self._jobs.pop(path, None)


@functools.cache
def get_temp_manager() -> TempFileManager:
    """Return the one manager of this process."""
    return TempFileManager()


def _tmpdir_in_a_job() -> Path | None:
    """Return TMPDIR if it lies in a job of a mounted lffs, as under ``lffs run``; else None.

    tempfile.gettempdir() is not asked about it: it turns to /tmp if the directory is not there just then,
    and tries it out with a file, which the mount would record.
    """
    value = os.environ.get("TMPDIR")
    if not value:
        return None
    tmpdir = Path(os.path.abspath(value))
    return tmpdir if any(_is_job(directory) for directory in tmpdir.parents) else None


def _is_job(directory: Path) -> bool:
    try:
        os.getxattr(directory, _JOB_ID)
    except OSError:
        return False
    return True


def _unlink(path: Path) -> bool:
    """Return whether *path* is gone."""
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        pass  # nor is it there if a directory of its path is none
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the name
        log.warning("cannot delete temporary file %s: %s", path, exc)
        return False
    return True


def _rmtree(directory: Path) -> bool:
    """Return whether *directory* is gone."""
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        pass
    except OSError as exc:
        log.warning("cannot delete temporary directory %s: %s", directory, exc)
        return False
    return True
