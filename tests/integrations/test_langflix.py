"""LangFlix's classes, replaced: the same calls do the same, and what they hand out belongs to a job."""

import atexit
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lffs
from lffs import model
from lffs.integrations.langflix import (
    CleanupPolicy,
    CleanupResult,
    DirectoryStructure,
    DirectoryType,
    FileType,
    JobBinding,
    JobContext,
    JobManifest,
    JobStatus,
    JobType,
    OutputManager,
    ShortFormCreatorTempFiles,
    TempFileManager,
    VideoEditorTempFiles,
    create_output_structure,
    get_temp_manager,
    parse_series_episode_from_string,
    sanitize_path_component,
)
from lffs.library import records as library
from tests.harness import Mounted

ROOT = Path(lffs.__file__).parent.parent
NOON = datetime(2026, 1, 31, 12)  # noqa: DTZ001  LangFlix's times bear no zone
SHORT_FORM = JobType.SHORT_FORM


class TrackerInMemory:
    """What ManifestTracker is to the drop-ins; as strict as it may be."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: dict[str, model.FileType] = {}

    def add_file(self, job_id: str, path: Path, file_type: model.FileType) -> None:
        assert job_id == "Suits/S01E01"
        if path.is_absolute() or ".." in path.parts or not isinstance(file_type, model.FileType):
            raise ValueError(path)
        os.lstat(self.directory / path)
        self.files[str(path)] = file_type

    def remove_from_manifest(self, job_id: str, path: Path) -> None:
        assert job_id == "Suits/S01E01"
        del self.files[str(path)]


class BrokenTracker:
    def add_file(self, job_id: str, path: Path, file_type: model.FileType) -> None:
        raise RuntimeError("the store is closed")

    def remove_from_manifest(self, job_id: str, path: Path) -> None:
        raise RuntimeError("the store is closed")


@pytest.fixture
def make_manager(tmp_path: Path) -> Iterator[Callable[..., TempFileManager]]:
    """Return TempFileManager, for managers that leave nothing to be done at exit."""
    made: list[TempFileManager] = []

    def make(*args: Any, **options: Any) -> TempFileManager:
        made.append(TempFileManager(*args, **options))
        return made[-1]

    yield make
    for manager in made:
        manager.cleanup_all()
        atexit.unregister(manager.cleanup_all)


@pytest.fixture
def manager(make_manager: Callable[..., TempFileManager], tmp_path: Path) -> TempFileManager:
    return make_manager(base_dir=tmp_path)


@pytest.fixture
def the_manager() -> Iterator[TempFileManager]:
    """The process's manager, as a process has it that just began."""
    get_temp_manager.cache_clear()
    yield get_temp_manager()
    get_temp_manager().cleanup_all()
    atexit.unregister(get_temp_manager().cleanup_all)
    get_temp_manager.cache_clear()


@pytest.fixture
def episode(tmp_path: Path) -> Path:
    directory = tmp_path / "out" / "Suits" / "S01E01"
    (directory / "ko" / "expressions").mkdir(parents=True)
    return directory


@pytest.fixture
def tracker(episode: Path) -> TrackerInMemory:
    return TrackerInMemory(episode)


@pytest.fixture
def job(episode: Path, tracker: TrackerInMemory) -> JobBinding:
    return JobBinding.of_episode(episode, tracker=tracker)


def run_python(code: str, *arguments: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | environment,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# --- importing


def test_importing_needs_neither_fuse_nor_langflix_nor_pydantic() -> None:
    code = (
        "import sys\n"
        "for name in ('pyfuse3', 'trio', 'pydantic', 'pathspec', 'yaml', 'langflix'):\n"
        "    sys.modules[name] = None\n"  # importing them is ImportError now
        "from lffs.integrations.langflix import *\n"
        "with get_temp_manager().create_temp_file() as path: print(path.exists(), end=' ')\n"
        "print(path.exists())\n"
    )
    assert run_python(code) == "True False\n"


# --- TempFileManager


def test_a_manager_has_langflix_defaults(make_manager: Callable[..., TempFileManager]) -> None:
    manager = make_manager()
    assert manager.prefix == "langflix_"
    assert manager.base_dir.samefile(run_python("import tempfile; print(tempfile.gettempdir(), end='')"))
    assert (manager.temp_files, manager.temp_dirs) == ([], [])


def test_there_is_one_manager_a_process(the_manager: TempFileManager) -> None:
    assert get_temp_manager() is the_manager


@pytest.mark.parametrize(
    ("suffix", "prefix", "begins"),
    [("", None, "langflix_"), (".mkv", "clip_", "clip_"), (".srt", "", "langflix_")],
)
def test_a_temporary_file_is_empty_private_and_gone_after_the_block(
    manager: TempFileManager, tmp_path: Path, suffix: str, prefix: str | None, begins: str
) -> None:
    with manager.create_temp_file(suffix, prefix) as path:
        assert path.parent == tmp_path
        assert path.name.startswith(begins)
        assert path.name.endswith(suffix)
        assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"", 0o600)
        assert manager.temp_files == [path]
    assert not path.exists()
    assert manager.temp_files == []


