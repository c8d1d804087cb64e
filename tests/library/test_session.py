"""Sessions: who answers for a store, for how long it is held, and what is left behind."""

import ast
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lffs
from lffs import (
    JobManager,
    JobType,
    LffsError,
    ManifestTracker,
    MountError,
    Settings,
    StoreInUseError,
    UnknownJobError,
    UsageError,
    open_store,
)
from lffs.backing import open_backing
from lffs.control.api import JsonObject
from lffs.library import session, settings_access
from lffs.mounting.table import find_target
from tests.fake_daemon import FakeAdmin, served_in_thread
from tests.harness import ROOT, Mounted
from tests.stores import FakeClock, descriptors_kept, make_settings


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


@contextlib.contextmanager
def held_elsewhere(store: Path) -> Iterator[threading.Event]:
    """Another thread has the store open until the event is set."""
    opened, may_close = threading.Event(), threading.Event()

    def hold() -> None:
        with open_store(store):
            opened.set()
            may_close.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    opened.wait()
    try:
        yield may_close
    finally:
        may_close.set()
        thread.join()


# -- which store ----------------------------------------------------------------------------------


def test_a_directory_becomes_a_store_when_it_is_opened_first(store: Path) -> None:
    with pytest.raises(UsageError):
        find_target(str(store))
    assert JobManager(store).get_job_context("job") is None
    assert find_target(str(store)).backing == store
    assert [path.name for path in store.iterdir()] == [".lffs"]


def test_what_can_be_no_store_is_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(UsageError, match="no such directory"), open_store(wrong):
            pass
    JobManager(store).start_job("job", "short_form")
    with pytest.raises(UsageError, match=f"lies in the backing store {store}"), open_store(store / "job"):
        pass
    assert not (store / "job" / ".lffs").exists()


def test_a_relative_path_means_the_directory_of_now(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.parent)
    jobs = JobManager("store")
    monkeypatch.chdir("/")
    assert jobs.start_job("job", "short_form").output_dir == store / "job"


# -- for how long ---------------------------------------------------------------------------------


def test_a_call_holds_the_store_no_longer_than_it_takes(store: Path) -> None:
    JobManager(store).start_job("job", "short_form")
    with descriptors_kept():
        JobManager(store).start_job("job", "short_form")
        with open_backing(store, make_settings()):
            pass


def test_a_call_waits_for_another_to_end(store: Path) -> None:
    with held_elsewhere(store) as may_close:
        threading.Timer(0.05, may_close.set).start()
        JobManager(store).start_job("job", "short_form")


