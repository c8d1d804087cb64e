"""Pipelines made up by hypothesis, an oracle too simple to be wrong, and three sites where they run.

A site is the filesystem's core at memory speed, the library on a store that is not mounted, or a real
mount.  A property is written once and holds in each.  The oracle knows a file's type because the name
was made for it; it shares no code with lffs.
"""

import contextlib
import itertools
import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from lffs import CleanupService, JobManager, ManifestTracker
from lffs.backing import Backing
from lffs.config import Settings, load_settings
from lffs.control.admin import Admin
from lffs.work import settle
from tests.harness import Mounted, eventually
from tests.places import Unmounted, unmounted
from tests.stores import Client, FakeClock, fast_directory, opened, problems, reap, tree

JOB_TYPES = ["short_form", "long_form", "expression_only", "slides_only"]
TEMPORARY = {"temp_video", "temp_slide", "temp_expression", "temp_audio", "temp_subtitle"}
FINAL = {"final_video", "final_slide"}


def examples(number: int) -> settings:
    """So many examples, or as many times more as the profile asks for."""
    return settings(
        max_examples=number * settings().max_examples // 100,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


IN_MEMORY = examples(100)
IN_MEMORY_OFTEN = examples(200)
# Where the library has the whole number, the core, which is the same code below, has half of it.
IN_CORE_TOO = examples(50)
IN_CORE_TOO_OFTEN = examples(100)
MOUNTED = examples(10)


# ---------------------------------------------------------------------------------------------------
# What pipelines write
# ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """Names that are of one type, but for some types of job; {} stands for any text."""

    template: str
    type: str
    in_other_jobs: dict[str, str] = field(default_factory=dict, hash=False)
    anywhere: bool = True  # also below other directories

    def type_in(self, job_type: str) -> str:
        return self.in_other_jobs.get(job_type, self.type)


KINDS = [
    Kind("temp_slide_{}.png", "temp_slide"),
    Kind("temp_x{}.wav", "temp_audio"),
    Kind("temp_x{}.mp3", "temp_audio"),
    Kind("temp_x{}.srt", "temp_subtitle"),
    Kind("temp_expr_{}.mkv", "temp_expression"),
    Kind("temp_x{}.mkv", "temp_video"),
    Kind("temp_x{}.txt", "temp_video"),
    Kind("slides/x{}.png", "temp_slide", {"slides_only": "final_slide"}),
    Kind("subtitles/x{}.srt", "temp_subtitle"),
    Kind(
        "expressions/x{}.mkv",
        "other",
        {"short_form": "temp_expression", "expression_only": "final_video"},
    ),
    Kind("shorts/x{}.mkv", "final_video"),
    Kind("shorts/x{}.mp4", "final_video"),
    Kind("long_form/x{}.mkv", "final_video"),
    Kind("metadata/x{}.json", "metadata"),
    Kind("x{}.meta.json", "metadata"),
    Kind("x{}.log", "log"),
    Kind("x{}.bin", "other"),
    Kind("temp/x{}.bin", "temp_video", anywhere=False),
]
DIRECTORIES = [
    "slides",
    "shorts",
    "long_form",
    "expressions",
    "metadata",
    "subtitles",
    "temp",
    "ko",
    "ko/slides",
]

# Anything that a file's name may hold.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), max_size=5)
contents = st.binary(max_size=8)
job_types = st.sampled_from(JOB_TYPES)


@dataclass(frozen=True)
class File:
    """A file that a pipeline writes, below the job."""

    path: str
    type: str
    content: bytes

    @property
    def is_temporary(self) -> bool:
        return self.type in TEMPORARY


@dataclass(frozen=True)
class Pipeline:
    """What one job does before it ends."""

    job_type: str
    files: tuple[File, ...]
    directories: tuple[str, ...]  # made, whether or not anything is put in them

    @property
    def contents(self) -> dict[str, bytes]:
        return {file.path: file.content for file in self.files}

    @property
    def temporary(self) -> dict[str, bytes]:
        return {file.path: file.content for file in self.files if file.is_temporary}

    @property
    def lasting(self) -> dict[str, bytes]:
        return {file.path: file.content for file in self.files if not file.is_temporary}

    def by_type(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for file in self.files:
            found.setdefault(file.type, set()).add(file.path)
        return found


@st.composite
def files(draw: st.DrawFn, job_type: str) -> File:
    kind = draw(st.sampled_from(KINDS))
    where = draw(st.sampled_from(["", "", "ko/", "ko/deep/"])) if kind.anywhere else ""
    path = where + kind.template.format(draw(texts))
    return File(path, kind.type_in(job_type), draw(contents))


@st.composite
def pipelines(draw: st.DrawFn, *, min_files: int = 0, max_files: int = 5) -> Pipeline:
    job_type = draw(job_types)
    made = draw(
        st.lists(files(job_type), min_size=min_files, max_size=max_files, unique_by=lambda file: file.path)
    )
    directories = draw(st.lists(st.sampled_from(DIRECTORIES), max_size=3, unique=True))
    return Pipeline(job_type, tuple(made), tuple(directories))


def parents(path: str) -> list[str]:
    """Every directory above *path*, the nearest first."""
    found = []
    while path := path.rpartition("/")[0]:
        found.append(path)
    return found


def all_parents(paths: Any) -> set[str]:
    return {parent for path in paths for parent in parents(path)}


def only_files(found: dict[str, bytes | None]) -> dict[str, bytes]:
    return {path: content for path, content in found.items() if content is not None}


def only_directories(found: dict[str, bytes | None]) -> set[str]:
    return {path for path, content in found.items() if content is None}


# ---------------------------------------------------------------------------------------------------
# Where they run
# ---------------------------------------------------------------------------------------------------


@dataclass
class Cleaned:
    """What a manual cleanup said, by paths below the job."""

    removed: list[str]
    failed: dict[str, str]  # path → reason
    bytes: int


class Site(ABC):
    """One job of one store: what its pipeline does, what it sees, and what lies below on the disk."""

    is_lazy = True  # directories appear in the backing store with their first file
    lists_status = True
    job: str
    backing: Path

    # -- what the pipeline does ---------------------------------------------------------------

    @abstractmethod
    def start(self, job_type: str) -> None: ...

    @abstractmethod
    def mkdir(self, path: str) -> None: ...

    @abstractmethod
    def write(self, path: str, content: bytes, type_: str) -> None: ...

    @abstractmethod
    def rename(self, old: str, new: str, type_: str) -> None: ...

    @abstractmethod
    def unlink(self, path: str) -> None: ...

    @abstractmethod
    def set_status(self, status: str) -> None:
        """running, completed or failed."""

    @abstractmethod
    def view(self) -> dict[str, bytes | None]:
        """Every path that the pipeline sees below the job: a file's content, None for a directory."""

    @abstractmethod
    def advance(self, hours: float) -> None:
        """Let time pass, and the reaper look."""

    @abstractmethod
    def configure(self, *, debug: bool = False, **cleanup: Any) -> None:
        """Put these settings in force."""

    def run(self, pipeline: Pipeline) -> None:
        """Do all that the pipeline does before it ends."""
        self.start(pipeline.job_type)
        for directory in pipeline.directories:
            self.mkdir(directory)
        for file in pipeline.files:
            self.write(file.path, file.content, file.type)

    # -- what anyone can ask ------------------------------------------------------------------

    @property
    @abstractmethod
    def admin(self) -> Any: ...

    def soon(self, condition: Callable[[], object], what: str) -> None:
        """Fail unless the condition holds, where a daemon deletes in a thread: soon."""
        assert condition(), what

    @contextlib.contextmanager
    def logged(self) -> Iterator[list[str]]:
        """Collect what is logged during the block, once it is over."""
        lines: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
        logger = logging.getLogger("lffs")
        logger.addHandler(handler)
        try:
            yield lines
        finally:
            logger.removeHandler(handler)

    def verify(self) -> None:  # noqa: B027  a mount's is verified when its tests are over
        """Fail where records and disk differ."""

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = settle(self.admin.manifest(self.job))
        return found

    def recorded(self) -> dict[str, set[str]]:
        """What the manifest says is there: type → paths."""
        return {type_: set(paths) for type_, paths in self.manifest()["files"].items() if paths}

    def states(self) -> dict[str, str]:
        return {path: entry["state"] for path, entry in self.manifest()["entries"].items()}

    def status(self) -> str:
        status: str = settle(self.admin.status(self.job, None))
        return status

    def on_disk(self) -> dict[str, bytes | None]:
        directory = self.backing / self.job
        return tree(directory) if directory.exists() else {}

    def in_trash(self) -> dict[str, bytes]:
        """The job's hidden files, by the paths that they had."""
        trash = only_files(tree(self.backing / ".lffs" / "trash"))
        return {path.partition("/")[2]: content for path, content in trash.items()}

    def clean(self, pattern: str, *, dry_run: bool = False) -> Cleaned:
        """Clean by hand, within this job."""
        whole = f"/{self.job}/{pattern}"
        done = settle(self.admin.clean(None, whole, None, None, dry_run))
        return Cleaned(
            [path.removeprefix(self.job + "/") for path in done["removed"]],
            {one["path"].removeprefix(self.job + "/"): one["reason"] for one in done["failed"]},
            done["bytes"],
        )


class InCore(Site):
    """Through the filesystem's core, by the requests that a kernel would make."""

    def __init__(self, backing: Backing, clock: FakeClock) -> None:
        self.opened = backing
        self.clock = clock
        self.client = Client(backing)
        self.backing = backing.path
        self.job = "job"

    @property
    def admin(self) -> Admin:
        """As the daemon has it: what is cleaned goes from view."""
        fs = self.client.fs
        return Admin(
            self.opened,
            fs.change_status,
            set_job_type=fs.set_job_type,
            is_mounted=True,
            view=fs,
            reread=fs.reread,
        )

    def start(self, job_type: str) -> None:
        self.client.mkdir(self.job)
        self.client.set(self.job, "job_type", job_type)

    def mkdir(self, path: str) -> None:
        for directory in [*reversed(parents(path)), path]:
            if not self.client.exists(f"{self.job}/{directory}"):
                self.client.mkdir(f"{self.job}/{directory}")

    def write(self, path: str, content: bytes, type_: str) -> None:
        if parents(path):
            self.mkdir(parents(path)[0])
        self.client.write(f"{self.job}/{path}", content)

    def rename(self, old: str, new: str, type_: str) -> None:
        if parents(new):
            self.mkdir(parents(new)[0])
        self.client.rename(f"{self.job}/{old}", f"{self.job}/{new}")

    def unlink(self, path: str) -> None:
        self.client.unlink(f"{self.job}/{path}")

    def set_status(self, status: str) -> None:
        self.client.set(self.job, "status", status)

    def view(self) -> dict[str, bytes | None]:
        below = self.job + "/"
        return {
            path.removeprefix(below): content
            for path, content in self.client.tree().items()
            if path.startswith(below)
        }

    def advance(self, hours: float) -> None:
        self.clock.advance(hours)
        reap(self.opened)

    def configure(self, *, debug: bool = False, **cleanup: Any) -> None:
        self.opened.configure(default_settings(debug=debug, **cleanup))

    def verify(self) -> None:
        assert problems(self.opened) == {}


class InLibrary(Site):
    """A program that writes into a store that is not mounted, and tells the library of it."""

    is_lazy = False
    lists_status = False

    def __init__(self, place: Unmounted) -> None:
        self.place = place
        self.store = place.session
        self.jobs = JobManager(self.store)
        self.tracker = ManifestTracker(self.store)
        self.service = CleanupService(self.store)
        self.backing = place.path
        self.job = "job"

    @property
    def directory(self) -> Path:
        return self.backing / self.job

    @property
    def admin(self) -> Any:
        return self.place.session._admin

    def start(self, job_type: str) -> None:
        self.jobs.start_job(self.job, job_type)

    def mkdir(self, path: str) -> None:
        (self.directory / path).mkdir(parents=True, exist_ok=True)
        for one in [*reversed(parents(path)), path]:
            name = one.rpartition("/")[2]
            self.tracker.add_directory(self.job, one, name if name in DIRECTORIES[:7] else "base")

    def write(self, path: str, content: bytes, type_: str) -> None:
        (self.directory / path).parent.mkdir(parents=True, exist_ok=True)
        (self.directory / path).write_bytes(content)
        self.tracker.add_file(self.job, path, type_)

    def rename(self, old: str, new: str, type_: str) -> None:
        (self.directory / new).parent.mkdir(parents=True, exist_ok=True)
        os.rename(self.directory / old, self.directory / new)
        self.tracker.remove_from_manifest(self.job, old)
        self.tracker.add_file(self.job, new, type_)

    def unlink(self, path: str) -> None:
        (self.directory / path).unlink()
        self.tracker.remove_from_manifest(self.job, path)

    def set_status(self, status: str) -> None:
        if status == "running":
            self.jobs.start_job(self.job, self.manifest()["job_type"])
        else:
            self.jobs.complete_job(self.job, status == "completed")

    def view(self) -> dict[str, bytes | None]:
        return self.on_disk()

    def advance(self, hours: float) -> None:
        self.place.advance(hours)
        self.service.reap()

    def configure(self, *, debug: bool = False, **cleanup: Any) -> None:
        opened = self.place.session._opened
        assert opened is not None
        opened.configure(default_settings(debug=debug, **cleanup))

    def verify(self) -> None:
        self.place.verify()

    def manifest(self) -> dict[str, Any]:
        return json.loads(json.dumps(self.tracker.get_manifest(self.job).to_dict()))  # type: ignore[no-any-return]

    def clean(self, pattern: str, *, dry_run: bool = False) -> Cleaned:
        result = self.service.manual_cleanup(f"/{self.job}/{pattern}", dry_run=dry_run)
        failed = [str(path.relative_to(self.directory)) for path in result.files_failed]
        return Cleaned(
            [str(path.relative_to(self.directory)) for path in result.files_removed],
            dict(zip(failed, result.errors, strict=True)),
            result.total_size_freed,
        )


_numbers = itertools.count(1)


class InMount(Site):
    """A program on a real mount; each site is a job of its own."""

    def __init__(self, mounted: Mounted) -> None:
        self.mounted = mounted
        self.backing = mounted.backing
        self.job = f"job{next(_numbers)}"

    @property
    def directory(self) -> Path:
        return self.mounted.path / self.job

    @property
    def admin(self) -> Any:
        return self.mounted.admin

    def start(self, job_type: str) -> None:
        self.directory.mkdir()
        os.setxattr(self.directory, "user.lffs.job_type", job_type.encode())

    def mkdir(self, path: str) -> None:
        (self.directory / path).mkdir(parents=True, exist_ok=True)

    def write(self, path: str, content: bytes, type_: str) -> None:
        (self.directory / path).parent.mkdir(parents=True, exist_ok=True)
        (self.directory / path).write_bytes(content)

    def rename(self, old: str, new: str, type_: str) -> None:
        (self.directory / new).parent.mkdir(parents=True, exist_ok=True)
        os.rename(self.directory / old, self.directory / new)

    def unlink(self, path: str) -> None:
        (self.directory / path).unlink()

    def set_status(self, status: str) -> None:
        self.mounted.set_status(self.job, status)

    def view(self) -> dict[str, bytes | None]:
        return tree(self.directory)

    def in_trash(self) -> dict[str, bytes]:
        trash = self.mounted.path / ".lffs" / "trash" / self.job
        found: dict[str, bytes] = {}
        for parent, _, names in os.walk(trash):
            for path in (Path(parent, name) for name in names):
                with contextlib.suppress(FileNotFoundError):  # the reaper may take it meanwhile
                    found[str(path.relative_to(trash))] = path.read_bytes()
        return found

    def advance(self, hours: float) -> None:
        self.mounted.advance(hours)

    def configure(self, *, debug: bool = False, **cleanup: Any) -> None:
        # JSON is YAML.
        self.mounted.configure(json.dumps({"debug": debug, "cleanup": cleanup}))
        self.mounted.reload()

    def soon(self, condition: Callable[[], object], what: str) -> None:
        eventually(condition, what, limit_s=10)

    @contextlib.contextmanager
    def logged(self) -> Iterator[list[str]]:
        begin = len(self.mounted.log())
        lines: list[str] = []
        yield lines
        lines += self.mounted.log()[begin:].splitlines()


def default_settings(*, debug: bool = False, **cleanup: Any) -> Settings:
    """The default configuration, but for what is given."""
    values = {f"cleanup.{key}": value for key, value in cleanup.items()}
    return load_settings(None, {}, {"debug": debug, **values}).settings


@contextlib.contextmanager
def core() -> Iterator[InCore]:
    """A new store under the filesystem's core."""
    with fast_directory() as directory:
        clock = FakeClock()
        with opened(directory / "store", Settings(), clock) as backing:
            site = InCore(backing, clock)
            yield site
            site.client.fs.close()


@contextlib.contextmanager
def library() -> Iterator[InLibrary]:
    """A new store under the library."""
    with fast_directory() as directory, unmounted(directory / "store") as place:
        yield InLibrary(place)