def test_without_delete_a_file_stays_and_stays_tracked(manager: TempFileManager) -> None:
    with manager.create_temp_file(suffix=".txt", delete=False) as path:
        path.write_text("kept")
    assert path.read_text() == "kept"
    assert manager.temp_files == [path]
    manager.cleanup_all()
    assert not path.exists()


def test_a_file_and_a_directory_go_when_the_block_raises(manager: TempFileManager) -> None:
    class Failed(Exception):
        pass

    with pytest.raises(Failed), manager.create_temp_dir() as directory, manager.create_temp_file() as path:
        raise Failed
    assert not path.exists()
    assert not directory.exists()
    assert (manager.temp_files, manager.temp_dirs) == ([], [])


def test_a_file_that_the_block_itself_deletes_or_renames_is_no_error(
    manager: TempFileManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with manager.create_temp_file() as path:
        path.rename(tmp_path / "final.mkv")
    assert (tmp_path / "final.mkv").exists()
    assert manager.temp_files == []
    assert caplog.messages == []


def test_a_temporary_directory_goes_with_all_that_is_in_it(manager: TempFileManager, tmp_path: Path) -> None:
    with manager.create_temp_dir("work_") as directory:
        assert directory.parent == tmp_path
        assert directory.name.startswith("work_")
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert manager.temp_dirs == [directory]
        (directory / "deep").mkdir()
        (directory / "deep" / "a.mkv").write_bytes(b"x")
    assert not directory.exists()
    assert manager.temp_dirs == []


def test_a_persistent_file_stays_until_it_is_cleaned(manager: TempFileManager) -> None:
    path = manager.create_persistent_temp_file(suffix=".mkv", prefix="upload_")
    assert path.name.startswith("upload_")
    assert path.suffix == ".mkv"
    assert manager.temp_files == [path]
    assert manager.cleanup_temp_file(path) is True
    assert not path.exists()
    assert manager.temp_files == []


def test_a_file_is_registered_once_and_need_not_exist(manager: TempFileManager, tmp_path: Path) -> None:
    manager.register_file(tmp_path / "a")
    manager.register_file(tmp_path / "a")
    assert manager.temp_files == [tmp_path / "a"]
    manager.cleanup_all()
    assert manager.temp_files == []


def test_cleaning_a_file_says_whether_it_is_gone(
    manager: TempFileManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unregistered = tmp_path / "a"
    unregistered.write_bytes(b"x")
    assert manager.cleanup_temp_file(unregistered) is True
    assert not unregistered.exists()
    assert manager.cleanup_temp_file(unregistered) is True  # there was none
    assert caplog.messages == []
    directory = tmp_path / "d"
    directory.mkdir()
    manager.register_file(directory)
    assert manager.cleanup_temp_file(directory) is False
    assert manager.temp_files == [directory]
    assert str(directory) in caplog.text
    assert manager.cleanup_temp_file(Path("nul\0")) is False


def test_cleaning_all_goes_on_where_one_file_can_not_be_deleted(
    manager: TempFileManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undeletable = tmp_path / "d"
    undeletable.mkdir()
    (tmp_path / "no directory").write_bytes(b"")
    manager.register_file(undeletable)
    manager.temp_dirs.append(tmp_path / "no directory")
    path = manager.create_persistent_temp_file()
    with manager.create_temp_dir() as directory:
        manager.cleanup_all()
        assert not directory.exists()
    assert not path.exists()
    assert (manager.temp_files, manager.temp_dirs) == ([], [])
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_a_base_directory_that_was_asked_for_must_exist(
    make_manager: Callable[..., TempFileManager], tmp_path: Path, job: JobBinding
) -> None:
    manager = make_manager(base_dir=str(tmp_path / "missing"), job=job)
    assert manager.base_dir == tmp_path / "missing"
    with pytest.raises(FileNotFoundError):
        manager.create_persistent_temp_file()
    manager.base_dir = tmp_path
    assert manager.create_persistent_temp_file().parent == tmp_path


def test_what_is_left_goes_when_the_process_ends(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from lffs.integrations.langflix import TempFileManager, get_temp_manager\n"
        "directory = Path(sys.argv[1])\n"
        "own = TempFileManager(base_dir=directory)\n"
        "own.create_persistent_temp_file()\n"
        "with own.create_temp_file(delete=False): pass\n"
        "held = own.create_temp_dir()\n"
        "held.__enter__()\n"
        "get_temp_manager().register_file(directory / 'registered')\n"
        "(directory / 'registered').write_text('x')\n"
        "print(len(list(directory.iterdir())))\n"
    )
    assert run_python(code, tmp_path) == "4\n"
    assert list(tmp_path.iterdir()) == []


# --- a job's temporary files


def test_a_bound_manager_hands_out_recorded_files_in_the_jobs_temp_directory(
    make_manager: Callable[..., TempFileManager], job: JobBinding, tracker: TrackerInMemory, episode: Path
) -> None:
    manager = make_manager()
    before = manager.base_dir
    with manager.bound_to(job):
        assert manager.base_dir == episode / "temp"
        assert not manager.base_dir.exists()  # nothing is made before it is needed
        kept = manager.create_persistent_temp_file(suffix=".wav")
        with (
            manager.create_temp_file(suffix=".mkv", prefix="temp_slide_") as path,
            manager.create_temp_dir() as made,
        ):
            assert {kept.parent, path.parent, made.parent} == {episode / "temp"}
            assert tracker.files == {
                f"temp/{kept.name}": model.FileType.TEMP_VIDEO,
                f"temp/{path.name}": model.FileType.TEMP_SLIDE,
            }
        assert list(tracker.files) == [f"temp/{kept.name}"]
    assert manager.base_dir == before
    assert kept.exists()
    manager.cleanup_all()  # after the job: it is still the job's manifest that forgets the file
    assert not kept.exists()
    assert tracker.files == {}


def test_a_temp_directory_that_vanished_is_made_again(
    make_manager: Callable[..., TempFileManager], job: JobBinding, episode: Path
) -> None:
    manager = make_manager(job=job)
    manager.create_persistent_temp_file()
    shutil.rmtree(episode / "temp")
    assert manager.create_persistent_temp_file().parent == episode / "temp"
    assert stat.S_IMODE((episode / "temp").stat().st_mode) == 0o775


def test_what_ffmpeg_makes_later_is_recorded_once_it_is_there(
    manager: TempFileManager, job: JobBinding, tracker: TrackerInMemory, episode: Path
) -> None:
    early, never, later = (
        episode / "ko" / "expressions" / f"temp_expr_{name}.mkv" for name in ("e", "n", "l")
    )
    with manager.bound_to(job):
        manager.register_file(early)
        manager.register_file(never)
        assert tracker.files == {}
        early.write_bytes(b"x")
        manager.register_file(later)
        assert tracker.files == {"ko/expressions/temp_expr_e.mkv": model.FileType.TEMP_EXPRESSION}
        later.write_bytes(b"x")
    assert list(tracker.files) == ["ko/expressions/temp_expr_e.mkv", "ko/expressions/temp_expr_l.mkv"]
    manager.cleanup_all()
    assert tracker.files == {}


def test_a_failed_jobs_files_are_left_for_debugging(
    manager: TempFileManager, job: JobBinding, tracker: TrackerInMemory, tmp_path: Path, episode: Path
) -> None:
    other = manager.create_persistent_temp_file()
    of_the_job = episode / "ko" / "temp_a.mkv"

    def fail() -> None:
        with manager.bound_to(job):
            manager.register_file(of_the_job)
            of_the_job.write_bytes(b"x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert manager.temp_files == [other]
    assert list(tracker.files) == ["ko/temp_a.mkv"]
    assert manager.job is None
    manager.cleanup_all()
    assert of_the_job.exists()


def test_files_outside_of_the_job_are_not_recorded(
    manager: TempFileManager, job: JobBinding, tracker: TrackerInMemory, tmp_path: Path, episode: Path
) -> None:
    with manager.bound_to(job):
        for path in (tmp_path / "a", episode / ".." / "S01E02", episode):
            manager.register_file(path)
        path = manager.create_persistent_temp_file()
        manager.cleanup_temp_file(path)
    assert tracker.files == {}


def test_a_name_that_no_rule_knows_is_temporary_because_langflix_says_so(
    manager: TempFileManager, job: JobBinding, tracker: TrackerInMemory, episode: Path
) -> None:
    odd = episode / "ko" / "odd"
    odd.write_bytes(b"")
    with manager.bound_to(job):
        manager.register_file(odd)
    assert tracker.files == {"ko/odd": model.FileType.TEMP_VIDEO}


def test_a_manifest_that_can_not_be_written_is_logged_and_stops_nothing(
    make_manager: Callable[..., TempFileManager], episode: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = make_manager(job=JobBinding.of_episode(episode, tracker=BrokenTracker()))
    path = manager.create_persistent_temp_file()
    assert path.exists()
    assert manager.cleanup_temp_file(path)
    assert [f"temp/{path.name}" in message for message in caplog.messages] == [True, True]
    assert "the store is closed" in caplog.text


def test_a_file_that_the_jobs_cleanup_took_first_is_no_news(
    make_manager: Callable[..., TempFileManager],
    job: JobBinding,
    tracker: TrackerInMemory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager = make_manager(job=job)
    manager.create_persistent_temp_file().unlink()
    tracker.files.clear()
    manager.cleanup_all()
    assert caplog.messages == []


def test_a_binding_takes_what_job_manager_returns(tmp_path: Path) -> None:
    directory = tmp_path / "Suits" / "S01E01"
    context = library.JobContext(
        job_id="Suits/S01E01",
        job_type=JobType.SLIDES_ONLY,
        start_time=datetime.now(UTC),
        output_dir=tmp_path,
        manifest_path=tmp_path / "m.json",
        directories=library.DirectoryStructure(directory, temp_dir=directory / "work"),
    )
    job = JobBinding.of_context(context)
    assert (job.job_id, job.directory, job.temp_dir) == ("Suits/S01E01", directory, directory / "work")
    assert job.job_type is JobType.SLIDES_ONLY


@pytest.mark.parametrize(
    ("job_id", "temp_dir"),
    [("", None), ("../x", None), ("/x", None), ("S/E", "/tmp"), ("S/E", "S/E"), ("S/E", "S/E/../t")],
)
def test_a_binding_that_can_not_be_is_refused(job_id: str, temp_dir: str | None) -> None:
    with pytest.raises(ValueError):
        JobBinding(job_id, "S/E", temp_dir)


@pytest.mark.mounted
def test_through_a_mount_what_is_handed_out_is_recorded_by_itself(
    make_mount: Callable[..., Mounted],
    make_manager: Callable[..., TempFileManager],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mounted = make_mount("langflix")
    paths = create_output_structure("x.srt", "ko", mounted.path, "Suits", "S01E01")
    episode = paths["episode"]["episode_dir"]

    def recorded() -> dict[str, Any]:
        text = (mounted.path / ".lffs" / "manifests" / "Suits" / "S01E01.json").read_text()
        files: dict[str, Any] = json.loads(text)["files"]
        return files

    monkeypatch.setenv("TMPDIR", str(episode / "temp"))  # as `lffs run` does
    manager = make_manager()
    assert manager.base_dir == episode / "temp"
    assert not manager.base_dir.exists()
    by_tmpdir = manager.create_persistent_temp_file()
    monkeypatch.delenv("TMPDIR")
    by_binding = make_manager(job=JobBinding.of_episode(episode)).create_persistent_temp_file()
    assert sorted(recorded()["temp_video"]) == sorted(f"temp/{path.name}" for path in (by_tmpdir, by_binding))
    os.setxattr(episode, "user.lffs.status", b"completed")
    assert not by_tmpdir.exists()
    assert not (mounted.backing / "Suits" / "S01E01" / "temp").exists()
    assert manager.create_persistent_temp_file().exists()  # the directory had vanished


# --- ShortFormCreator and VideoEditor


class Creator(ShortFormCreatorTempFiles):
    """As LangFlix's: its constructor sets the list itself and knows nothing of its base class."""

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir
        self._temp_files = []


class Editor(VideoEditorTempFiles):
    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir


def test_a_creator_registers_files_of_its_own_and_cleans_them_when_told(
    the_manager: TempFileManager, episode: Path, caplog: pytest.LogCaptureFixture
) -> None:
    creator, other = Creator(episode), Creator(episode)
    path, missing, undeletable = episode / "temp_scaled_X.mkv", episode / "missing", episode / "ko"
    path.write_bytes(b"x")
    for one in (path, path, missing, undeletable):
        creator._register_temp_file(one)
    assert creator._temp_files == [path, path, missing, undeletable]
    assert other._temp_files == []
    assert the_manager.temp_files == []
    creator.cleanup_temp_files()
    assert not path.exists()
    assert creator._temp_files == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_an_editor_registers_files_in_both_lists(the_manager: TempFileManager, episode: Path) -> None:
    editor = Editor(episode / "ko" / "expressions")
    path = editor.output_dir / "temp_slide_X.mkv"
    editor._register_temp_file(path)
    assert editor.temp_manager is the_manager
    assert editor._owned_temp_files == the_manager.temp_files == [path]
    assert editor.short_format_temp_files == []
    assert editor.videos_dir == editor.short_videos_dir == episode / "ko" / "videos"
    path.write_bytes(b"x")
    editor._cleanup_temp_files()
    assert not path.exists()
    assert editor._owned_temp_files == the_manager.temp_files == []


@pytest.mark.parametrize(
    ("name", "stays"),
    [
        ("temp_a.mkv", False),
        ("temp_concat_list.txt", False),
        ("temp_b.wav", False),
        ("temp_adjusted_subtitle_X.srt", True),
        ("wrapped_temp_adjusted_subtitle_X.srt", True),
        ("expression_01_X.mkv", True),
    ],
)
@pytest.mark.usefixtures("the_manager")
def test_an_editor_also_cleans_what_looks_like_its_files(episode: Path, name: str, stays: bool) -> None:
    editor = Editor(episode / "ko" / "expressions")
    (editor.output_dir / name).write_bytes(b"x")
    editor._cleanup_temp_files()
    assert (editor.output_dir / name).exists() == stays


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("temp_vstack_short_Hold_on.mkv", "expression_Hold_on.mkv"),
        ("temp_short_X.mkv", "short_X.mkv"),
        ("plain.mkv", "plain.mkv"),
    ],
)
@pytest.mark.usefixtures("the_manager")
def test_an_editor_can_keep_short_format_files(episode: Path, name: str, kept: str) -> None:
    editor = Editor(episode / "ko" / "expressions")
    path, gone = editor.output_dir / name, editor.output_dir / "temp_other.mkv"
    for one in (path, gone):
        one.write_bytes(b"x")
        editor._register_temp_file(one)
    editor.short_format_temp_files.append(path)
    editor._cleanup_temp_files(preserve_short_format=True)
    left = [one for one in (episode / "ko").rglob("*") if one.is_file()]
    assert left == [episode / "ko" / "videos" / "expressions" / kept]


def test_an_editor_never_raises(
    the_manager: TempFileManager, episode: Path, caplog: pytest.LogCaptureFixture
) -> None:
    editor = Editor(episode / "ko" / "expressions")
    (episode / "ko" / "videos").write_bytes(b"no directory")
    (editor.output_dir / "temp_directory.mkv").mkdir()
    kept = editor.output_dir / "temp_a.mkv"
    kept.write_bytes(b"x")
    editor.short_format_temp_files.append(kept)
    editor._cleanup_temp_files(preserve_short_format=True)
    assert kept.exists()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    shutil.rmtree(editor.output_dir)
    editor._cleanup_temp_files()


def test_registered_files_of_a_job_are_recorded_and_forgotten(
    the_manager: TempFileManager, job: JobBinding, tracker: TrackerInMemory, episode: Path
) -> None:
    creator, editor = Creator(episode / "ko" / "expressions"), Editor(episode / "ko" / "expressions")
    with the_manager.bound_to(job):
        for owner, name in ((creator, "temp_scaled_X.mkv"), (editor, "temp_slide_X.mkv")):
            path = owner.output_dir / name
            path.write_bytes(b"x")
            owner._register_temp_file(path)
        short = editor.output_dir / "temp_vstack_short_X.mkv"
        short.write_bytes(b"x")
        editor._register_temp_file(short)
        assert tracker.files == {
            "ko/expressions/temp_scaled_X.mkv": model.FileType.TEMP_VIDEO,
            "ko/expressions/temp_slide_X.mkv": model.FileType.TEMP_SLIDE,
            "ko/expressions/temp_vstack_short_X.mkv": model.FileType.TEMP_VIDEO,
        }
        creator.cleanup_temp_files()
        editor.short_format_temp_files.append(short)
        editor._cleanup_temp_files(preserve_short_format=True)
    assert list(tracker.files) == ["ko/videos/expressions/expression_X.mkv"]


def test_temporary_paths_lie_in_the_jobs_temp_directory_one_for_each_language(
    the_manager: TempFileManager, job: JobBinding, tracker: TrackerInMemory, episode: Path
) -> None:
    owners = [
        Creator(episode / "ko" / "shorts"),
        Editor(episode / "ja" / "expressions"),
        Editor(episode.parent),
    ]
    with the_manager.bound_to(job):
        paths = [owner._temp_path("temp_a.mkv") for owner in owners]
        for path in paths:
            path.write_bytes(b"x")
        assert paths == [episode / "temp" / part / "temp_a.mkv" for part in ("ko", "ja", "")]
        Editor(episode / "ko" / "expressions")._cleanup_temp_files()  # an editor's glob is all a creator has
        assert [path.exists() for path in paths] == [False, True, True]
    assert sorted(tracker.files) == ["temp/ja/temp_a.mkv", "temp/temp_a.mkv"]


@pytest.mark.usefixtures("the_manager")
def test_without_a_job_temporary_paths_are_langflix_own(tmp_path: Path) -> None:
    creator = Creator(tmp_path / "shorts")
    assert creator._temp_path("temp_a.mkv") == tmp_path / "shorts" / "temp_a.mkv"
    assert creator._temp_files == [tmp_path / "shorts" / "temp_a.mkv"]


# --- OutputManager


@pytest.mark.parametrize(
    ("name", "component"),
    [
        ("Suits", "Suits"),
        ("The Good  Place", "The_Good_Place"),
        ("a/b\\c", "a_b_c"),
        ("a\t\n b", "a_b"),
        ('<a>:"b|?*', "ab"),
        ("a...b..c.d", "a.b.c.d"),
        (" _-.a.-_ ", "a"),
        ("../../etc/passwd", "etc_passwd"),
        ("Grey's [Anatomy] (2005)!", "Grey's_[Anatomy]_(2005)!"),
        ("오징어 게임", "오징어_게임"),
        ("a ? b", "a__b"),
        ("a\0b", "ab"),
        ("", "Unknown"),
        ("..", "Unknown"),
        ("?*", "Unknown"),
    ],
)
def test_names_become_components_of_paths(name: str, component: str) -> None:
    assert sanitize_path_component(name) == component


@given(st.text())
def test_every_text_becomes_one_component_that_stays_as_it_is(name: str) -> None:
    component = sanitize_path_component(name, "fallback")
    assert component not in ("", ".", "..")
    assert "/" not in component
    assert sanitize_path_component(component) == component


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Suits - 1x01 - Pilot.720p.WEB-DL.srt", ("Suits", "1x01_Pilot")),
        ("Suits - 1x01 - The Pilot.srt", ("Suits", "1x01_The_Pilot")),
        ("Suits.S01E02.720p.HDTV.x264.srt", ("Suits", "S01E02")),
        ("suits.s1e2.en.srt", ("suits", "S01E02")),
        ("Suits.S01E02.srt", ("Suits", "S01E02")),
        ("The.Good.Place.S10E123.mkv", ("The.Good.Place", "S10E123")),
        ("Suits.720p.HDTV.S01E01.x.srt", ("Suits", "S01E01")),
        ("Suits.WEB-DL.S01E01.x.srt", ("Suits", "S01E01")),
        ("Suits_1x01_Pilot.mkv", ("Suits", "1x01_Pilot")),
        ("오징어 게임.S01E01.srt", ("오징어_게임", "S01E01")),
        ("Suits - 1x01 - ....srt", ("Suits", "1x01")),
        ("??.S01E01.srt", ("Unknown_Series", "S01E01")),
        ("holiday.mkv", ("Unknown_Series", "Unknown_Episode")),
        ("", ("Unknown_Series", "Unknown_Episode")),
        # A name without suffix loses its episode to it, here as in LangFlix.
        ("Suits.S01E02", ("Unknown_Series", "Unknown_Episode")),
    ],
)
def test_a_file_name_tells_series_and_episode(name: str, told: tuple[str, str], tmp_path: Path) -> None:
    assert parse_series_episode_from_string(name) == told
    if name:
        assert OutputManager(tmp_path).get_series_episode_name(f"/media/{name}") == told


LANGUAGE_PATHS = {
    "language_dir": "",
    "subtitles": "subtitles",
    "slides": "slides",
    "videos": "videos",
    "expressions": "expressions",
    "shorts": "shorts",
    "long": "long",
    "final_videos": "expressions",
    "context_slide_combined": "videos",
    "short_videos": "shorts",
    "long_form_videos": "long",
}


def test_every_key_of_a_language_resolves_to_a_directory_for_the_group(tmp_path: Path) -> None:
    manager = OutputManager(tmp_path / "out")
    episode = manager.create_episode_structure("The Good Place", "S01E01: Pilot")
    directory = tmp_path / "out" / "The_Good_Place" / "S01E01_Pilot"
    assert episode == {"episode_dir": directory}
    paths = manager.create_language_structure(episode, "ko")
    assert paths == {key: directory / "ko" / name for key, name in LANGUAGE_PATHS.items()}
    for path in (tmp_path / "out", directory, *paths.values()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o775
    assert manager.create_language_structure(episode, "ko") == paths  # again, as LangFlix does


@pytest.mark.parametrize(("series", "episode"), [("", ""), ("..", "/"), ("../..", "?")])
def test_no_name_leaves_the_output_directory(tmp_path: Path, series: str, episode: str) -> None:
    made = OutputManager(tmp_path).create_episode_structure(series, episode)
    assert made == {"episode_dir": tmp_path / "Unknown_Series" / "Unknown_Episode"}
    paths = OutputManager(tmp_path).create_language_structure(made, "../../ko")
    assert made["episode_dir"] in paths["language_dir"].parents


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({}, ("Suits", "S01E02")),
        ({"series_name": "Given"}, ("Suits", "S01E02")),
        ({"episode_name": "Given"}, ("Suits", "S01E02")),
        ({"series_name": "My Series", "episode_name": "E 1"}, ("My Series", "E 1")),
    ],
)
def test_the_whole_structure_in_one_call(
    tmp_path: Path, names: dict[str, str], told: tuple[str, str]
) -> None:
    paths = create_output_structure("/media/Suits.S01E02.srt", base_output_dir=tmp_path / "out", **names)
    series, episode = told
    directory = tmp_path / "out" / series.replace(" ", "_") / episode.replace(" ", "_")
    assert (paths["series_name"], paths["episode_name"]) == told
    assert paths["episode"] == {"episode_dir": directory}
    assert paths["language"]["short_videos"] == directory / "ko" / "shorts"


def test_the_output_directory_comes_from_the_environment_or_is_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LANGFLIX_OUTPUT_DIR", raising=False)
    assert OutputManager().base_output_dir == Path("output")
    monkeypatch.setenv("LANGFLIX_OUTPUT_DIR", "elsewhere")
    assert OutputManager().base_output_dir == Path("elsewhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "output"]


def test_permissions_are_set_as_far_as_they_can_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "a.mkv"
    file.write_bytes(b"")
    OutputManager.ensure_write_permissions(str(file), is_file=True)
    OutputManager.ensure_write_permissions(tmp_path)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, tmp_path)] == [0o664, 0o775]
    OutputManager.ensure_write_permissions(tmp_path / "missing")
    assert caplog.messages == []
    OutputManager.ensure_write_permissions(file / "below a file")
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_metadata_and_logs_lie_in_the_episode(tmp_path: Path) -> None:
    paths = create_output_structure("x.srt", base_output_dir=tmp_path)
    manager, episode = OutputManager(tmp_path), paths["episode"]
    for given_paths in (episode, paths):
        saved = manager.save_metadata(given_paths, {"expression": "눈치가 빠르네"})
        assert saved == episode["episode_dir"] / "expressions.json"
        assert saved.read_text(encoding="utf-8") == '{\n  "expression": "눈치가 빠르네"\n}'
    logged = manager.save_processing_log(episode, "눈치\n")
    assert logged.parent == episode["episode_dir"]
    datetime.strptime(logged.name, "processing_log_%Y%m%d_%H%M%S.txt")  # noqa: DTZ007
    assert logged.read_text(encoding="utf-8") == "눈치\n"


# --- the data model

FIVE = ["temp_video", "temp_slide", "temp_expression", "temp_audio", "temp_subtitle"]


def manifest() -> JobManifest:
    return JobManifest(
        "job-1",
        NOON,
        SHORT_FORM,
        {FileType.TEMP_SLIDE: [Path("/out/S/E/ko/slides/눈치.mkv")], FileType.LOG: [Path("/out/S/E/l.txt")]},
        {DirectoryType.SLIDES: [Path("/out/S/E/ko/slides")]},
        JobStatus.RUNNING,
        CleanupPolicy(),
    )


MANIFEST_JSON = """{
  "job_id": "job-1",
  "created_at": "2026-01-31T12:00:00",
  "job_type": "short_form",
  "files": {
    "temp_slide": [
      "/out/S/E/ko/slides/눈치.mkv"
    ],
    "log": [
      "/out/S/E/l.txt"
    ]
  },
  "directories": {
    "slides": [
      "/out/S/E/ko/slides"
    ]
  },
  "status": "running",
  "cleanup_policy": {
    "enabled": true,
    "retention_hours": 24,
    "file_types_to_clean": [
      "temp_video",
      "temp_slide",
      "temp_expression",
      "temp_audio",
      "temp_subtitle"
    ],
    "preserve_on_failure": true,
    "debug_mode_disables": true
  }
}"""


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (JobType, ["short_form", "long_form", "expression_only", "slides_only"]),
        (JobStatus, ["created", "running", "completed", "failed", "cleaning_up", "cleaned"]),
        (
            DirectoryType,
            ["base", "temp", "slides", "expressions", "shorts", "long_form", "metadata", "subtitles"],
        ),
        (FileType, [*FIVE, "final_video", "final_slide", "metadata", "manifest", "log"]),
    ],
)
def test_the_enums_have_langflix_members(kind: Any, values: list[str]) -> None:
    assert {member.name: member.value for member in kind} == {value.upper(): value for value in values}


