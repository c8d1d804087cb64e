"""How LangFlix's ShortFormCreator and VideoEditor register and clean their temporary files.

Base classes or mixins, without a constructor: what a class or LangFlix's own constructor sets as an
attribute (lists, directories, the manager) is used, and what nobody set is as LangFlix has it.

    class VideoEditor(VideoEditorTempFiles, langflix.core.video_editor.VideoEditor): ...

Registering leaves a file where LangFlix has put it, recorded in its job; ``_temp_path`` is for code that
lets the job's temp directory have it.
"""

import itertools
import logging
import shutil
from functools import cached_property
from pathlib import Path

from lffs.integrations.langflix.binding import JobBinding
from lffs.integrations.langflix.permissions import make_shared_directory
from lffs.integrations.langflix.temp_files import TempFileManager, get_temp_manager

log = logging.getLogger(__name__)

# What the editor takes for a temporary file of its own, whoever made it.
_LEFTOVERS = ("temp_*.mkv", "temp_*.txt", "temp_*.wav")
# What the names of kept files begin with instead; the first that fits.
_KEPT_PREFIXES = (("temp_vstack_short_", "expression_"), ("temp_", ""))


class _TempFiles:
    """What both have in common."""

    output_dir: Path

    @cached_property
    def temp_manager(self) -> TempFileManager:
        return get_temp_manager()

    def _register_temp_file(self, path: Path) -> None:
        raise NotImplementedError

    def _temp_path(self, name: str) -> Path:
        """Return where to write the temporary file *name*, which is registered.

        That is the temp directory of the job that the process's manager is bound to, or without one
        LangFlix's own place, output_dir.
        """
        path = make_shared_directory(self._temp_directory()) / name
        self._register_temp_file(path)
        return path

    def _temp_directory(self) -> Path:
        job = _bound_job()
        return job.temp_dir_of(self.output_dir) if job is not None else self.output_dir


class ShortFormCreatorTempFiles(_TempFiles):
    """A ShortFormCreator's temporary files: in a list of its own, which it cleans when told to."""

    @cached_property
    def _temp_files(self) -> list[Path]:
        return []

    def _register_temp_file(self, path: Path) -> None:
        """Note *path*, which need not exist and may be noted already."""
        self._temp_files.append(path)
        job = _bound_job()
        if job is not None:
            job.record(path)

    def cleanup_temp_files(self) -> None:
        """Delete what was registered and exists; what can't be deleted is logged, and forgotten too."""
        for path in self._temp_files:
            self.temp_manager.cleanup_temp_file(path)
        self._temp_files.clear()


class VideoEditorTempFiles(_TempFiles):
    """A VideoEditor's temporary files: in a list of its own and in the process's manager."""

    @cached_property
    def _owned_temp_files(self) -> list[Path]:
        return []

    @cached_property
    def short_format_temp_files(self) -> list[Path]:
        return []

    @cached_property
    def videos_dir(self) -> Path:
        return self.output_dir.parent / "videos"

    @cached_property
    def short_videos_dir(self) -> Path:
        return self.videos_dir

    def _register_temp_file(self, path: Path) -> None:
        self.temp_manager.register_file(path)
        self._owned_temp_files.append(path)

    def _cleanup_temp_files(self, preserve_short_format: bool = False) -> None:
        """Delete what was registered, and whatever in output_dir looks like it, whoever made it.

        With *preserve_short_format* the files of short_format_temp_files are first moved to
        videos/expressions/, without their ``temp_``; one that can't be moved stays.
        """
        kept = {Path(path) for path in self.short_format_temp_files} if preserve_short_format else set()
        if preserve_short_format:
            self._keep(kept)
        for path in {*map(Path, self._owned_temp_files), *self._leftovers()} - kept:
            self.temp_manager.cleanup_temp_file(path)
        self._owned_temp_files.clear()

    def _leftovers(self) -> list[Path]:
        # A ShortFormCreator's files are cleaned by nobody else, so its _temp_path's too.
        try:
            return [
                path
                for directory in {self.output_dir, self._temp_directory()}
                for pattern in _LEFTOVERS
                for path in directory.glob(pattern)
            ]
        except OSError as exc:
            log.warning("cannot look for temporary files in %s: %s", self.output_dir, exc)
            return []

    def _keep(self, paths: set[Path]) -> None:
        directory = self.short_videos_dir / "expressions"
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            log.warning("cannot keep short form files: %s", exc)
            return
        for path in sorted(paths):
            target = directory / _kept_name(path.name)
            try:
                if path.exists():
                    shutil.move(path, target)
                    _moved(path, target)
            except OSError as exc:
                log.warning("cannot move %s to %s: %s", path, target, exc)


def _kept_name(name: str) -> str:
    fitting = itertools.dropwhile(lambda pair: not name.startswith(pair[0]), _KEPT_PREFIXES)
    prefix, instead = next(fitting, ("", ""))
    return instead + name.removeprefix(prefix)


def _moved(path: Path, target: Path) -> None:
    job = _bound_job()
    if job is not None:
        job.forget(path)
        job.record(target)


def _bound_job() -> JobBinding | None:
    # Not self.temp_manager's: that may be LangFlix's own, which knows no jobs.
    return get_temp_manager().job