def test_who_keeps_the_store_is_named_in_the_end(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LOCK_WAIT_S", 0.0)
    with held_elsewhere(store), pytest.raises(StoreInUseError, match=f"process {os.getpid()}"):
        JobManager(store).start_job("job", "short_form")


def test_within_a_session_calls_use_it(store: Path) -> None:
    with open_store(store, clock=FakeClock()) as opened:
        jobs = JobManager(store)
        assert jobs.start_job("job", "short_form").start_time.year == 2027  # the session's clock
        assert JobManager(opened).get_job_context("job") == jobs.get_job_context("job")
        with open_store(store) as inner:
            assert inner is opened
        assert jobs.get_job_context("job") is not None
        with pytest.raises(UsageError, match="is open in this thread already"), open_store(store, Settings()):
            pass
    with pytest.raises(ValueError, match="is closed"):
        JobManager(opened).get_job_context("job")
    assert jobs.get_job_context("job") is not None


# -- what is left behind --------------------------------------------------------------------------


def is_scanned_by_the_next(store: Path) -> bool:
    """Tell whether the next opening does not trust the records: it finds what nobody added."""
    (store / "job" / "unrecorded").write_text("")
    return ManifestTracker(store).get_manifest("job").get_all_files() != []


def test_what_goes_wrong_in_the_programs_block_is_no_unclean_end(store: Path) -> None:

    def program() -> None:
        with open_store(store) as opened:
            JobManager(opened).start_job("job", "short_form")
            raise KeyError

    with pytest.raises(KeyError):
        program()
    with pytest.raises(UnknownJobError):
        JobManager(store).complete_job("never", True)
    assert not is_scanned_by_the_next(store)


def test_after_a_bug_in_a_call_the_next_opening_scans(store: Path) -> None:
    with open_store(store) as opened:
        JobManager(opened).start_job("job", "short_form")
        with pytest.raises(ZeroDivisionError):
            opened.ask(lambda admin: str(1 // 0))
    assert is_scanned_by_the_next(store)


def test_what_nobody_added_is_nobodys_after_a_kill(store: Path) -> None:
    """A killed mount's own files are found again by a scan; here nobody but the program knows its files."""
    code = (
        "import os, sys\n"
        "from lffs import JobManager, open_store\n"
        "with open_store(sys.argv[1]) as store:\n"
        "    context = JobManager(store).start_job('job', 'short_form')\n"
        "    (context.output_dir / 'temp_mine.wav').write_text('x')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, store], check=False, cwd=ROOT).returncode == -9
    assert JobManager(store).complete_job("job", True).files_removed == []
    assert (store / "job/temp_mine.wav").exists()


# -- settings -------------------------------------------------------------------------------------


def test_the_settings_of_an_opening_are_remembered(store: Path) -> None:
    settings = make_settings(jobs={"roots": ("*/*",)}, cleanup={"retention_hours": 5})
    with open_store(store, settings) as opened:
        assert opened.settings() == settings
    with open_store(store) as opened:
        assert opened.settings() == settings
    JobManager(store).start_job("Suits/S01E01", "short_form")


def test_the_settings_that_the_process_uses_hold_for_stores_that_it_opens(store: Path) -> None:
    try:
        used = settings_access.use_settings(None, {"jobs.default_type": "long_form"})
        with open_store(store) as opened:
            assert opened.settings() == used
            assert opened.settings().jobs.default_type is JobType.LONG_FORM
    finally:
        settings_access.forget_settings()


def test_a_new_store_goes_by_the_environment(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFFS_DEBUG", "1")
    with open_store(store) as opened:
        assert opened.settings().debug


# -- mounted --------------------------------------------------------------------------------------


@pytest.mark.mounted
def test_a_mounted_store_is_its_daemons_by_whatever_path(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount()
    JobManager(mounted.path).start_job("job", "short_form")
    for path in (mounted.path, mounted.path / "job", mounted.backing, f"{mounted.path}/."):
        with open_store(path) as opened:
            assert opened.is_mounted
            assert opened.backing == mounted.backing
            assert opened.path_of("job/a") == mounted.path / "job/a"
            health: JsonObject = opened.ask(lambda admin: admin.health())
            assert health["pid"] == mounted.pid


@pytest.mark.mounted
def test_a_dead_mount_is_said_to_be_one(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount(verify=False)
    mounted.kill()
    with pytest.raises(MountError, match="a dead mount, its daemon is gone; mount it again"):
        JobManager(mounted.path).get_job_context("job")


def test_a_mount_that_is_not_seen_from_here_is_asked_and_nothing_is_made_beside_it(store: Path) -> None:
    """In another container: the lock is taken, and somebody answers on the socket."""
    with (
        open_backing(store, make_settings()),
        served_in_thread(FakeAdmin(), store / ".lffs"),
        open_store(store) as opened,
    ):
        assert opened.is_mounted
        health: JsonObject = opened.ask(lambda admin: admin.health())
        assert health["transport"] == "none"
        with pytest.raises(MountError, match="is mounted where this process does not see it"):
            opened.make_directory("job")
    assert not (store / "job").exists()


# -- the package ----------------------------------------------------------------------------------


def test_importing_lffs_is_cheap_and_its_names_need_no_fuse() -> None:
    code = (
        "import sys\n"
        "sys.modules['pyfuse3'] = sys.modules['trio'] = None\n"  # importing them is ImportError now
        "import lffs\n"
        "assert not {name for name in sys.modules if name.startswith('lffs.')}, sys.modules\n"
        "for name in lffs.__all__: getattr(lffs, name)\n"
        "from lffs import *\n"
        "assert JobManager.__name__ in dir(lffs)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        getattr(lffs, "Nothing")  # noqa: B009


def test_type_checkers_are_told_the_names_that_there_are() -> None:
    tree = ast.parse(Path(lffs.__file__).read_text())
    (declaring,) = [node for node in tree.body if isinstance(node, ast.If)]
    declared = {
        (node.module, alias.name)
        for node in declaring.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    found = {(f"lffs.{module}", name) for name, module in lffs._MODULE_OF.items()}
    assert declared == found
    assert {name for _, name in declared} | {"__version__"} == set(lffs.__all__)


def test_every_error_of_the_package_is_an_lffs_error() -> None:
    errors = [getattr(lffs, name) for name in lffs.__all__ if name.endswith("Error")]
    assert all(issubclass(error, LffsError) for error in errors)