def test_file_types_are_equal_to_those_of_lffs() -> None:
    assert {*FileType, model.FileType.OTHER} == set(model.FileType)


def test_a_policy_has_langflix_defaults_and_can_be_changed() -> None:
    policy = CleanupPolicy()
    assert (policy.enabled, policy.retention_hours) == (True, 24)
    assert policy.file_types_to_clean == FIVE
    assert (policy.preserve_on_failure, policy.debug_mode_disables) == (True, True)
    policy.file_types_to_clean.remove(FileType.TEMP_AUDIO)
    assert CleanupPolicy().file_types_to_clean == FIVE
    assert policy.should_clean_file_type(FileType.TEMP_VIDEO)
    assert not policy.should_clean_file_type(FileType.TEMP_AUDIO)
    assert CleanupPolicy(enabled=False).should_clean_file_type(FileType.TEMP_VIDEO)
    assert policy.is_cleanup_disabled_for_debug(True)
    assert not policy.is_cleanup_disabled_for_debug(False)
    policy.debug_mode_disables = False
    assert not policy.is_cleanup_disabled_for_debug(True)


@pytest.mark.parametrize(
    "changes",
    [
        {"retention_hours": -1},
        {"file_types_to_clean": ["temp_video"]},
        {"file_types_to_clean": (FileType.LOG,)},
    ],
)
def test_a_policy_that_can_not_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        CleanupPolicy(**changes).validate()
    CleanupPolicy(retention_hours=0, file_types_to_clean=[]).validate()


