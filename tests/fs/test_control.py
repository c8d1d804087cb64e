"""The control tree shows jobs, manifests, hidden files and outputs; nobody changes anything in it."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lffs.fs.control import flat_names
from lffs.model import StatusNames
from tests.stores import ME, Client, FakeClock, error_of, make_settings, opened, reap

names = st.text("ab_2.", min_size=1, max_size=3).filter(lambda name: name.strip("."))
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: "/".join(parts).encode())


@given(finals=st.lists(paths, unique=True, max_size=12), data=st.data())
@example([b"a/b_c", b"a_b/c", b"x/b_c", b"x/c", b"a_b_c"], None)
def test_flat_names_are_flat_unique_and_always_the_same(
    finals: list[bytes], data: st.DataObject | None
) -> None:
    flat = flat_names(finals)
    assert sorted(flat.values()) == sorted(finals)  # so each path has one name
    assert all(b"/" not in name and 0 < len(name) <= 255 for name in flat)
    if data is not None:
        assert flat_names(data.draw(st.permutations(finals))) == flat


@given(finals=st.lists(paths, unique=True, max_size=12))
def test_only_a_name_that_two_share_gets_its_parents_in_front(finals: list[bytes]) -> None:
    last = [path.rpartition(b"/")[2] for path in finals]
    for name, path in flat_names(finals).items():
        own = path.rpartition(b"/")[2]
        assert name.endswith(own)
        if last.count(own) > 1:
            assert name.endswith(path.replace(b"/", b"_"))


def test_the_example_of_the_interface() -> None:
    assert flat_names([b"ko/shorts/x.mkv", b"es/shorts/x.mkv", b"ko/y.mkv"]) == {
        b"ko_shorts_x.mkv": b"ko/shorts/x.mkv",
        b"es_shorts_x.mkv": b"es/shorts/x.mkv",
        b"y.mkv": b"ko/y.mkv",
    }


def test_a_flat_name_is_never_too_long() -> None:
    deep = [b"d" * 200 + b"/" + b"e" * 200 + b"/x.mkv", b"f" * 200 + b"/" + b"e" * 200 + b"/x.mkv"]
    flat = flat_names(deep)
    assert len(flat) == 2
    assert all(len(name) <= 255 and name.endswith(b"x.mkv") for name in flat)


def follow(client: Client, path: str) -> str:
    """Where a link of the control tree leads, as a path below the mountpoint."""
    target = os.fsdecode(client.fs.readlink(client.number(path)))
    assert not target.startswith("/")
    return os.path.normpath(os.path.join(os.path.dirname(path), target))


@pytest.fixture
def client(tmp_path: Path) -> object:
    clock = FakeClock()
    with opened(tmp_path, make_settings(jobs={"roots": ("*/*",)}), clock) as backing:
        made = Client(backing)
        made.mkdir("Suits")
        for name in ("S01E01", "S01E02", "S01E03"):
            made.mkdir(f"Suits/{name}")
            made.write(f"Suits/{name}/a.tmp", name.encode())
        for path in ("ko", "es"):
            made.mkdir(f"Suits/S01E01/{path}")
            made.write(f"Suits/S01E01/{path}/x.mkv", path.encode())
        made.write("Suits/S01E01/y.mkv", b"y")
        made.set("Suits/S01E01", "status", "completed")
        made.set("Suits/S01E02", "status", "failed")
        yield made
        made.fs.close()


def test_it_resolves_and_is_never_listed(client: Client) -> None:
    assert client.list() == ["Suits"]
    assert client.list(".lffs") == ["by-status", "manifests", "outputs", "trash"]
    assert stat.S_ISDIR(client.stat(".lffs").mode)
    assert not client.exists(".lffs/nothing")
    assert not client.exists("Suits/.lffs")


def test_the_daemons_texts_are_files(client: Client) -> None:
    client.fs.control.texts[b"version"] = lambda: b"1.2\n"
    assert "version" in client.list(".lffs")
    assert client.read(".lffs/version") == b"1.2\n"
    assert client.stat(".lffs/version").size == 4


def test_manifests_are_the_jobs_own(client: Client) -> None:
    assert client.list(".lffs/manifests/Suits") == ["S01E01.json", "S01E02.json", "S01E03.json"]
    manifest = json.loads(client.read(".lffs/manifests/Suits/S01E01.json"))
    assert (manifest["job_id"], manifest["status"]) == ("Suits/S01E01", "completed")
    assert client.stat(".lffs/manifests/Suits/S01E01.json").size == 0  # as in /proc: made when opened


def test_a_text_is_read_in_pieces_as_it_was_when_opened(client: Client) -> None:
    lines = iter([b"size", b"size", b"first text", b"second text"])
    client.fs.control.texts[b"health"] = lambda: next(lines, b"later")
    client.lookup(".lffs/health")
    opened_text = client.fs.open(client.number(".lffs/health"), os.O_RDONLY, ME)
    assert opened_text.direct_io  # the size may change between stat and read
    whole = client.fs.read(opened_text.handle, 0, 100)
    assert client.fs.read(opened_text.handle, 2, 3) == whole[2:5]
    client.fs.release(opened_text.handle)


def test_the_trash_shows_hidden_files_readable_and_as_they_lie(client: Client) -> None:
    assert client.list(".lffs/trash/Suits") == ["S01E01"]
    assert client.list(".lffs/trash/Suits/S01E01") == ["a.tmp"]
    path = ".lffs/trash/Suits/S01E01/a.tmp"
    assert client.read(path) == b"S01E01"
    found = client.stat(path)
    assert (found.size, stat.S_IMODE(found.mode) & 0o222) == (6, 0)


def test_the_trash_of_a_removed_job_stands_beside_that_of_the_new_one(tmp_path: Path) -> None:
    clock = FakeClock()
    with opened(tmp_path, clock=clock) as backing:
        client = Client(backing)
        for content in (b"old", b"new"):
            client.mkdir("job")
            client.write("job/a.tmp", content)
            client.set("job", "status", "completed")
            if content == b"old":
                client.rmdir("job")
                assert client.list(".lffs/trash") == ["job"]
        assert client.list(".lffs/trash") == ["job", "job.~1~"]
        assert client.read(".lffs/trash/job.~1~/a.tmp") == b"old"
        assert client.read(".lffs/trash/job/a.tmp") == b"new"
        clock.advance(24)
        reap(backing)
        assert client.list(".lffs/trash") == []


def test_by_status_names_carry_the_suffix_and_lead_to_the_jobs(client: Client) -> None:
    found = {
        status: client.list(f".lffs/by-status/{status}/Suits")
        for status in ("running", "completed", "failed")
    }
    assert found == {
        "running": ["S01E03_processing"], "completed": ["S01E01_completed"], "failed": ["S01E02_failed"],
    }  # fmt: skip
    assert follow(client, ".lffs/by-status/failed/Suits/S01E02_failed") == "Suits/S01E02"
    client.set("Suits/S01E02", "status", "running")
    assert not client.exists(".lffs/by-status/failed/Suits")


def test_by_status_shows_the_suffix_where_the_tree_does_not(tmp_path: Path) -> None:
    with opened(tmp_path, make_settings(jobs={"status_names": StatusNames.PLAIN})) as backing:
        client = Client(backing)
        client.mkdir("job")
        client.set("job", "status", "failed")
        assert client.list() == ["job"]
        assert client.list(".lffs/by-status/failed") == ["job_failed"]


def test_outputs_are_flat_links_to_the_finals(client: Client) -> None:
    top = ".lffs/outputs/Suits/S01E01"
    assert client.list(top) == ["es_x.mkv", "ko_x.mkv", "y.mkv"]
    assert follow(client, f"{top}/ko_x.mkv") == "Suits/S01E01/ko/x.mkv"
    assert follow(client, f"{top}/y.mkv") == "Suits/S01E01/y.mkv"


def test_nobody_changes_anything_there(client: Client) -> None:
    number = client.number(".lffs/outputs/Suits/S01E01")
    fs, root = client.fs, 1
    link = client.number(".lffs/outputs/Suits/S01E01/y.mkv")
    text = client.number(".lffs/manifests/Suits/S01E01.json")
    calls: list[tuple[Any, ...]] = [
        (fs.mkdir, number, b"x", 0o755, ME),
        (fs.create, number, b"x", 0o644, os.O_RDWR, ME),
        (fs.mknod, number, b"x", stat.S_IFIFO, 0, ME),
        (fs.symlink, number, b"x", b"target", ME),
        (fs.link, text, root, b"x", ME),
        (fs.link, client.number("Suits/S01E01/y.mkv"), number, b"x", ME),
        (fs.unlink, number, b"y.mkv"),
        (fs.rmdir, root, b".lffs"),
        (fs.unlink, root, b".lffs"),
        (fs.rename, number, b"y.mkv", root, b"x", 0),
        (fs.rename, root, b"Suits", number, b"x", 0),
        (fs.rename, root, b"Suits", root, b".lffs", 0),
        (fs.rename, root, b".lffs", root, b"x", 0),
        (fs.open, text, os.O_WRONLY, ME),
        (fs.open, text, os.O_RDONLY | os.O_TRUNC, ME),
        (fs.setxattr, number, b"user.x", b"1", ME),
        (fs.removexattr, number, b"user.x", ME),
    ]
    before = client.tree()
    for call in calls:
        assert error_of(*call) == errno.EPERM, call
    for call in ((fs.mkdir, root, b".lffs", 0o755, ME), (fs.create, root, b".lffs", 0o644, os.O_RDWR, ME)):
        assert error_of(*call) == errno.EEXIST
    assert client.fs.listxattr(link) == []
    assert error_of(fs.getxattr, text, b"user.lffs.status") == errno.ENODATA
    assert client.tree() == before


def test_what_mirrors_a_job_is_as_closed_as_the_job(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        client = Client(backing)
        client.mkdir("job", 0o700)
        client.write("job/a.mkv")
        client.write("job/a.tmp")
        client.set("job", "status", "completed")
        (tmp_path / "job").chmod(0o700)
        modes = {
            path: stat.S_IMODE(client.stat(f".lffs/{path}").mode)
            for path in ("manifests/job.json", "outputs/job", "trash/job")
        }
        assert modes == {"manifests/job.json": 0o400, "outputs/job": 0o500, "trash/job": 0o500}


def test_a_forgotten_number_is_given_back(client: Client) -> None:
    number = client.number(".lffs/manifests")
    assert client.number(".lffs/manifests") == number
    client.forget()
    assert error_of(client.fs.getattr, number) == errno.ESTALE
    assert client.exists(".lffs/manifests")


def test_names_of_any_bytes_are_found_there(tmp_path: Path) -> None:
    with opened(tmp_path) as backing:
        client = Client(backing)
        client.mkdir(b"\xff")
        client.write(b"\xff/\xfe.tmp", b"1")
        client.write(b"\xff/\xfe.mkv", b"2")
        client.set(b"\xff", "status", "completed")
        assert client.read(b".lffs/trash/\xff/\xfe.tmp") == b"1"
        assert client.exists(b".lffs/outputs/\xff/\xfe.mkv")
        assert client.exists(b".lffs/manifests/\xff.json")
