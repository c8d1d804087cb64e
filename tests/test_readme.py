"""What README.md shows works: its Python is run, its commands are ones that there are."""

import re
from pathlib import Path

import pytest

from lffs.cli.main import make_parser
from tests.harness import ROOT

README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE))
def test_python_in_the_readme_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store").mkdir()
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})


def test_every_command_in_the_readme_is_there_and_every_command_is_in_the_readme() -> None:
    shown = set(re.findall(r"`lffs ([a-z]+)", README))
    there = {
        name
        for action in make_parser()._actions
        if isinstance(action.choices, dict)
        for name in action.choices
    }
    assert shown == there
