"""The demo pipeline on a plain directory: what it promises to whoever compares it with a mount.

ffmpeg really runs.  Runs are shared between tests, because each takes seconds.
"""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent.parent / "mount" / "demo_pipeline.py"
NAMES = ("Hold_on,_wait_a_minute!", "눈치가_빠르네")


@dataclass(frozen=True)
class Run:
    """One finished run and what it left in OUT/S/E."""

    out: Path
    status: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = json.loads(self.stdout)
        return found

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.out / "S" / "E")): path.read_bytes()
            for path in self.out.rglob("*")
            if path.is_file()
        }

    def finals(self) -> dict[str, bytes]:
        return {name: (self.out / name).read_bytes() for name in self.summary["finals"]}


def run(out: Path, *options: str) -> Run:
    command = [sys.executable, str(PROGRAM), str(out), "--series", "S", "--episode", "E", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return Run(out, done.returncode, done.stdout, done.stderr)


def runs_at_once(*calls: tuple[Path, *tuple[str, ...]]) -> list[Run]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda call: run(*call), calls))


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two whole runs, the second in a directory whose name filters and concat lists trip over."""
    base = tmp_path_factory.mktemp("twice")
    return runs_at_once((base / "plain",), (base / "it's [one], of: many", "-q"))


@pytest.fixture(scope="module")
def whole(twice: list[Run]) -> Run:
    return twice[0]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """A run that failed, one that was killed and one that failed and cleaned up behind itself."""
    base = tmp_path_factory.mktemp("broken")
    return runs_at_once(
        (base / "crashed", "--crash"),
        (base / "killed", "--crash=kill"),
        (base / "cleaned", "--crash", "--cleanup=editor"),
    )


@pytest.fixture(scope="module")
def crashed(broken: list[Run]) -> Run:
    return broken[0]


def test_it_imports_nothing_but_the_standard_library() -> None:
    """Else it could not show that a pipeline needs no change."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(PROGRAM.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported <= sys.stdlib_module_names


def test_a_run_leaves_finals_and_temporaries_under_langflix_names(whole: Run) -> None:
    first, second = NAMES
    assert whole.status == 0, whole.stderr
    ko = "ko"
    per_expression = [
        f"{ko}/expressions/{stem}_{name}.{kind}"
        for name in NAMES
        for stem, kind in (
            ("temp_context_clip_reset", "mkv"),
            ("temp_context_transition", "mkv"),
            ("temp_expr_clip_long_form", "mkv"),
            ("temp_expr_repeated_long_form", "mkv"),
            ("temp_context_expr_long_form", "mkv"),
            ("temp_long_form", "mkv"),
            ("temp_long_form_with_logo", "mkv"),
            ("temp_expression_audio", "wav"),
            ("temp_expression_audio_final", "wav"),
            ("temp_slide", "mkv"),
            ("temp_scaled", "mkv"),
            ("temp_overlayed", "mkv"),
        )
    ]
    finals = [
        f"{ko}/long/combined.mkv",
        "llm_responses/expression_analyst_prompt.txt",
        "llm_responses/expression_analyst_response.txt",
        *(
            f"{ko}/shorts/short_form_{number:02d}_{name}.{kind}"
            for number, name in enumerate(NAMES, 1)
            for kind in ("mkv", "meta.json", "meta.txt")
        ),
    ]
    temporaries = [
        *per_expression,
        *(f"{ko}/slides/slide_{name}.mkv" for name in NAMES),
        *(f"{ko}/expressions/expression_{number:02d}_{name}.mkv" for number, name in enumerate(NAMES, 1)),
        *(f"{ko}/subtitles/expression_{number:02d}_{name}.srt" for number, name in enumerate(NAMES, 1)),
        f"{ko}/expressions/temp_transition_1.2s_16x9.mkv",
        f"{ko}/long/temp_concat_list_combined.txt",
        f"{ko}/subtitles/wrapped_expression_01_{first}.srt",
        f"{ko}/videos/temp_master_clip_burned_01_{first}.mkv",
        f"{ko}/expressions/temp_context_clip_{second}.mkv",
        f"{ko}/expressions/temp_adjusted_subtitle_{second}.srt",
        f"{ko}/expressions/wrapped_temp_adjusted_subtitle_{second}.srt",
    ]
    assert whole.summary == {
        "finals": sorted(f"S/E/{name}" for name in finals),
        "temporaries": sorted(f"S/E/{name}" for name in temporaries),
        "empty_directories": ["S/E/ko/llm_responses", "S/E/ko/videos/expressions"],
    }
    assert sorted(whole.files()) == sorted([*finals, *temporaries])


def test_every_video_and_sound_plays(whole: Run) -> None:
    media = [path for path in whole.out.rglob("*") if path.suffix in {".mkv", ".wav"}]
    inputs = [argument for path in media for argument in ("-i", str(path))]
    maps = [argument for number in range(len(media)) for argument in ("-map", str(number))]
    decode = ["ffmpeg", "-nostdin", "-v", "error", "-xerror", *inputs, *maps, "-f", "null", "-"]
    done = subprocess.run(decode, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_second_run_elsewhere_makes_the_same_finals(twice: list[Run]) -> None:
    whole, again = twice
    assert (again.status, again.stderr) == (0, "")
    assert again.finals() == whole.finals()


def test_an_error_half_way_leaves_every_temporary(crashed: Run) -> None:
    first, second = NAMES
    assert (crashed.status, crashed.stdout) == (1, "")
    files = crashed.files()
    assert f"ko/expressions/expression_01_{first}.mkv" in files
    assert f"ko/expressions/temp_long_form_{second}.mkv" in files
    assert files[f"ko/expressions/temp_long_form_with_logo_{second}.mkv"] == b""  # O_TRUNC, then the error
    assert not [name for name in files if name.startswith("ko/shorts/")]
    assert (crashed.out / "S/E/ko/shorts").is_dir()


def test_a_kill_half_way_leaves_in_addition_a_file_cut_off(broken: list[Run]) -> None:
    crashed, killed, _ = broken
    assert (killed.status, killed.stdout) == (-signal.SIGKILL, "")
    before, after = crashed.files(), killed.files()
    cut_off = f"ko/expressions/temp_long_form_with_logo_{NAMES[1]}.mkv"
    assert before.pop(cut_off) == b""
    assert len(after.pop(cut_off)) >= 256 * 1024
    assert after == before


def test_the_editor_unlinks_what_it_registered_even_when_the_run_fails(broken: list[Run]) -> None:
    """This is why keeping a failed job's temporaries means outliving an unlink."""
    crashed, _, failed = broken
    assert failed.status == 1
    gone = set(crashed.files()) - set(failed.files())
    assert set(failed.files()) < set(crashed.files())
    assert {name.rpartition("/")[0] for name in gone} == {"ko/expressions"}
    left = [name for name in failed.files() if "/temp_" in name]
    assert left == [f"ko/videos/temp_master_clip_burned_01_{NAMES[0]}.mkv"]


def test_the_service_leaves_finals_alone_in_every_language(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(
        out, "--languages", "ko,ja", "--expressions", "1", "--no-slides", "--no-long", "--cleanup=service"
    )
    assert done.status == 0, done.stderr
    assert done.summary["temporaries"] == []
    assert done.summary["empty_directories"] == ["S/E/ja/llm_responses", "S/E/ko/llm_responses"]
    assert sorted(f"S/E/{name}" for name in done.files()) == done.summary["finals"]
    short = f"shorts/short_form_01_{NAMES[0]}.mkv"
    assert done.files()[f"ko/{short}"] != done.files()[f"ja/{short}"]
