"""Which job LangFlix's temporary files belong to, and who is told of them.

Through a mount nobody need be told: the filesystem records what is made below the job.  On a backing
store that isn't mounted a tracker is, with the type that LangFlix's profile gives to the name, so that
both ways lead to the same manifest.  Nothing here makes or deletes a file, and no failure to record one
reaches the pipeline: a video is worth more than its entry.
"""

import functools
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lffs.library.records import JobContext, check_job_id
from lffs.model import FileType, JobType

if TYPE_CHECKING:
    from lffs.classify import Classifier

log = logging.getLogger(__name__)

TEMP_DIRECTORY = "temp"  # below the job, as `lffs run` and the profile's last rule have it


class Tracker(Protocol):
    """The part of lffs's ManifestTracker that is needed here."""

    def add_file(self, job_id: str, path: Path, file_type: FileType, /) -> object:
        """Record *path*, which is relative to the job's directory; the file exists."""

    def remove_from_manifest(self, job_id: str, path: Path, /) -> object:
        """Drop *path*, whose file is gone.  LookupError means that it was not recorded."""


class JobBinding:
    """A job, as those need it who hand out its temporary files."""

    def __init__(
        self,
        job_id: str,
        directory: Path | str,
        temp_dir: Path | str | None = None,
        *,
        job_type: JobType = JobType.SHORT_FORM,
        tracker: Tracker | None = None,
    ) -> None:
        """*directory* is the job's, in a mount or a backing store; *temp_dir* lies in it (default: temp/).

        *tracker* is for a store that isn't mounted.  Raises ValueError for an id that can't be, and for
        a *temp_dir* that lies elsewhere: what is written there no manifest could name.
        """
        check_job_id(job_id)
        self.job_id = job_id
        # LangFlix's own default is relative ("output"), and what is handed out outlives a chdir.
        self.directory = _absolute(directory)
        self.temp_dir = self.directory / TEMP_DIRECTORY if temp_dir is None else _absolute(temp_dir)
        if self.directory not in self.temp_dir.parents:
            raise ValueError(f"{self.temp_dir} is not below {self.directory}")
        self.job_type = job_type
        self.tracker = tracker
        self._waiting: list[Path] = []  # registered before ffmpeg has made them

    @classmethod
    def of_episode(
        cls,
        episode_dir: Path | str,
        *,
        job_type: JobType = JobType.SHORT_FORM,
        tracker: Tracker | None = None,
    ) -> "JobBinding":
        """Return the job whose directory is *episode_dir*: OUT/SERIES/EPISODE is job SERIES/EPISODE."""
        directory = _absolute(episode_dir)
        return cls("/".join(directory.parts[-2:]), directory, job_type=job_type, tracker=tracker)

    @classmethod
    def of_context(cls, context: JobContext, tracker: Tracker | None = None) -> "JobBinding":
        """Return the job that lffs's JobManager has started."""
        directories = context.directories
        return cls(
            context.job_id,
            directories.base_dir,
            directories.temp_dir,
            job_type=context.job_type,
            tracker=tracker,
        )

    def temp_dir_of(self, output_dir: Path) -> Path:
        """Return where the temporary files go that LangFlix would write in *output_dir*.

        One directory a language, since the names of two languages are the same; and not the whole path
        again: in a second shorts/ a temporary file would look like a result.
        """
        relative = self.path_below(output_dir)
        return self.temp_dir / relative.parts[0] if relative is not None else self.temp_dir

    def path_below(self, path: Path) -> Path | None:
        """Return *path* relative to the job's directory; None if it does not lie below."""
        absolute = _absolute(path)
        return absolute.relative_to(self.directory) if self.directory in absolute.parents else None

    def record(self, path: Path) -> None:
        """Tell the tracker of *path*, or if there is no such file yet, as soon as there is.

        "As soon" is the next call here.  What lies outside of the job is left out.
        """
        if self.tracker is not None and self.path_below(path) is not None:
            if path not in self._waiting:
                self._waiting.append(path)
            self.record_waiting()

    def record_waiting(self) -> None:
        """Tell the tracker of what was registered before it existed, and exists now."""
        waiting, self._waiting = self._waiting, []
        for path in waiting:
            if os.path.lexists(path):
                self._add(path)
            else:
                self._waiting.append(path)

    def forget(self, path: Path) -> None:
        """Tell the tracker that *path* is gone."""
        if path in self._waiting:
            self._waiting.remove(path)
            return
        relative = self.path_below(path)
        if self.tracker is None or relative is None:
            return
        try:
            self.tracker.remove_from_manifest(self.job_id, relative)
        except LookupError:
            pass  # the job's cleanup came first
        except Exception as exc:  # whatever a tracker may raise, see the module's docstring
            log.warning("cannot drop %s from the manifest of %s: %s", relative, self.job_id, exc)

    def _add(self, path: Path) -> None:
        relative = self.path_below(path)
        if self.tracker is None or relative is None:
            return
        try:
            self.tracker.add_file(self.job_id, relative, self._type_of(relative))
        except Exception as exc:  # likewise
            log.warning("cannot record %s in the manifest of %s: %s", relative, self.job_id, exc)

    def _type_of(self, relative: Path) -> FileType:
        found = _classifier().classify(os.fsencode(relative), self.job_type)
        # No rule may know the name, but LangFlix said that it is temporary, and would delete it.
        return FileType.TEMP_VIDEO if found is FileType.OTHER else found


def _absolute(path: Path | str) -> Path:
    return Path(os.path.abspath(path))


@functools.cache
def _classifier() -> "Classifier":
    # Here, since only who has a tracker needs pathspec and pydantic.
    from lffs.classify import Classifier
    from lffs.config import find_profile, load_settings

    return Classifier(load_settings(find_profile("langflix")).settings.classify)