def test_a_structure_finds_its_directories() -> None:
    structure = DirectoryStructure(Path("/out"), slides_dir=Path("/out/slides"))
    structure.metadata_dir = Path("/out/metadata")
    structure.validate()
    assert structure.get_all_directories() == [Path("/out"), Path("/out/slides"), Path("/out/metadata")]
    found = {kind: structure.get_directory_by_type(kind) for kind in DirectoryType}
    assert {kind: path for kind, path in found.items() if path} == {
        DirectoryType.BASE: Path("/out"),
        DirectoryType.SLIDES: Path("/out/slides"),
        DirectoryType.METADATA: Path("/out/metadata"),
    }
    assert DirectoryStructure.from_library(structure.to_library()) == structure


@pytest.mark.parametrize("changes", [{"base_dir": None}, {"base_dir": "/out"}, {"temp_dir": "/out/temp"}])
def test_a_structure_of_other_things_than_paths_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        DirectoryStructure(**{"base_dir": Path("/out")} | changes).validate()


def test_a_result_counts_and_merges() -> None:
    one = CleanupResult(success=True, files_removed=[Path("a")], total_size_freed=3)
    one.add_error("odd")
    assert (one.success, one.has_failures, one.errors) == (True, False, ["odd"])
    two = CleanupResult(False, [], [Path("b")], [Path("c")], [Path("d")], ["why"], 4)
    assert two.has_failures
    both = one.merge(two)
    assert both == CleanupResult(False, [Path("a")], [Path("b")], [Path("c")], [Path("d")], ["odd", "why"], 7)
    assert (both.total_files_processed, both.total_directories_processed) == (2, 2)
    assert one.files_removed == [Path("a")]
    assert one.errors == ["odd"]


