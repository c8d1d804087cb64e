"""LangFlix's OutputManager: the directories of an episode and its languages, and their names.

The same directories under the same names and keys as LangFlix's own, since consumers use the paths as
keys.  All are made whether or not a job needs them; it is the mount that leaves the empty ones out.
"""

import json
import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lffs.integrations.langflix.permissions import ensure_write_permissions

log = logging.getLogger(__name__)

_UNKNOWN_SERIES = "Unknown_Series"
_UNKNOWN_EPISODE = "Unknown_Episode"

_LANGUAGE_DIRECTORIES = ("shorts", "long", "subtitles", "slides", "videos", "expressions")
# Keys of older versions, and the directory that each stands for today.
_LEGACY_KEYS = {
    "final_videos": "expressions",
    "context_slide_combined": "videos",
    "short_videos": "shorts",
    "long_form_videos": "long",
}

# How releases name an episode, the first that matches.  Either with a number (1x02) and a title, or with
# season and episode (S01E02) and anything behind.
_RELEASE_NAMES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<series>.+?)\s*-\s*(?P<number>\d+x\d+)\s*-\s*(?P<title>.+)",
        r"(?P<series>.+?)\.S(?P<season>\d+)E(?P<episode>\d+)(?:\..+)?",
        r"(?P<series>.+?)_(?P<number>\d+x\d+)_(?P<title>.+)",
    )
)
_FROM_RESOLUTION_ON = re.compile(r"\.\d+p\..*", re.IGNORECASE)
_FROM_SOURCE_ON = re.compile(r"\.(?:HDTV|WEB-DL|BluRay|DVDRip).*", re.IGNORECASE)


def sanitize_path_component(name: str, fallback: str = "Unknown") -> str:
    """Return *name* as one component of a path; *fallback* if nothing is left of it.

    Slashes and white space become underscores, what some filesystem forbids vanishes, and so does what
    would hide the file or leave the directory.  Every other character of any script stays.
    """
    name = re.sub(r"[\\/]+", "_", name or "")
    name = re.sub(r"\s+", "_", name)
    name = re.sub(r'[<>:"|?*\0]', "", name)
    return re.sub(r"\.{2,}", ".", name).strip(" _-.") or fallback


def parse_series_episode_from_string(filename: str) -> tuple[str, str]:
    """Return the series and the episode that a file's name tells, both fit for a path.

    The name has a suffix: what is behind its last dot counts for nothing.  Where it tells neither, both
    are unknown, and have names that say so.
    """
    stem = Path(filename).stem.removesuffix(".en")
    match = next(filter(None, (pattern.fullmatch(stem) for pattern in _RELEASE_NAMES)), None)
    if match is None:
        return _UNKNOWN_SERIES, _UNKNOWN_EPISODE
    told = match.groupdict()
    series = told["series"]
    if "season" in told:
        series = _FROM_SOURCE_ON.sub("", _FROM_RESOLUTION_ON.sub("", series))
        episode = f"S{int(told['season']):02d}E{int(told['episode']):02d}"
    else:
        episode = f"{told['number']}_{_FROM_RESOLUTION_ON.sub('', told['title'])}"
    return (
        sanitize_path_component(series, _UNKNOWN_SERIES),
        sanitize_path_component(episode, _UNKNOWN_EPISODE),
    )


class OutputManager:
    """Makes the directories below one output directory."""

    def __init__(self, base_output_dir: Path | str | None = None) -> None:
        """The default is LANGFLIX_OUTPUT_DIR, else ``output`` in the working directory."""
        if base_output_dir is None:
            base_output_dir = os.environ.get("LANGFLIX_OUTPUT_DIR", "output")
        self.base_output_dir = Path(base_output_dir)
        # Without its parents: a mountpoint that is missing is no directory to be made up.
        self.base_output_dir.mkdir(exist_ok=True)
        self.ensure_write_permissions(self.base_output_dir)

    @staticmethod
    def ensure_write_permissions(path: Path | str, is_file: bool = False) -> None:
        """Give *path* to the group that LangFlix's containers share, as far as that is allowed."""
        ensure_write_permissions(path, is_file)

    def create_episode_structure(self, series_name: str, episode_name: str) -> dict[str, Path]:
        """Make the episode's directory, which for lffs is the job's."""
        episode = self.base_output_dir.joinpath(
            sanitize_path_component(series_name, _UNKNOWN_SERIES),
            sanitize_path_component(episode_name, _UNKNOWN_EPISODE),
        )
        episode.mkdir(parents=True, exist_ok=True)
        self.ensure_write_permissions(episode)
        return {"episode_dir": episode}

    def create_language_structure(
        self, episode_paths: Mapping[str, Path], language_code: str
    ) -> dict[str, Path]:
        """Make the directories of a language, and return them under today's keys and the older ones."""
        # LangFlix takes the code as it is.  It comes from a form, and "../.." must not leave the job.
        language = episode_paths["episode_dir"] / sanitize_path_component(language_code)
        paths = {name: language / name for name in _LANGUAGE_DIRECTORIES}
        for path in (language, *paths.values()):
            path.mkdir(exist_ok=True)
            self.ensure_write_permissions(path)
        legacy = {key: paths[name] for key, name in _LEGACY_KEYS.items()}
        return {"language_dir": language, **paths, **legacy}

    def get_series_episode_name(self, subtitle_file_path: Path | str) -> tuple[str, str]:
        """Return the series and the episode that the file's name tells."""
        return parse_series_episode_from_string(Path(subtitle_file_path).name)

    def save_metadata(self, episode_paths: Mapping[str, Any], metadata: Mapping[str, Any]) -> Path:
        """Write *metadata* to the episode's expressions.json, over what was there."""
        path = _episode_dir(episode_paths) / "expressions.json"
        path.write_text(json.dumps(metadata, indent=2, ensure_ascii=False), encoding="utf-8")
        return path

    def save_processing_log(self, episode_paths: Mapping[str, Any], log_content: str) -> Path:
        """Write *log_content* to a file of the episode that the local time gives its name."""
        path = _episode_dir(episode_paths) / time.strftime("processing_log_%Y%m%d_%H%M%S.txt")
        path.write_text(log_content, encoding="utf-8")
        return path


def _episode_dir(paths: Mapping[str, Any]) -> Path:
    """Take what create_episode_structure returns, or create_output_structure."""
    episode: Path = paths.get("episode", paths)["episode_dir"]
    return episode


def create_output_structure(
    subtitle_file_path: Path | str,
    language_code: str = "ko",
    base_output_dir: Path | str | None = None,
    series_name: str | None = None,
    episode_name: str | None = None,
) -> dict[str, Any]:
    """Make all directories of an episode in one language.

    Unless both names are given they come from the subtitle's file name.
    """
    manager = OutputManager(base_output_dir)
    if not (series_name and episode_name):
        series_name, episode_name = manager.get_series_episode_name(subtitle_file_path)
    episode = manager.create_episode_structure(series_name, episode_name)
    log.info("output of %s, %s: %s", series_name, episode_name, episode["episode_dir"])
    return {
        "episode": episode,
        "language": manager.create_language_structure(episode, language_code),
        "series_name": series_name,
        "episode_name": episode_name,
    }
