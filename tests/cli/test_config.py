"""config check and config show."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Lffs


def test_a_good_configuration_is_checked_in_silence(lffs: Lffs, tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text("debug: true\n")
    done = lffs("config", "check", file)
    assert (done.status, done.out, done.err) == (0, "", "")
    assert json.loads(lffs("config", "check", file, "--json").out) == {"ok": True, "file": str(file)}


@pytest.mark.parametrize("profile", ["default", "langflix"])
def test_the_shipped_profiles_are_good(lffs: Lffs, profile: str) -> None:
    assert lffs("config", "check", profile).status == 0


def test_every_problem_is_named_with_file_and_line(lffs: Lffs, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("debug: true\ncleanupp: 1\njobs:\n  status_names: prefix\n")
    done = lffs("config", "check", file)
    assert (done.status, done.out) == (2, "")
    lines = done.err.splitlines()
    assert all(line.startswith(f"lffs: {file}:") for line in lines)
    assert {line.split(":")[2] for line in lines} == {"2", "4"}


def test_a_missing_file_is_wrong_usage(lffs: Lffs, tmp_path: Path) -> None:
    done = lffs("config", "check", tmp_path / "absent.yaml")
    assert done.status == 2
    assert "does not exist" in done.err


def test_the_effective_configuration_names_its_sources(
    lffs: Lffs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("cleanup:\n  retention_hours: 7\n")
    monkeypatch.setenv("LFFS_DEBUG", "1")
    shown = json.loads(lffs("config", "show", file, "--json").out)
    assert shown["cleanup.retention_hours"] == {"value": 7, "source": f"{file}:2"}
    assert shown["debug"] == {"value": True, "source": "environment LFFS_DEBUG"}
    assert shown["jobs.status_names"] == {"value": "suffix", "source": "default"}
    lines = lffs("config", "show", file).out.splitlines()
    assert lines[0] == "KEY\tVALUE\tSOURCE"
    assert f"cleanup.retention_hours\t7\t{file}:2" in lines
    assert len(lines) == len(shown) + 1