def test_a_manifest_adds_finds_and_removes() -> None:
    made = JobManifest("j", NOON, SHORT_FORM)
    assert (made.files, made.directories, made.status, made.cleanup_policy) == (
        {},
        {},
        JobStatus.CREATED,
        None,
    )
    for _ in range(2):
        made.add_file(Path("a"), FileType.TEMP_AUDIO)
        made.add_file(Path("b"), FileType.FINAL_VIDEO)
        made.add_directory(Path("d"), DirectoryType.TEMP)
    assert made.get_all_files() == [Path("a"), Path("b")]
    assert made.get_files_by_type(FileType.TEMP_AUDIO) == [Path("a")]
    assert made.get_files_by_type(FileType.LOG) == []
    assert made.get_all_directories() == made.get_directories_by_type(DirectoryType.TEMP) == [Path("d")]
    assert made.get_cleanable_files() == []
    made.cleanup_policy = CleanupPolicy(enabled=False)
    assert made.get_cleanable_files() == [Path("a")]
    assert (made.remove_file(Path("a")), made.remove_file(Path("a"))) == (True, False)
    assert (made.remove_directory(Path("d")), made.remove_directory(Path("d"))) == (True, False)
    assert made.get_all_files() == [Path("b")]


def test_a_manifest_is_written_as_langflix_writes_it(tmp_path: Path) -> None:
    manifest().save_to_file(tmp_path / "m.json")
    assert (tmp_path / "m.json").read_text(encoding="utf-8") == MANIFEST_JSON
    assert JobManifest.load_from_file(tmp_path / "m.json") == manifest()


