"""clean, restore, explain, expiring, run and verify --repair, as a person types them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness import ROOT, Mounted, tree

pytestmark = pytest.mark.mounted


def lffs(*arguments: object, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the command line; nobody is at a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "lffs.cli", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def lffs_json(*arguments: object, status: int = 0) -> Any:
    done = lffs(*arguments, "--json")
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def shared(make_shared_mount: Callable[..., Mounted]) -> Mounted:
    return make_shared_mount()


def make_job(mounted: Mounted, job: str, *names: str) -> None:
    for name in names:
        path = mounted.path / job / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def test_a_dry_run_names_what_the_real_run_then_removes(shared: Mounted) -> None:
    make_job(shared, "dry", "temp_a.wav", "slides/s.png", "final.mkv")
    planned = lffs_json("clean", shared.path, "--job", "dry", "--dry-run")
    assert planned["removed"] == ["dry/slides/s.png", "dry/temp_a.wav"]
    assert planned["dry_run"] is True
    assert tree(shared.path / "dry", directories=False) == {"temp_a.wav", "slides/s.png", "final.mkv"}
    done = lffs_json("clean", shared.path, "--job", "dry", "--yes")
    assert done["removed"] == planned["removed"]
    assert done["bytes"] == planned["bytes"] > 0
    assert done["failed"] == []
    assert tree(shared.path / "dry", directories=False) == {"final.mkv"}
    assert shared.status("dry") == "running"


def test_without_a_terminal_clean_wants_yes(shared: Mounted) -> None:
    make_job(shared, "wants", "temp_a.wav")
    done = lffs("clean", shared.path, "--job", "wants")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert (shared.path / "wants" / "temp_a.wav").exists()


def test_a_pattern_that_matches_nothing_says_so_and_is_no_failure(shared: Mounted) -> None:
    done = lffs("clean", shared.path, "--pattern", "no-such-name", "--yes")
    assert done.returncode == 0
    assert "0 files removed" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--older-than", "soon"), ("--type", "rubbish"), ("--pattern", "!x"), ("--job", "../x")],
)
def test_wrong_usage_is_refused(shared: Mounted, arguments: tuple[str, str]) -> None:
    done = lffs("clean", shared.path, *arguments, "--yes")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_open_for_writing_is_reported_and_the_rest_goes(shared: Mounted) -> None:
    make_job(shared, "open", "temp_a.wav", "temp_b.wav")
    with (shared.path / "open" / "temp_a.wav").open("a") as file:
        done = lffs_json("clean", shared.path, "--job", "open", "--yes", status=1)
        file.write("!")
    assert done["removed"] == ["open/temp_b.wav"]
    assert [failure["path"] for failure in done["failed"]] == ["open/temp_a.wav"]
    assert (shared.path / "open" / "temp_a.wav").read_text() == "temp_a.wav!"


def test_clean_works_with_cleanup_off_and_in_debug_mode(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount("debug: true\ncleanup: {enabled: false}\n")
    make_job(mounted, "job", "temp_a.wav", "final.mkv")
    mounted.set_status("job", "completed")
    assert (mounted.path / "job" / "temp_a.wav").exists()
    assert lffs_json("clean", mounted.path, "--yes")["removed"] == ["job/temp_a.wav"]
    assert mounted.status("job") == "cleaned"


def test_restore_brings_hidden_files_back(shared: Mounted) -> None:
    make_job(shared, "back", "a/temp_a.wav", "temp_b.wav")
    shared.set_status("back", "completed")
    done = lffs_json("restore", shared.path, "back", "a/temp_a.wav")
    assert done == {"restored": ["a/temp_a.wav"], "failed": []}
    assert (shared.path / "back" / "a" / "temp_a.wav").read_text() == "a/temp_a.wav"
    assert not (shared.path / "back" / "temp_b.wav").exists()
    assert lffs_json("restore", shared.path, "back")["restored"] == ["temp_b.wav"]
    missing = lffs_json("restore", shared.path, "back", "nothing", status=1)
    assert [failure["path"] for failure in missing["failed"]] == ["nothing"]


def test_explain_names_the_rule_that_won_and_those_that_lost(shared: Mounted) -> None:
    make_job(shared, "why", "temp_expr_x.wav")
    found = lffs_json("explain", shared.path, "why/temp_expr_x.wav")
    assert found["type"] == "temp_audio"
    assert found["rule"] == {"match": "**/temp_*.wav", "type": "temp_audio"}
    lost = {"match": "**/temp_expr*", "type": "temp_expression", "why": "matches, but an earlier rule won"}
    assert lost in found["losers"]
    assert "completed" in found["fate"]
    shared.set_status("why", "completed")
    hidden = lffs_json("explain", shared.path, shared.path / "why_completed" / "temp_expr_x.wav")
    assert (hidden["state"], hidden["fate"]) == ("hidden", "deleted for good")
    assert hidden["at"] is not None


def test_expiring_lists_what_goes_until_then(shared: Mounted) -> None:
    make_job(shared, "soon", "temp_a.wav")
    shared.set_status("soon", "completed")
    assert lffs_json("expiring", shared.path, "--within", "1h") == []
    paths = [row["path"] for row in lffs_json("expiring", shared.path, "--within", "25h")]
    assert "soon/temp_a.wav" in paths


def test_run_completes_a_job_whose_command_succeeds(shared: Mounted) -> None:
    script = 'echo t > "$TMPDIR/scratch"; echo f > "$1/ok/final.mkv"'
    done = lffs("run", shared.path, "ok", "--type", "long_form", "--", "sh", "-c", script, "sh", shared.path)
    assert done.returncode == 0, done.stderr
    assert shared.status("ok") == "completed"
    assert os.getxattr(shared.path / "ok", "user.lffs.job_type") == b"long_form"
    assert tree(shared.path / "ok") == {"final.mkv"}
    assert shared.states("ok")["temp/scratch"] == "hidden"


@pytest.mark.parametrize("script", ["exit 3", "kill -9 $$"])
def test_run_fails_a_job_whose_command_fails(shared: Mounted, script: str) -> None:
    job = "failing" + script[:4]
    body = f'echo t > "$TMPDIR/scratch"; {script}'
    done = lffs("run", shared.path, job, "--", "sh", "-c", body)
    assert done.returncode == 1
    assert shared.status(job) == "failed"
    assert (shared.path / job / "temp" / "scratch").exists()


def test_run_of_no_such_command_fails_the_job(shared: Mounted) -> None:
    assert lffs("run", shared.path, "nocommand", "--", "/no/such/command").returncode == 1
    assert shared.status("nocommand") == "failed"


def test_run_wants_a_job_and_a_command(make_mount: Callable[..., Mounted]) -> None:
    mounted = make_mount('jobs: {roots: ["*/*"]}\n')
    assert lffs("run", mounted.path, "a/b", "--").returncode == 2
    assert lffs("run", mounted.path, "nojob", "--", "true").returncode == 2
    assert lffs("run", mounted.path, "a/../b", "--", "true").returncode == 2


def test_verify_repair_takes_in_what_appeared_beside_the_mount(shared: Mounted) -> None:
    make_job(shared, "beside", "a.txt")
    (shared.backing / "beside" / "b.txt").write_text("b")
    assert lffs_json("verify", shared.path, status=1)["missing"] == ["beside/b.txt"]
    assert lffs_json("verify", shared.path, "--repair")["ok"] is True
    assert (shared.path / "beside" / "b.txt").read_text() == "b"
    assert shared.manifest("beside")["entries"]["b.txt"]["origin"] == "adopted"
