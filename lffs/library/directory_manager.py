"""DirectoryManager: which directories a job needs, where they are, and making them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lffs.control.api import AdminApi
from lffs.library.records import DirectoryStructure, JobContext, check_job_id
from lffs.library.session import Store, opener
from lffs.model import DIRECTORY_NAMES, NEEDED_DIRECTORIES, DirectoryType, JobType
from lffs.work import Answer

if TYPE_CHECKING:
    from lffs.config import Settings


class DirectoryManager:
    """Gives each type of job the directories that it needs, and no other (1.1, 1.2)."""

    def __init__(self, store: Store) -> None:
        self._open = opener(store)

    def should_create_directory(self, dir_type: DirectoryType | str, job_type: JobType | str) -> bool:
        """Tell whether jobs of that type need such a directory."""
        wanted, type_ = DirectoryType(dir_type), JobType(job_type)
        if wanted is DirectoryType.BASE:
            return True
        with self._open() as session:
            return wanted in needed_directories(type_, session.settings())

    def get_simplified_structure(self, job_type: JobType | str) -> DirectoryStructure:
        """Return the directories of such jobs, relative to the job's own."""
        type_ = JobType(job_type)
        with self._open() as session:
            return job_structure(Path(), type_, session.settings())

    def create_job_directories(self, job_context: JobContext) -> DirectoryStructure:
        """Make the directories that the job needs, and return where they are.

        In a mount they are lazy: nothing appears in the backing store before a file is made in one.
        Those that exist stay as they are.  Raises UnknownJobError for a job that was never started.
        """
        check_job_id(job_context.job_id)
        job_id, job_type = job_context.job_id, job_context.job_type
        with self._open() as session:
            session.ask(lambda admin: admin.status(job_id, None))
            settings = session.settings()
            for type_, path in needed_directories(job_type, settings).items():
                session.make_directory(f"{job_id}/{path}")
                session.ask(_adding(job_id, path, type_))
            return job_structure(session.path_of(job_id), job_type, settings)


def _adding(job_id: str, path: str, type_: DirectoryType) -> Callable[[AdminApi], Answer[None]]:
    return lambda admin: admin.add_directory(job_id, path, type_)


def needed_directories(job_type: JobType, settings: "Settings") -> Mapping[DirectoryType, str]:
    """Return what a job of that type needs below its own directory: type → path.

    The configuration's directories.types, where it names the job type; else the built-in table.
    """
    declared = settings.directories.types.get(job_type)
    if declared is None:
        needed = NEEDED_DIRECTORIES[job_type]
        return {type_: name for type_, name in DIRECTORY_NAMES.items() if type_ in needed}
    return {type_: path for type_, path in declared.items() if type_ is not DirectoryType.BASE}


def job_structure(base: Path, job_type: JobType, settings: "Settings") -> DirectoryStructure:
    """Return the directories of a job whose own directory is *base*."""
    needed = needed_directories(job_type, settings)
    # Subtitles have no field.
    fields = {f"{type_}_dir": base / path for type_, path in needed.items() if type_ != "subtitles"}
    return DirectoryStructure(base_dir=base, **fields)