def test_a_name_that_is_not_utf_8_survives(tmp_path: Path) -> None:
    made = JobManifest("j", NOON, SHORT_FORM, {FileType.LOG: [Path(os.fsdecode(b"\xff"))]})
    made.save_to_file(tmp_path / "m.json")
    assert JobManifest.load_from_file(tmp_path / "m.json") == made


def test_a_manifest_needs_three_keys_only() -> None:
    least = {"job_id": "j", "created_at": "2026-01-31T12:00:00", "job_type": "short_form"}
    assert JobManifest.from_dict(least) == JobManifest("j", NOON, SHORT_FORM)
    for key in least:
        with pytest.raises(KeyError, match=key):
            JobManifest.from_dict({name: value for name, value in least.items() if name != key})


@pytest.mark.parametrize(
    "changes",
    [
        {"job_type": "short"},
        {"status": "processing"},
        {"files": {"other": ["a"]}},
        {"directories": {"videos": ["a"]}},
        {"cleanup_policy": {"file_types_to_clean": ["slides"]}},
        {"created_at": "noon"},
    ],
)
def test_unknown_words_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        JobManifest.from_dict(json.loads(MANIFEST_JSON) | changes)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("job_id", ""),
        ("job_type", "short_form"),
        ("status", "running"),
        ("files", {"log": [Path("a")]}),
        ("files", {FileType.LOG: ["a"]}),
        ("directories", {"temp": [Path("a")]}),
        ("directories", {DirectoryType.TEMP: ["a"]}),
        ("cleanup_policy", CleanupPolicy(retention_hours=-1)),
    ],
)
def test_a_manifest_that_can_not_be_is_refused(attribute: str, value: object) -> None:
    made = manifest()
    made.validate()
    setattr(made, attribute, value)
    with pytest.raises(ValueError):
        made.validate()


