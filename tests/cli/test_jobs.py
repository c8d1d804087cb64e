"""jobs, show, status, manifest and verify, asked of a daemon."""

import json

import pytest

from tests.cli.conftest import Lffs, Mounted
from tests.fake_daemon import make_job


def test_jobs_are_listed_a_row_each_and_for_people(lffs: Lffs, mounted: Mounted) -> None:
    done = lffs("jobs", mounted.mountpoint)
    assert done.status == 0
    assert done.err == ""
    header, first, second = done.out.splitlines()
    assert header.split("\t")[:4] == ["ID", "TYPE", "STATUS", "FILES"]
    assert first == "Suits/S01E01\tshort_form\tcompleted\t3\t4.0 KiB\t2\t2.0 KiB\t0 B\t1h30m\t-"
    assert second.endswith("\trunning")


def test_jobs_as_json_are_the_rows_as_they_are(lffs: Lffs, mounted: Mounted) -> None:
    done = lffs("jobs", mounted.mountpoint / "Suits", "--json")
    assert json.loads(done.out) == list(mounted.admin.rows.values())


def test_no_jobs_are_no_error(lffs: Lffs, mounted: Mounted) -> None:
    mounted.admin.rows.clear()
    assert json.loads(lffs("jobs", mounted.mountpoint, "--json").out) == []
    assert len(lffs("jobs", mounted.mountpoint).out.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ([], ["Suits/S01E01", "Suits/S01E02"]),
        (["--status", "completed"], ["Suits/S01E01"]),
        (["--status", "processing"], ["Suits/S01E02"]),
        (["--all"], ["Suits/S01E01", "Suits/S01E02", "Suits/S01E03"]),
    ],
)
def test_jobs_can_be_chosen(lffs: Lffs, mounted: Mounted, options: list[str], ids: list[str]) -> None:
    mounted.admin.rows["Suits/S01E03"] = make_job("Suits/S01E03", "removed")
    done = lffs("jobs", mounted.mountpoint, "--json", *options)
    assert [row["id"] for row in json.loads(done.out)] == ids


def test_a_status_that_does_not_exist_is_wrong_usage(lffs: Lffs, mounted: Mounted) -> None:
    done = lffs("jobs", mounted.mountpoint, "--status", "done")
    assert done.status == 2
    assert "created, running, completed, failed, cleaning_up, cleaned" in done.err


def test_a_name_can_neither_forge_a_row_nor_colour_the_terminal(lffs: Lffs, mounted: Mounted) -> None:
    name = "a\nb\tc\x1b[31m[red]\udcff ä"
    mounted.admin.rows = {name: make_job(name)}
    done = lffs("jobs", mounted.mountpoint)
    assert done.out.splitlines()[1].split("\t")[0] == r"a\nb\tc\x1b[31m[red]\xff ä"
    done = lffs("jobs", mounted.mountpoint, "--json")
    assert done.out.isascii()
    assert json.loads(done.out)[0]["id"] == name


def test_a_job_is_shown_in_full(lffs: Lffs, mounted: Mounted) -> None:
    mounted.admin.rows["Suits/S01E01"] |= {"policy": {"retention_hours": 24}, "finals": ["a.mkv", "b.mkv"]}
    lines = lffs("show", mounted.mountpoint, "Suits/S01E01").out.splitlines()
    assert "bytes\t4.0 KiB" in lines
    assert "age_s\t1h30m" in lines
    assert "policy.retention_hours\t24" in lines
    assert [line for line in lines if line.startswith("finals")] == ["finals\ta.mkv", "finals\tb.mkv"]
    done = lffs("show", mounted.mountpoint, "Suits/S01E01", "--json")
    assert json.loads(done.out) == mounted.admin.rows["Suits/S01E01"]


def test_a_job_is_found_by_id_and_by_any_path(
    lffs: Lffs, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mounted.mountpoint / "Suits").mkdir()
    monkeypatch.chdir(mounted.mountpoint / "Suits")
    for job in (
        "Suits/S01E01",
        "S01E01",
        "./S01E01",
        mounted.mountpoint / "Suits/S01E01",
        "../Suits/S01E01/",
    ):
        assert lffs("status", ".", job).out == "completed\n"


@pytest.mark.parametrize(("job", "status"), [("Suits/absent", 1), ("/elsewhere", 2), ("", 2)])
def test_a_job_that_is_none_is_said(lffs: Lffs, mounted: Mounted, job: str, status: int) -> None:
    done = lffs("show", mounted.mountpoint, job)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith("lffs: ")
    assert len(done.err.splitlines()) == 1


