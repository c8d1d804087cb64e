"""LangFlix's own classes for files, with the job's directory and its manifest in mind.

Nothing of this is needed: through a mount LangFlix works as it is.  Whoever takes these classes instead
of its own gets, for the same calls, temporary files in the job's temp directory (below a mount, or on a
backing store that isn't mounted, where a tracker is told of each).  Needs neither FUSE nor LangFlix;
who records without a mount needs what lffs's configuration needs.

    from lffs.integrations.langflix import JobBinding, create_output_structure, get_temp_manager

    paths = create_output_structure(subtitle, "ko", series_name="Suits", episode_name="S01E01")
    with get_temp_manager().bound_to(JobBinding.of_episode(paths["episode"]["episode_dir"])):
        ...

LangFlix's data model is in ``models``: some of its names are also lffs's, for other classes.
"""

from lffs.integrations.langflix.binding import JobBinding, Tracker
from lffs.integrations.langflix.models import (
    CleanupPolicy,
    CleanupResult,
    DirectoryStructure,
    DirectoryType,
    FileType,
    JobContext,
    JobManifest,
    JobStatus,
    JobType,
)
from lffs.integrations.langflix.output import (
    OutputManager,
    create_output_structure,
    parse_series_episode_from_string,
    sanitize_path_component,
)
from lffs.integrations.langflix.registration import ShortFormCreatorTempFiles, VideoEditorTempFiles
from lffs.integrations.langflix.temp_files import TempFileManager, get_temp_manager

__all__ = [
    "CleanupPolicy",
    "CleanupResult",
    "DirectoryStructure",
    "DirectoryType",
    "FileType",
    "JobBinding",
    "JobContext",
    "JobManifest",
    "JobStatus",
    "JobType",
    "OutputManager",
    "ShortFormCreatorTempFiles",
    "TempFileManager",
    "Tracker",
    "VideoEditorTempFiles",
    "create_output_structure",
    "get_temp_manager",
    "parse_series_episode_from_string",
    "sanitize_path_component",
]
