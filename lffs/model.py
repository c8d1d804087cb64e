"""The words of the domain: what a job, a file and a directory can be.

Values only: nothing here touches a disk or knows a clock.  The strings are the contract: xattrs,
the manifest's JSON and the configuration read and write them.
"""

import enum
from dataclasses import dataclass


class JobType(enum.StrEnum):
    """What a job makes; decides its directories and, for some rules, the type of its files."""

    SHORT_FORM = "short_form"
    LONG_FORM = "long_form"
    EXPRESSION_ONLY = "expression_only"
    SLIDES_ONLY = "slides_only"


class FileType(enum.StrEnum):
    """What a file is to the pipeline; ``temp_*`` may be cleaned, everything else stays."""

    TEMP_VIDEO = "temp_video"
    TEMP_SLIDE = "temp_slide"
    TEMP_EXPRESSION = "temp_expression"
    TEMP_AUDIO = "temp_audio"
    TEMP_SUBTITLE = "temp_subtitle"
    FINAL_VIDEO = "final_video"
    FINAL_SLIDE = "final_slide"
    METADATA = "metadata"
    MANIFEST = "manifest"
    LOG = "log"
    OTHER = "other"

    @property
    def is_temporary(self) -> bool:
        return self in TEMPORARY_TYPES


TEMPORARY_TYPES = frozenset(
    {
        FileType.TEMP_VIDEO,
        FileType.TEMP_SLIDE,
        FileType.TEMP_EXPRESSION,
        FileType.TEMP_AUDIO,
        FileType.TEMP_SUBTITLE,
    }
)
FINAL_TYPES = frozenset({FileType.FINAL_VIDEO, FileType.FINAL_SLIDE})


class DirectoryType(enum.StrEnum):
    """What a job's directory is for."""

    BASE = "base"
    TEMP = "temp"
    SLIDES = "slides"
    EXPRESSIONS = "expressions"
    SHORTS = "shorts"
    LONG_FORM = "long_form"
    METADATA = "metadata"
    SUBTITLES = "subtitles"


# What a job's directories are called (requirement 1.4); its base is its own directory.
DIRECTORY_NAMES = {
    DirectoryType.TEMP: "temp",
    DirectoryType.SLIDES: "slides",
    DirectoryType.EXPRESSIONS: "expressions",
    DirectoryType.SHORTS: "shorts",
    DirectoryType.LONG_FORM: "long_form",
    DirectoryType.METADATA: "metadata",
    DirectoryType.SUBTITLES: "subtitles",
}

_EVERY_JOB = frozenset({DirectoryType.BASE, DirectoryType.TEMP, DirectoryType.METADATA})
# The directories that a job of each type needs (requirements 1.1 and 1.2); it gets no other.
NEEDED_DIRECTORIES = {
    JobType.SHORT_FORM: _EVERY_JOB
    | {DirectoryType.SLIDES, DirectoryType.EXPRESSIONS, DirectoryType.SUBTITLES, DirectoryType.SHORTS},
    JobType.LONG_FORM: _EVERY_JOB
    | {DirectoryType.SLIDES, DirectoryType.EXPRESSIONS, DirectoryType.SUBTITLES, DirectoryType.LONG_FORM},
    JobType.EXPRESSION_ONLY: _EVERY_JOB | {DirectoryType.EXPRESSIONS, DirectoryType.SUBTITLES},
    JobType.SLIDES_ONLY: _EVERY_JOB | {DirectoryType.SLIDES},
}


class JobStatus(enum.StrEnum):
    """Where a job stands; the values are what user.lffs.status reads and writes."""

    CREATED = "created"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CLEANING_UP = "cleaning_up"
    CLEANED = "cleaned"


# What a listed job directory's name ends in (requirement 5.4).  created has none: a job that wrote
# nothing yet is not processing.
STATUS_SUFFIX = {
    JobStatus.CREATED: "",
    JobStatus.RUNNING: "_processing",
    JobStatus.COMPLETED: "_completed",
    JobStatus.CLEANING_UP: "_completed",
    JobStatus.CLEANED: "_completed",
    JobStatus.FAILED: "_failed",
}
SUFFIXES = ("_processing", "_completed", "_failed")

# What people may set, and the word for it; everything else is lffs's own to set.
SETTABLE_STATUS = {
    "running": JobStatus.RUNNING,
    "processing": JobStatus.RUNNING,
    "completed": JobStatus.COMPLETED,
    "failed": JobStatus.FAILED,
}


class StatusNames(enum.StrEnum):
    """How a job's directory is listed: with its status as a suffix, or plain."""

    SUFFIX = "suffix"
    PLAIN = "plain"


class EntryKind(enum.StrEnum):
    """What a recorded non-directory is."""

    FILE = "file"
    SYMLINK = "symlink"
    FIFO = "fifo"
    SOCKET = "socket"
    DEVICE = "device"


class EntryState(enum.StrEnum):
    """Where a recorded file is: in its place, in the trash, or deleted for good."""

    PRESENT = "present"
    HIDDEN = "hidden"
    REMOVED = "removed"


class EntryOrigin(enum.StrEnum):
    """How lffs came to know a file.  Only what a job was seen to make is ever cleaned by itself."""

    RECORDED = "recorded"
    ADOPTED = "adopted"  # found beside lffs, or at the first mount
    REBUILT = "rebuilt"  # found by the scan after the store was lost


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Which very file: what deletion compares, since names can be swapped under it.

    On the device that BACKING is on; device numbers change with a reboot, ctime with every rename,
    so neither is part of it.
    """

    inode: int
    birth_ns: int  # 0 where the backing filesystem records none
