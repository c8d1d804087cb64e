"""A real pipeline, unchanged, on a mount: the same bytes as on a plain directory, and nothing beside them."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import ROOT, Mounted, tree

pytestmark = pytest.mark.mounted

SMALL = ("--expressions", "1", "--no-long")


@dataclass(frozen=True)
class Run:
    """One run of the demo pipeline: what it said of itself, and whether it failed."""

    failed: bool
    finals: frozenset[str]
    temporaries: frozenset[str]


def run(out: Path, episode: str, *options: str) -> Run:
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "mount" / "demo_pipeline.py"), str(out),
            "--series", "S", "--episode", episode, "-q", *SMALL, *options,
        ],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        return Run(True, frozenset(), frozenset())
    said = json.loads(done.stdout)
    return Run(False, frozenset(said["finals"]), frozenset(said["temporaries"]))


def contents(top: Path) -> dict[str, bytes]:
    return {name: (top / name).read_bytes() for name in tree(top, directories=False)}


def below(job: str, names: frozenset[str]) -> set[str]:
    return {name.removeprefix(f"{job}/") for name in names}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """One whole and one failed run on a plain directory; every job's bytes are those of one of them."""
    out = tmp_path_factory.mktemp("plain")
    with ThreadPoolExecutor(2) as pool:
        failed = pool.submit(run, out, "failed", "--crash")
        whole = run(out, "whole")
        assert failed.result().failed
    assert not whole.failed
    return out, whole


def test_ten_jobs_half_of_them_failing_leave_what_is_promised(
    make_mount: Callable[..., Mounted], plain: tuple[Path, Run]
) -> None:
    mounted = make_mount("langflix")
    out, whole = plain
    finals = below("S/whole", whole.finals)
    expected_whole = contents(out / "S" / "whole")
    expected_failed = contents(out / "S" / "failed")
    assert finals < expected_whole.keys()

    def one_job(number: int) -> None:
        done = run(mounted.path, f"E{number:02}", *(["--crash"] if number % 2 else []))
        assert done.failed == bool(number % 2)
        mounted.set_status(f"S/E{number:02}", "failed" if done.failed else "completed")

    with ThreadPoolExecutor(2) as pool:  # two at a time: two pipelines write at once
        list(pool.map(one_job, range(10)))
    for number in range(10):
        job = f"S/E{number:02}"
        seen = contents(mounted.path / job)
        manifest = mounted.manifest(job)
        present = {name for name, one in manifest["entries"].items() if one["state"] == "present"}
        directories = {name for names in manifest["directories"].values() for name in names}
        assert present == seen.keys()
        assert present | directories == tree(mounted.path / job)
        if number % 2:
            assert seen == expected_failed
        else:
            assert seen == {name: expected_whole[name] for name in finals}
            hidden = {name for name, one in manifest["entries"].items() if one["state"] == "hidden"}
            assert hidden == expected_whole.keys() - finals
            assert not [name for name in tree(mounted.backing / job) if "temp_" in name]
    mounted.verify()
    mounted.advance(25)
    mounted.kill_and_remount()
    for number in range(1, 10, 2):
        assert contents(mounted.path / f"S/E{number:02}") == expected_failed


def test_several_languages_and_the_editors_own_cleaning(
    make_mount: Callable[..., Mounted], tmp_path: Path
) -> None:
    """What the pipeline unlinks itself comes back if it fails and goes if it completes."""
    mounted = make_mount("langflix")
    out = tmp_path / "plain"
    out.mkdir()
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(run, place, episode, "--languages", "ko,ja", *options)
            for place, episode, options in (
                (out, "whole", ()),
                (mounted.path, "done", ("--cleanup", "editor")),
                (out, "crashed", ("--crash",)),
                (mounted.path, "broken", ("--cleanup", "editor", "--crash")),
            )
        ]
        whole, done, crashed, broken = (one.result() for one in runs)
    assert [one.failed for one in (whole, done, crashed, broken)] == [False, False, True, True]
    assert mounted.in_trash(), "the editor unlinked nothing"
    mounted.set_status("S/done", "completed")
    mounted.set_status("S/broken", "failed")
    finals = below("S/whole", whole.finals)
    assert {name.split("/")[0] for name in finals} >= {"ko", "ja"}
    expected = contents(out / "S" / "whole")
    assert contents(mounted.path / "S" / "done") == {name: expected[name] for name in finals}
    # Everything that a run without any cleaning leaves is there again, and may be more: what the
    # editor removes on its way.
    kept = contents(mounted.path / "S" / "broken")
    expected = contents(out / "S" / "crashed")
    assert expected.items() <= kept.items()
    mounted.verify()


def test_a_pipeline_that_removes_whole_directories_gets_them_back_when_it_fails(
    make_mount: Callable[..., Mounted], plain: tuple[Path, Run]
) -> None:
    mounted = make_mount("langflix")
    out, whole = plain
    done = run(mounted.path, "E", "--cleanup", "service")
    assert not done.failed
    assert below("S/E", done.finals) == below("S/whole", whole.finals)
    mounted.set_status("S/E", "failed")
    assert contents(mounted.path / "S" / "E") == contents(out / "S" / "whole")
    mounted.set_status("S/E", "completed")
    finals = below("S/whole", whole.finals)
    assert tree(mounted.path / "S" / "E", directories=False) == finals
