"""The manifest's JSON is what interface.md promises, whatever the names, and is written in one step."""

import datetime
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lffs.manifest import export
from lffs.manifest.export import directory_type, encode, text, timestamp, write_export
from lffs.model import DirectoryType
from tests.stores import NOW_NS, Client, FakeClock, make_job, make_settings, opened, reap

KEYS = {
    "version", "job_id", "job_type", "status", "created_at", "updated_at", "files", "directories",
    "cleanup_policy", "entries",
}  # fmt: skip


def test_a_manifest_has_the_promised_keys_and_values(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path, clock=clock) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.mkdir("job/slides")
        client.mkdir("job/empty")
        client.write("job/slides/a.png", b"12345")
        client.write("job/v.mkv", b"123")
        client.symlink("v.mkv", "job/link")
        (job,) = backing.jobs.live()
        manifest = json.loads(encode(backing.manifest(job)))
    assert set(manifest) >= KEYS
    assert (manifest["version"], manifest["job_id"], manifest["job_type"], manifest["status"]) == (
        1, "job", "short_form", "running",
    )  # fmt: skip
    assert datetime.datetime.fromisoformat(manifest["created_at"]).timestamp() == NOW_NS / 1e9
    assert manifest["created_at"].endswith("+00:00")
    assert manifest["files"] == {"temp_slide": ["slides/a.png"], "final_video": ["v.mkv"], "other": ["link"]}
    assert manifest["directories"] == {"slides": ["slides"], "base": ["empty"]}
    assert manifest["cleanup_policy"] == {
        "enabled": True, "retention_hours": 24,
        "file_types_to_clean": ["temp_audio", "temp_expression", "temp_slide", "temp_subtitle", "temp_video"],
        "preserve_on_failure": True, "debug_mode_disables": True,
    }  # fmt: skip
    entry = manifest["entries"]["slides/a.png"]
    assert {key: entry[key] for key in ("type", "kind", "size", "state")} == {
        "type": "temp_slide", "kind": "file", "size": 5, "state": "present",
    }  # fmt: skip
    assert entry["created_by"]["uid"] == os.geteuid()
    assert entry["created_by"]["pid"] == os.getpid()
    assert manifest["entries"]["link"]["kind"] == "symlink"


def test_the_size_is_what_stat_says_while_a_file_is_written(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        client = Client(backing)
        client.mkdir("job")
        handle = client.create("job/a.tmp")
        client.fs.write(handle, 0, b"1234")
        (job,) = backing.jobs.live()
        assert backing.manifest(job)["entries"]["a.tmp"]["size"] == 4
        client.fs.release(handle)


def test_what_is_hidden_and_removed_stays_in_the_entries_alone(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path, clock=clock) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.mkdir("job/d")
        client.write("job/d/a.tmp", b"12")
        client.set("job", "status", "completed")
        (job,) = backing.jobs.live()
        manifest = backing.manifest(job)
        assert (manifest["files"], manifest["directories"], manifest["status"]) == ({}, {}, "completed")
        assert (manifest["entries"]["d/a.tmp"]["state"], manifest["entries"]["d/a.tmp"]["size"]) == (
            "hidden",
            2,
        )
        clock.advance(24)
        reap(backing)
        entry = backing.manifest(job)["entries"]["d/a.tmp"]
        assert (entry["state"], entry["removed_by"]) == ("removed", "retention is over")
        client.mkdir("job/d")
        client.write("job/d/a.tmp", b"anew")
        entry = backing.manifest(job)["entries"]["d/a.tmp"]
        assert (entry["state"], entry["size"]) == ("present", 4)


def test_names_that_are_no_utf_8_are_surrogates_in_ascii_json(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        client = Client(backing)
        client.mkdir(b"\xff")
        client.write(b"\xff/\xfe\n.tmp")
        (job,) = backing.jobs.live()
        encoded = encode(backing.manifest(job))
        manifest = json.loads(encoded)
    assert encoded.isascii()
    assert manifest["job_id"].encode("utf-8", "surrogateescape") == b"\xff"
    ((name, *_),) = manifest["files"].values()
    assert name.encode("utf-8", "surrogateescape") == b"\xfe\n.tmp"


def test_a_time_of_any_year_is_written() -> None:
    """A program may set any time; a year beyond 9999 must not keep the job from completing."""
    far_ns = (1 << 60) * 1_000_000_000
    assert timestamp(far_ns).startswith("9999-12-31")
    assert timestamp(-far_ns).startswith("0001-01-01")


@given(path=st.binary(max_size=20))
def test_text_loses_no_byte(path: bytes) -> None:
    assert text(path).encode("utf-8", "surrogateescape") == path


@given(moment_ns=st.integers(0, 4 * 10**18))
def test_a_timestamp_is_the_moment_to_the_microsecond(moment_ns: int) -> None:
    found = datetime.datetime.fromisoformat(timestamp(moment_ns))
    assert found.utcoffset() == datetime.timedelta(0)
    since = found - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert abs(since / datetime.timedelta(microseconds=1) - moment_ns / 1000) <= 1


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"temp", DirectoryType.TEMP),
        (b"ko/slides", DirectoryType.SLIDES),
        (b"expressions", DirectoryType.EXPRESSIONS),
        (b"shorts", DirectoryType.SHORTS),
        (b"long", DirectoryType.LONG_FORM),
        (b"long_form", DirectoryType.LONG_FORM),
        (b"metadata", DirectoryType.METADATA),
        (b"subtitles", DirectoryType.SUBTITLES),
        (b"slides/deeper", DirectoryType.BASE),
        (b"\xff", DirectoryType.BASE),
    ],
)
def test_a_directory_is_for_what_its_last_name_says(path: bytes, expected: DirectoryType) -> None:
    assert directory_type(path) is expected


# -- the file ---------------------------------------------------------------------------------------


def test_every_status_change_is_exported_where_interface_md_says(tmp_path: Path) -> None:
    with opened(tmp_path, make_settings(jobs={"roots": ("*/*",)})) as backing:
        client = Client(backing)
        client.mkdir("Suits")
        client.mkdir("Suits/S01E01")
        client.write("Suits/S01E01/a.tmp")
        for status in ("completed", "failed", "running"):
            client.set("Suits/S01E01", "status", status)
            exported = json.loads((tmp_path / ".lffs/manifests/Suits/S01E01.json").read_bytes())
            assert (exported["job_id"], exported["status"]) == ("Suits/S01E01", status)


def test_a_reader_finds_the_old_export_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    write_export(tmp_path, job, {"n": 1})
    before = (tmp_path / "job.json").read_bytes()
    assert json.loads(before)["n"] == 1

    def full(manifest: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "encode", full)
    with pytest.raises(OSError, match="No space left"):
        write_export(tmp_path, job, {"n": 2})
    assert (tmp_path / "job.json").read_bytes() == before
    monkeypatch.undo()
    write_export(tmp_path, job, {"n": 3})
    assert json.loads((tmp_path / "job.json").read_bytes())["n"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["job.json"]


def test_an_export_is_its_owners_and_follows_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / ".1.new").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic links"):
        write_export(tmp_path, make_job(), {})
    assert precious.read_bytes() == b"precious"
    (tmp_path / ".1.new").unlink()
    before = os.umask(0)
    try:
        write_export(tmp_path, make_job(), {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "job.json").stat().st_mode) == 0o600