texts = st.text(st.characters(blacklist_characters="\0"), min_size=1)
paths = st.lists(texts.map(Path), unique=True, max_size=3)
manifests = st.builds(
    JobManifest,
    texts,
    st.datetimes(),
    st.sampled_from(JobType),
    st.dictionaries(st.sampled_from(FileType), paths),
    st.dictionaries(st.sampled_from(DirectoryType), paths),
    st.sampled_from(JobStatus),
    st.none()
    | st.builds(
        CleanupPolicy,
        st.booleans(),
        st.integers(0, 1000),
        st.lists(st.sampled_from(FileType)),
        st.booleans(),
        st.booleans(),
    ),
)


@given(manifests)
def test_every_manifest_comes_back_from_its_json(made: JobManifest) -> None:
    assert JobManifest.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    made.validate()


def test_a_manifest_goes_to_lffs_and_back() -> None:
    there = manifest().to_library(Path("/out/S/E"))
    assert there.files[model.FileType.TEMP_SLIDE] == [Path("ko/slides/눈치.mkv")]
    assert there.created_at == NOON.replace(tzinfo=UTC)
    assert there.cleanup_policy == library.CleanupPolicy()
    there.add_file(Path("x"), model.FileType.OTHER)
    assert JobManifest.from_library(there, Path("/out/S/E")) == manifest()
    with pytest.raises(ValueError, match="/out/S/E"):
        manifest().to_library(Path("/elsewhere"))


def test_a_context_notes_files() -> None:
    context = JobContext(
        "j", SHORT_FORM, NOON, Path("/out"), Path("/out/m.json"), DirectoryStructure(Path("/out"))
    )
    for _ in range(2):
        context.add_temp_file(Path("t"))
        context.add_final_output(Path("f"))
    context.validate()
    assert context.get_all_tracked_files() == [Path("t"), Path("f")]
    assert (context.remove_temp_file(Path("t")), context.remove_temp_file(Path("t"))) == (True, False)
    assert context.remove_final_output(Path("f")) is True
    assert (context.temp_files, context.final_outputs) == ([], [])


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("job_id", ""),
        ("job_type", "short_form"),
        ("output_dir", "/out"),
        ("manifest_path", "/m"),
        ("directories", DirectoryStructure("/out")),  # type: ignore[arg-type]
        ("temp_files", ["t"]),
        ("final_outputs", ["f"]),
    ],
)
def test_a_context_that_can_not_be_is_refused(attribute: str, value: object) -> None:
    context = JobContext("j", SHORT_FORM, NOON, Path("/out"), Path("/m"), DirectoryStructure(Path("/out")))
    context.validate()
    setattr(context, attribute, value)
    with pytest.raises(ValueError):
        context.validate()
