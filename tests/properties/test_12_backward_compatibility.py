"""Property 12: every path that a consumer of the old layout used still resolves to the same bytes (5.5)."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lffs.config import find_profile, load_settings
from lffs.integrations.langflix import OutputManager
from tests.harness import Mounted
from tests.places import unmounted
from tests.properties.pipelines import IN_MEMORY, MOUNTED, InCore, InLibrary, InMount, contents
from tests.stores import FakeClock, fast_directory, opened

# What dashboard, uploader, scanner and file API have read, of every age; {} is an expression's text.
READ = [
    "ko/shorts/short_form_01_{}.mkv", "ko/shorts/short_form_01_{}.meta.json", "ko/long/combined.mkv",
    "ko/long/long-form_{}.mkv", "ko/expressions/educational_{}.mkv", "ko/videos/short-form_{}_001.mkv",
    "expressions.json", "llm_responses/{}.txt", "processing_log_{}.txt", "full_prompt_debug_{}.txt",
    "translations/ko/final_videos/{}x.mkv", "translations/ko/short_videos/{}x.mkv",
    "translations/ko/long_form_videos/{}x.mkv", "es/videos/{}x.mkv", "notes {}.txt",
]  # fmt: skip
# What went away when the job was over, then as now.
TRANSIENT = [
    "ko/shorts/temp_scaled_{}.mkv", "ko/slides/{}x.png", "ko/subtitles/{}x.srt",
    "ko/expressions/temp_slide_{}.mkv", "ko/expressions/expression_01_{}.mkv", "ko/long/temp_concat_{}.txt",
]  # fmt: skip
# Keys of older versions of its own path tables, and the directory of today.
KEYS = {
    "shorts": "shorts", "long": "long", "subtitles": "subtitles", "slides": "slides", "videos": "videos",
    "expressions": "expressions", "final_videos": "expressions", "context_slide_combined": "videos",
    "short_videos": "shorts", "long_form_videos": "long",
}  # fmt: skip

# Blanks are _ in an expression, and no dots; anything else may be there.
expressions = st.text(st.sampled_from("ab_'!,[](0한é🎬"), min_size=1, max_size=8)
statuses = st.lists(st.sampled_from(["running", "completed", "failed"]), min_size=1, max_size=2)
ALIASES = ["_processing", "_completed", "_failed"]


@dataclass(frozen=True)
class Episode:
    read: dict[str, bytes]
    transient: dict[str, bytes]


@st.composite
def episodes(draw: st.DrawFn) -> Episode:
    def some(templates: list[str], least: int) -> dict[str, bytes]:
        chosen = draw(st.lists(st.sampled_from(templates), min_size=least, max_size=3, unique=True))
        return {template.format(draw(expressions)): draw(contents) for template in chosen}

    return Episode(some(READ, 1), some(TRANSIENT, 0))


def run(site: InCore | InMount, episode: Episode, course: list[str], read: Callable[[str], bytes]) -> None:
    """Old paths read the same at every moment: while the job runs, after its end, when all is reaped."""

    def check() -> None:
        for path, content in episode.read.items():
            assert read(f"{site.job}/{path}") == content
        # Who kept a listed name from before goes on with it.
        path, content = next(iter(episode.read.items()))
        for alias in ALIASES:
            assert read(f"{site.job}{alias}/{path}") == content

    for path, content in (episode.read | episode.transient).items():
        site.write(path, content, "")
    check()
    for status in course:
        site.set_status(status)
        check()
        site.advance(30)
        check()
    site.set_status("completed")
    site.advance(30)
    check()
    # Who walks the tree finds the same paths, and nothing that was never meant for it.
    found = {path for path, content in site.view().items() if content is not None}
    assert found == set(episode.read)


@IN_MEMORY
@given(episode=episodes(), course=statuses, names=st.sampled_from(["plain", "suffix"]), label=expressions)
def test_old_paths_read_the_same_bytes(episode: Episode, course: list[str], names: str, label: str) -> None:
    clock = FakeClock()
    values = {"jobs.status_names": names}
    langflix = load_settings(find_profile("langflix"), {}, values).settings
    with fast_directory() as directory, opened(directory / "store", langflix, clock) as backing:
        site = InCore(backing, clock)
        site.client.mkdir("Suits")
        site.job = f"Suits/S01E01.{label}x"
        site.client.mkdir(site.job)
        run(site, episode, course, site.client.read)
        if names == "plain":
            assert site.client.list("Suits") == [site.job.partition("/")[2]]
        site.verify()
        site.client.fs.close()


@IN_MEMORY
@given(files=st.dictionaries(st.sampled_from(sorted(KEYS)), st.tuples(expressions, contents), min_size=1))
def test_the_librarys_old_keys_lead_to_the_same_files(files: dict[str, tuple[str, bytes]]) -> None:
    with fast_directory() as directory:
        settings = load_settings(find_profile("langflix")).settings
        with unmounted(directory / "store", settings) as place:
            site = InLibrary(place)
            site.job = "Suits/S01E01"
            site.start("short_form")
            check_keys(site.backing, files)
            site.set_status("completed")
            check_read(site.backing, files)


def check_keys(out: Path, files: dict[str, tuple[str, bytes]]) -> None:
    manager = OutputManager(out)
    paths = manager.create_language_structure(manager.create_episode_structure("Suits", "S01E01"), "ko")
    assert {key: str(path.relative_to(out / "Suits/S01E01/ko")) for key, path in paths.items()} == {
        "language_dir": ".", **KEYS,
    }  # fmt: skip
    for key, (name, content) in files.items():
        (paths[key] / f"{key}-{name}.bin").write_bytes(content)
    check_read(out, files)


def check_read(out: Path, files: dict[str, tuple[str, bytes]]) -> None:
    for key, (name, content) in files.items():
        path = Path("Suits/S01E01/ko", KEYS[key], f"{key}-{name}.bin")
        assert (out / path).read_bytes() == content


@pytest.fixture(scope="module")
def langflix_mount(make_shared_mount: Callable[..., Mounted]) -> Mounted:
    return make_shared_mount("langflix")


@pytest.mark.mounted
@MOUNTED
@given(episode=episodes(), course=statuses)
def test_through_a_mount_old_paths_read_the_same_bytes(
    langflix_mount: Mounted, episode: Episode, course: list[str]
) -> None:
    site = InMount(langflix_mount)
    site.job = f"Suits/{site.job}"
    site.directory.mkdir(parents=True)
    run(site, episode, course, lambda path: (langflix_mount.path / path).read_bytes())
    assert site.job.partition("/")[2] in os.listdir(langflix_mount.path / "Suits")