def test_a_status_is_set_in_silence_and_printed_when_asked(lffs: Lffs, mounted: Mounted) -> None:
    assert lffs("status", mounted.mountpoint, "Suits/S01E02").out == "running\n"
    done = lffs("status", mounted.mountpoint, "Suits/S01E02", "failed")
    assert (done.status, done.out, done.err) == (0, "", "")
    assert mounted.admin.rows["Suits/S01E02"]["status"] == "failed"
    done = lffs("status", mounted.mountpoint, "Suits/S01E02", "processing", "--json")
    assert json.loads(done.out) == {"job": "Suits/S01E02", "status": "running"}


@pytest.mark.parametrize("status", ["finished", "cleaned", "created", "Completed", ""])
def test_a_status_that_cannot_be_set_is_wrong_usage_and_sets_nothing(
    lffs: Lffs, mounted: Mounted, status: str
) -> None:
    done = lffs("status", mounted.mountpoint, "Suits/S01E02", status)
    assert done.status == 2
    assert "allowed are running, processing, completed, failed" in done.err
    assert mounted.admin.rows["Suits/S01E02"]["status"] == "running"


def test_a_busy_job_is_a_failure(lffs: Lffs, mounted: Mounted) -> None:
    mounted.admin.rows["Suits/S01E02"]["status"] = "cleaning_up"
    done = lffs("status", mounted.mountpoint, "Suits/S01E02", "failed")
    assert (done.status, done.err) == (1, "lffs: Suits/S01E02 is being cleaned up\n")


def test_a_manifest_is_json_with_or_without_the_option(lffs: Lffs, mounted: Mounted) -> None:
    plain = lffs("manifest", mounted.mountpoint, "Suits/S01E01")
    assert plain == lffs("manifest", mounted.mountpoint, "Suits/S01E01", "--json")
    assert json.loads(plain.out)["files"] == {"other": ["caf\udce9.txt"]}


def test_verify_says_whether_manifests_and_disk_agree(lffs: Lffs, mounted: Mounted) -> None:
    done = lffs("verify", mounted.mountpoint)
    assert (done.status, done.out, done.err) == (0, "", "lffs: the manifests agree with the disk\n")
    mounted.admin.problems = {"missing": ["Suits/S01E01/a\nb"], "phantom": ["x", "y"]}
    done = lffs("verify", mounted.mountpoint)
    assert done.status == 1
    assert done.out.splitlines() == ["missing\tSuits/S01E01/a\\nb", "phantom\tx", "phantom\ty"]
    assert done.err == "lffs: 1 missing, 2 phantom\n"
    done = lffs("verify", mounted.mountpoint, "--json")
    assert done.status == 1
    assert json.loads(done.out)["phantom"] == ["x", "y"]


def test_the_help_of_verify_says_what_missing_means(lffs: Lffs) -> None:
    done = lffs("verify", "--help")
    assert done.status == 0
    assert '"missing" means missing from the manifest' in " ".join(done.out.split())


def test_a_bug_in_the_daemon_is_a_failure_of_one_line(lffs: Lffs, mounted: Mounted) -> None:
    done = lffs("show", mounted.mountpoint, "broken")
    assert done.status == 1
    assert done.err.splitlines()[-1].startswith("lffs: internal error, see the daemon's log")


def test_a_mount_whose_daemon_is_gone_is_named(
    lffs: Lffs, mounted: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mounted.backing / ".lffs/control.sock").unlink()
    done = lffs("jobs", mounted.mountpoint)
    assert (done.status, done.err) == (1, f"lffs: no daemon serves {mounted.backing}\n")
    monkeypatch.setattr("lffs.library.session.is_dead_mount", lambda path: True)
    done = lffs("jobs", mounted.mountpoint)
    assert done.status == 1
    assert f"mount it again: lffs mount {mounted.backing} {mounted.mountpoint}" in done.err


def test_a_target_that_is_none_is_wrong_usage(lffs: Lffs, mounted: Mounted) -> None:
    for command in (["jobs"], ["verify"], ["show"], ["status"], ["manifest"]):
        job = [] if command[0] in ("jobs", "verify") else ["x"]
        done = lffs(*command, mounted.backing.parent, *job)
        assert done.status == 2
        assert "TARGET is an lffs mountpoint" in done.err
