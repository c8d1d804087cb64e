"""What is told of a store: each row has exactly its keys, and why says what keeps a file on disk."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lffs.control.admin import Admin, admin_of_unmounted, open_unmounted
from lffs.errors import InvalidJobIdError, InvalidStatusError, MountError, StoreInUseError, UnknownJobError
from lffs.model import FileType, JobType
from lffs.work import settle
from tests.stores import Client, FakeClock, make_settings, opened, reap

ROW_KEYS = {
    "id",
    "type",
    "status",
    "files",
    "bytes",
    "temp_files",
    "temp_bytes",
    "hidden_bytes",
    "age_s",
    "why",
}


class Bench:
    """A filesystem and the administration beside it."""

    def __init__(self, client: Client, clock: FakeClock) -> None:
        self.client = client
        self.clock = clock
        self.admin = Admin(client.fs.backing, client.fs.change_status)

    def row(self, name: str = "job") -> dict[str, Any]:
        (found,) = [row for row in self.admin.jobs(None, all=True) if row["id"] == name]
        return found

    def make(self, *names: str, content: bytes = b"12345") -> None:
        if not self.client.exists("job"):
            self.client.mkdir("job")
        for name in names:
            self.client.write(f"job/{name}", content)

    def configure(self, **sections: Any) -> None:
        self.client.fs.backing.configure(make_settings(**sections))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    clock = FakeClock()
    with opened(tmp_path, clock=clock) as backing:
        client = Client(backing)
        yield Bench(client, clock)
        client.fs.close()


# -- rows -------------------------------------------------------------------------------------------


def test_a_row_has_exactly_the_promised_keys(bench: Bench) -> None:
    bench.make("a.tmp", "v.mkv")
    bench.client.link("job/v.mkv", "job/w.mkv")
    bench.clock.advance(0.5)
    assert bench.row() == {
        "id": "job", "type": "short_form", "status": "running", "files": 3, "bytes": 10, "temp_files": 1,
        "temp_bytes": 5, "hidden_bytes": 0, "age_s": 1800.0, "why": "running",
    }  # fmt: skip
    bench.client.set("job", "status", "completed")
    row = bench.row()
    assert set(row) == ROW_KEYS
    assert (row["files"], row["temp_files"], row["temp_bytes"], row["hidden_bytes"]) == (2, 0, 0, 5)


def test_jobs_come_by_id_and_by_status(bench: Bench) -> None:
    for name in ("c", "a", "b"):
        bench.client.mkdir(name)
    bench.client.set("a", "status", "failed")
    assert [row["id"] for row in bench.admin.jobs(None, all=False)] == ["a", "b", "c"]
    assert [row["id"] for row in bench.admin.jobs("failed", all=False)] == ["a"]
    assert bench.admin.jobs("completed", all=False) == []


def test_all_shows_removed_jobs_too(bench: Bench) -> None:
    bench.make("a.tmp")
    bench.client.set("job", "status", "completed")
    bench.client.rmdir("job")
    assert bench.admin.jobs(None, all=False) == []
    bench.client.mkdir("job")
    assert [row["status"] for row in bench.admin.jobs(None, all=True)] == ["removed", "created"]


def test_a_job_in_full_has_its_row_and_more(bench: Bench) -> None:
    bench.client.mkdir("job")
    bench.client.mkdir("job/d")
    bench.make("a.tmp", "b.tmp", "v.mkv")
    bench.client.set("job", "retention_hours", "2")
    shown = bench.admin.show("job_processing")
    assert set(shown) > ROW_KEYS
    assert shown["files_by_type"] == {"final_video": 1, "temp_video": 2}
    assert shown["directories"] == ["job", "job/d"] or shown["directories"] == ["d"]
    assert (shown["retention_hours"], shown["hidden_files"], shown["removed_files"]) == (2, 0, 0)
    bench.client.set("job", "status", "completed")
    assert bench.admin.show("job")["hidden_files"] == 2
    bench.clock.advance(24)
    reap(bench.client.fs.backing)
    assert (bench.admin.show("job")["hidden_files"], bench.admin.show("job")["removed_files"]) == (0, 2)


# -- calls ------------------------------------------------------------------------------------------


def test_the_status_is_told_and_set(bench: Bench) -> None:
    bench.make("a.tmp")
    assert bench.admin.status("job", None) == "running"
    assert settle(bench.admin.status("job", "completed")) == "completed"
    assert bench.client.list("job") == []
    assert settle(bench.admin.status("job_completed", "processing")) == "running"
    assert bench.client.list("job") == ["a.tmp"]
    with pytest.raises(InvalidStatusError):
        bench.admin.status("job", "cleaned")


def test_with_a_retention_of_zero_the_answer_comes_when_all_is_deleted(bench: Bench) -> None:
    bench.configure(cleanup={"retention_hours": 0})
    bench.make("a.tmp")
    assert settle(bench.admin.status("job", "completed")) == "cleaned"


@pytest.mark.parametrize("call", [Admin.show, Admin.manifest, lambda admin, job: admin.status(job, None)])
def test_a_job_that_is_none_is_said_so(bench: Bench, call: Callable[[Admin, str], object]) -> None:
    with pytest.raises(UnknownJobError, match="no job 'nothing'"):
        call(bench.admin, "nothing")
    with pytest.raises(InvalidJobIdError):
        call(bench.admin, "a/../b")


def test_the_manifest_and_verify_are_the_stores(bench: Bench) -> None:
    bench.make("a.tmp")
    assert bench.admin.manifest("job")["files"] == {"temp_video": ["a.tmp"]}
    assert settle(bench.admin.verify()) == {
        "ok": True, "missing": [], "phantom": [], "corrupt": [], "unowned": [],
    }  # fmt: skip
    (bench.client.fs.backing.path / "job/a.tmp").unlink()
    found = settle(bench.admin.verify())
    assert (found["ok"], found["phantom"]) == (False, ["job/a.tmp"])


# -- why --------------------------------------------------------------------------------------------


def test_a_job_without_temporaries_needs_no_reason(bench: Bench) -> None:
    bench.make("v.mkv")
    assert bench.row()["why"] == ""
    bench.client.set("job", "status", "failed")
    assert bench.row()["why"] == ""


def test_why_names_what_keeps_a_jobs_temporaries_by_its_status(bench: Bench) -> None:
    bench.make("a.tmp")
    assert bench.row()["why"] == "running"
    bench.client.set("job", "status", "failed")
    assert bench.row()["why"] == "failed: kept until someone cleans them"
    bench.configure(cleanup={"failed_retention_hours": 48})
    assert bench.row()["why"] == "failed: kept until 2027-01-17T08:00:00+00:00"


def test_why_names_the_time_until_which_files_are_hidden(bench: Bench) -> None:
    bench.make("a.tmp")
    bench.client.set("job", "status", "completed")
    assert bench.row()["why"] == "hidden until 2027-01-16T08:00:00+00:00"
    bench.clock.advance(24)
    assert bench.row()["why"] == "hidden, being deleted"
    reap(bench.client.fs.backing)
    assert bench.row()["why"] == ""


@pytest.mark.parametrize(
    ("sections", "why"),
    [({"cleanup": {"enabled": False}}, "cleanup is not enabled"), ({"debug": True}, "debug mode")],
)
def test_why_names_what_turns_cleaning_off(bench: Bench, sections: dict[str, Any], why: str) -> None:
    bench.make("a.tmp")
    bench.configure(**sections)
    bench.client.set("job", "status", "completed")
    assert bench.row()["why"] == why


def test_why_names_what_keeps_a_single_file(bench: Bench) -> None:
    bench.configure(cleanup={"file_types_to_clean": frozenset({FileType.TEMP_VIDEO})})
    bench.make("a.tmp", "b.wav", "v.mkv")
    bench.client.set("job/a.tmp", "keep", "1")
    bench.client.set("job", "status", "completed")
    assert bench.row()["why"] == (
        "cleanup.file_types_to_clean does not name temp_audio; pinned by user.lffs.keep"
    )


def test_why_names_what_was_written_since(bench: Bench) -> None:
    bench.make("v.mkv")
    bench.client.set("job", "status", "completed")
    bench.make("late.tmp")
    assert bench.row()["why"] == "written since; set completed again to hide them"


def test_why_names_a_writer(bench: Bench) -> None:
    bench.client.mkdir("job")
    handle = bench.client.create("job/a.tmp")
    bench.client.set("job", "status", "completed")
    assert bench.row()["why"] == "open for writing"
    bench.client.fs.release(handle)
    assert bench.row()["why"].startswith("hidden until")


def test_why_names_what_the_pipeline_unlinked(bench: Bench) -> None:
    bench.configure(cleanup={"keep_unlinked": frozenset({FileType.TEMP_AUDIO})})
    bench.make("a.wav")
    bench.client.unlink("job/a.wav")
    assert bench.row()["why"] == "running"
    bench.client.set("job", "status", "completed")
    assert bench.row()["why"].startswith("hidden until")


def test_why_names_what_was_adopted(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job/a.tmp").touch()
    with opened(tmp_path) as backing:
        bench = Bench(Client(backing), FakeClock())
        assert bench.row()["why"] == "adopted"
        bench.client.set("job", "status", "completed")
        assert bench.row()["why"] == "adopted: not seen being made"


# -- unmounted --------------------------------------------------------------------------------------


def test_an_unmounted_store_answers_the_same(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.write("job/temp_a")
        client.fs.close()
    with open_unmounted(tmp_path) as backing:
        admin = admin_of_unmounted(backing)
        assert [row["id"] for row in admin.jobs(None, all=False)] == ["job"]
        assert settle(admin.status("job", "completed")) == "completed"
        health = settle(admin.health())
        assert (health["mountpoint"], health["transport"], health["backing"]) == (None, None, str(tmp_path))
    assert (tmp_path / "job").is_dir()


def test_a_store_in_use_is_not_opened_beside(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(StoreInUseError), open_unmounted(tmp_path):
        pass


def test_a_directory_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="No such file"), open_unmounted(tmp_path / "nothing"):
        pass


def test_a_job_type_is_told_in_its_row(bench: Bench) -> None:
    bench.make("a.tmp")
    for job_type in JobType:
        bench.client.set("job", "job_type", job_type)
        assert bench.row()["type"] == job_type
