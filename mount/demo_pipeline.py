#!/usr/bin/env python3
"""A small stand-in for LangFlix: the same directories, names and system calls, with real ffmpeg.

It cuts language-learning clips out of an episode and leaves behind what such pipelines leave behind.
It knows nothing of the filesystem below OUT and needs only the standard library and ffmpeg, so one
run on a plain directory and one on a mount can be compared byte for byte: everything that ffmpeg
writes is bitexact, and dates come from --seed.

What differs from LangFlix: pictures are small, clips are short, two expressions make a chunk, there
is no LLM, and every second expression takes the editor's way without a master clip, so that one run
shows the names of both ways.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

log = logging.getLogger("demo_pipeline")

SIZE = (160, 90)  # of everything but the shorts
SHORT_SIZE = (108, 192)  # LangFlix: 1080x1920
RATE = 12  # frames a second
CLIP_S = 2.0  # an expression with its context
EXPRESSION_S = (0.6, 0.8)  # where in its clip the expression starts, and how long it lasts
CHUNK = 2  # expressions; LangFlix: what 200 subtitles hold
GROUP = 1000  # LangFlix hands what it writes to the group that its containers share

# As output options: no random UIDs, no dates, no encoder version, and x264 slices as one thread does.
BITEXACT = ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact", "-threads", "1"]
VIDEO = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "28", "-pix_fmt", "yuv420p"]
ENCODE = [*VIDEO, "-c:a", "aac", "-b:a", "32k", "-ar", "24000", "-ac", "1"]
REDRAW = [*VIDEO, "-c:a", "copy"]
COPY = ["-c", "copy"]
FIT = (
    f"scale={SIZE[0]}:{SIZE[1]}:force_original_aspect_ratio=decrease,"
    f"pad={SIZE[0]}:{SIZE[1]}:-1:-1,setsar=1,fps={RATE}"
)

# Text and translation.  The first two show what stays in a name (comma, exclamation mark, Hangul), the
# next what vanishes or is replaced, and one is longer than the 50 characters that a name may have.
PHRASES = (
    ("Hold on, wait a minute!", "잠깐만, 기다려!"),
    ("눈치가 빠르네", "you catch on quickly"),
    ("from the get-go: really?", "처음부터"),
    ("I am going to make you an offer that nobody could refuse today", "거절할 수 없는 제안"),
    ('the "real" deal... 🎬', "진짜"),
)


class PipelineError(Exception):
    """A step failed; the run ends."""


# --- names ------------------------------------------------------------------------------------------


def path_component(name: str, fallback: str) -> str:
    """Return *name* as LangFlix writes series and episodes; *fallback* if nothing is left."""
    name = re.sub(r"[\s/\\]+", "_", name)
    name = re.sub(r'[<>:"|?*\0]', "", name)
    return re.sub(r"\.{2,}", ".", name).strip(" _-.") or fallback


def expression_name(text: str) -> str:
    """Return *text* as LangFlix writes expressions: at most 50 characters, which may be 200 bytes."""
    name = re.sub(r"[\s-]", "_", text)
    return re.sub(r"[\\/*?:\"<>|'`.\x00-\x1f\x7f]", "", name)[:50]


@dataclass(frozen=True, slots=True)
class Expression:
    """One phrase worth learning; numbered from 1 over all chunks of a job."""

    number: int
    text: str
    translation: str

    @property
    def name(self) -> str:
        return expression_name(self.text)

    @property
    def numbered(self) -> str:
        return f"{self.number:02d}_{self.name}"

    @property
    def numbered_short(self) -> str:
        return f"{self.number:02d}_{self.name[:30]}"


def expressions(count: int) -> list[Expression]:
    """Return *count* expressions; past the end of the list they come again, under other names."""
    found = []
    for index in range(count):
        text, translation = PHRASES[index % len(PHRASES)]
        again = index // len(PHRASES)
        found.append(Expression(index + 1, f"Take {again + 1} {text}" if again else text, translation))
    return found


# --- what is written, and by whom it is cleaned ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Output:
    """OUT, and a record of what this run made in it: the summary must not name another run's files."""

    root: Path
    finals: dict[Path, None] = field(default_factory=dict)
    temporaries: dict[Path, None] = field(default_factory=dict)
    directories: dict[Path, None] = field(default_factory=dict)

    def mkdir(self, path: Path) -> Path:
        """Make *path*, as nearly every writer does for its own directory again and again."""
        path.mkdir(parents=True, exist_ok=True)
        for made in reversed([path, *path.parents]):
            if self.root in made.parents:
                self.directories[made] = None
        return path

    def temp(self, path: Path) -> Path:
        self.temporaries[path] = None
        return path

    def final(self, path: Path) -> Path:
        self.finals[path] = None
        return path

    def summary(self) -> dict[str, list[str]]:
        """Return what is there at the end, as paths relative to OUT."""
        return {
            "finals": self._relative(path for path in self.finals if path.exists()),
            "temporaries": self._relative(path for path in self.temporaries if path.exists()),
            "empty_directories": self._relative(
                path for path in self.directories if path.is_dir() and not _holds_a_file(path)
            ),
        }

    def _relative(self, paths: Iterable[Path]) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in paths)


def _holds_a_file(directory: Path) -> bool:
    return any(names for _, _, names in os.walk(directory))


def open_to_the_group(path: Path, *, is_file: bool = False) -> None:
    """LangFlix's ensure_write_permissions: an error is no reason to stop."""
    try:
        path.chmod(0o664 if is_file else 0o775)
        if path.stat().st_gid != GROUP:
            os.chown(path, -1, GROUP)
    except OSError as exc:
        log.warning("permissions of %s: %s", path, exc)


@dataclass(frozen=True, slots=True)
class LanguageDirectories:
    """The directories of one language.  All are made, whatever kind of job it is."""

    base: Path
    shorts: Path
    long: Path
    expressions: Path
    subtitles: Path
    slides: Path
    videos: Path

    @classmethod
    def of(cls, episode: Path, language: str) -> LanguageDirectories:
        base = episode / language
        names = ("shorts", "long", "expressions", "subtitles", "slides", "videos")
        return cls(base, *(base / name for name in names))

    def make(self, out: Output) -> None:
        for path in (
            self.base,
            self.subtitles,
            self.slides,
            self.videos,
            self.expressions,
            self.shorts,
            self.long,
        ):
            open_to_the_group(out.mkdir(path))

    @property
    def intermediate(self) -> tuple[Path, ...]:
        return (self.slides, self.subtitles, self.expressions, self.videos)


# --- ffmpeg -----------------------------------------------------------------------------------------


def ffmpeg(*arguments: str | Path, output: Path) -> Path:
    """Run ffmpeg, which truncates *output* before it can fail, and return *output*."""
    command = ["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    done = subprocess.run(
        [*command, *BITEXACT, str(output)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise PipelineError(
            f"ffmpeg could not make {output.name}: {reason[-1] if reason else done.returncode}"
        )
    return output


def duration_s(video: Path) -> float:
    """Ask ffprobe about a file, mostly one that was closed just now; like LangFlix, only once."""
    stat = video.stat()
    return _probe(video, stat.st_mtime_ns, stat.st_size)


@functools.cache
def _probe(video: Path, _mtime_ns: int, _size: int) -> float:
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(video)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    try:
        return float(done.stdout)
    except ValueError:
        raise PipelineError(f"{video} is no playable file: {done.stderr.strip()}") from None


def filter_path(path: Path) -> str:
    """Return *path* as a filter's option: escaped for the option, then for the filter graph."""
    option = re.sub(r"([\\':])", r"\\\1", str(path))
    return re.sub(r"([\\'\[\],;])", r"\\\1", option)


def write_concat_list(path: Path, videos: Iterable[Path]) -> Path:
    """Write the absolute paths of *videos* for ffmpeg's concat demuxer.

    LangFlix leaves an apostrophe as it is and then fails; OUT may have one here.
    """
    quoted = (str(video).replace("'", r"'\''") for video in videos)
    text = "".join(f"file '{video}'\n" for video in quoted)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return path


def concat(videos: Sequence[Path], output: Path) -> Path:
    """Join *videos* by way of a list in the system's temp directory."""
    with tempfile.NamedTemporaryFile(suffix=".txt", delete=False) as listed:
        pass
    try:
        write_concat_list(Path(listed.name), videos)
        return ffmpeg("-f", "concat", "-safe", "0", "-i", listed.name, *COPY, output=output)
    finally:
        Path(listed.name).unlink()


def copy_final(temp: Path, final: Path) -> None:
    """Copy with mode, times and every listed xattr, as LangFlix does."""
    try:
        shutil.copy2(temp, final)
    except PermissionError:  # the only error that LangFlix forgives
        shutil.copyfile(temp, final)
    open_to_the_group(final, is_file=True)


def srt(expression: Expression, width: int = 200) -> str:
    """Return subtitles of a clip, lines no longer than *width* characters."""
    text = re.sub(rf"(.{{1,{width}}})(?:\s|$)", r"\1\n", expression.text).strip()
    start, length = EXPRESSION_S
    cues = ((0.0, start, "..."), (start, start + length, f"{text}\n{expression.translation}"))
    return "\n".join(
        f"{number}\n{_srt_time(begin)} --> {_srt_time(end)}\n{line}\n"
        for number, (begin, end, line) in enumerate(cues, 1)
    )


def _srt_time(seconds: float) -> str:
    return f"00:00:{int(seconds):02d},{round(seconds % 1 * 1000):03d}"


# --- the stages -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for."""

    out: Path
    series: str
    episode: str
    languages: tuple[str, ...]
    expressions: tuple[Expression, ...]
    crash: str | None  # None, "kill" or "error"
    cleanup: str  # "none", "editor" or "service"
    long_form: bool
    slides: bool
    seed: int
    source: Path | None

    @property
    def chunks(self) -> list[tuple[Expression, ...]]:
        return [self.expressions[at : at + CHUNK] for at in range(0, len(self.expressions), CHUNK)]

    @property
    def crashes_in(self) -> tuple[str, int] | None:
        """The language and the number of the expression half-way through the run."""
        if self.crash is None:
            return None
        order = [
            (language, expression.number)
            for chunk in self.chunks
            for language in self.languages
            for expression in chunk
        ]
        return order[len(order) // 2]


class Pipeline:
    """One run.  `work` lies outside OUT, as LangFlix's uploads and slices do."""

    def __init__(self, plan: Plan, work: Path) -> None:
        self.plan = plan
        self.work = work
        self.out = Output(plan.out)
        self.episode = plan.out / plan.series / plan.episode
        self.languages = {code: LanguageDirectories.of(self.episode, code) for code in plan.languages}
        self.owned: list[Path] = []  # temporaries of the present editor
        self.listed: list[Path] = []  # the process-wide list
        self.source = plan.source or work / "episode.mkv"

    def run(self) -> None:
        self.make_directories()
        self.make_source()
        with self.cleaned_at_exit():
            for number, chunk in enumerate(self.plan.chunks, 1):
                self.ask_llm(number, chunk)
                for language in self.languages:
                    self.educational_videos(language, chunk)
                    if self.plan.long_form:
                        self.combine(language, chunk)
            for language in self.languages:
                self.shorts(language)
        if self.plan.cleanup == "service":
            self.remove_intermediates()

    def make_directories(self) -> None:
        """Everything at once, minutes before (in LangFlix) the first file is written."""
        log.info("directories of %s/%s: %s", self.plan.series, self.plan.episode, ", ".join(self.languages))
        open_to_the_group(self.out.mkdir(self.plan.out))
        open_to_the_group(self.out.mkdir(self.episode))
        for directories in self.languages.values():
            directories.make(self.out)

    def make_source(self) -> None:
        if self.plan.source is None:
            length = CLIP_S * len(self.plan.expressions)
            log.info("source video, %.0f s", length)
            picture = f"testsrc=size={SIZE[0]}x{SIZE[1]}:rate={RATE},hue=h={self.plan.seed * 40 % 360}"
            tone = f"sine=frequency={300 + self.plan.seed % 50 * 20}:beep_factor=3:sample_rate=24000"
            inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tone]
            ffmpeg(*inputs, "-t", str(length), *ENCODE, output=self.source)
        duration_s(self.source)

    def ask_llm(self, number: int, chunk: Sequence[Expression]) -> None:
        """Every chunk overwrites the files of the one before."""
        log.info("chunk %d of %d: %d expressions", number, len(self.plan.chunks), len(chunk))
        directory = self.out.mkdir(self.episode / "llm_responses")
        for directories in self.languages.values():
            self.out.mkdir(directories.base / "llm_responses")  # nothing is ever written there
        prompt = f"Which expressions of {self.plan.series} are worth learning? (chunk {number})\n"
        answer = json.dumps([expression.text for expression in chunk], ensure_ascii=False)
        for kind, text in (("prompt", prompt), ("response", answer)):
            path = self.out.final(directory / f"expression_analyst_{kind}.txt")
            path.write_text(text, encoding="utf-8")

    # VideoFactory and VideoEditor

    def educational_videos(self, language: str, chunk: Sequence[Expression]) -> None:
        """Make a video and a slide of each expression; the editor cleans up behind a language."""
        directories = self.languages[language]
        masters = []
        try:
            for expression in chunk:
                log.info("%s: expression %s", language, expression.numbered)
                with self.slice_of_source(expression) as clip:
                    master = self.master_clip(directories, expression, clip)
                    masters.append(master)
                    self.expression_video(language, expression, master)
                    if self.plan.slides:
                        self.slide(directories, expression, master)
            if self.plan.cleanup != "none":
                for master in masters:  # not reached, so leaked, when the run raises before
                    master.unlink(missing_ok=True)
        finally:
            self.editor_cleanup(directories)

    @contextlib.contextmanager
    def slice_of_source(self, expression: Expression) -> Iterator[Path]:
        """Yield a clip of the source in the temp directory: created empty, mode 600, then overwritten."""
        with tempfile.NamedTemporaryFile(
            dir=self.work, prefix=f"context_clip_{expression.numbered_short}_", suffix=".mkv", delete=False
        ) as created:
            clip = Path(created.name)
        room = max(duration_s(self.source) - CLIP_S, 0.0)
        start = min((expression.number - 1) * CLIP_S, room)
        cut: list[str | Path] = ["-ss", f"{start:.3f}", "-i", self.source, "-t", f"{CLIP_S}", "-vf", FIT]
        ffmpeg(*cut, *ENCODE, output=clip)
        yield clip
        clip.unlink()

    def master_clip(self, directories: LanguageDirectories, expression: Expression, clip: Path) -> Path:
        """Burn the subtitles in; the overlay writes a wrapped copy of them, which nobody ever removes."""
        self.out.mkdir(directories.subtitles)
        name = f"expression_{expression.numbered_short}.srt"
        subtitle = self.out.temp(directories.subtitles / name)
        subtitle.write_text(srt(expression), encoding="utf-8")
        if expression.number % 2:
            self.out.mkdir(directories.videos)
            master = directories.videos / f"temp_master_clip_burned_{expression.numbered_short}.mkv"
            self.out.temp(master)
        else:
            master = self.own(directories.expressions / f"temp_context_clip_{expression.name}.mkv")
            subtitle = self.own(directories.expressions / f"temp_adjusted_subtitle_{expression.name}.srt")
            subtitle.write_text(srt(expression), encoding="utf-8")
        wrapped = self.out.temp(subtitle.with_name(f"wrapped_{subtitle.name}"))
        wrapped.write_text(srt(expression, width=20), encoding="utf-8")
        burn = f"subtitles=filename={filter_path(wrapped)}"
        return ffmpeg("-i", clip, "-vf", burn, *ENCODE, output=master)

    def expression_video(self, language: str, expression: Expression, master: Path) -> None:
        directory = self.out.mkdir(self.languages[language].expressions)

        def temp(stem: str) -> Path:
            return self.own(directory / f"{stem}_{expression.name}.mkv")

        start, length = EXPRESSION_S
        cut: list[str | Path] = ["-ss", f"{start}", "-i", master, "-t", f"{length}"]
        clip = ffmpeg(*cut, *ENCODE, output=temp("temp_expr_clip_long_form"))
        reset = directory / f"temp_expr_clip_long_form_reset_{expression.name}.mkv"
        ffmpeg("-i", clip, *COPY, "-avoid_negative_ts", "make_zero", output=self.out.temp(reset))
        reset.replace(clip)
        looped = temp("temp_expr_repeated_long_form")
        ffmpeg("-stream_loop", "1", "-i", clip, *COPY, output=looped)
        context = ffmpeg("-i", master, *COPY, output=temp("temp_context_clip_reset"))
        moved = concat([context, self.transition(directory)], temp("temp_context_transition"))
        joined = concat([moved, looped], temp("temp_context_expr_long_form"))
        plain = ffmpeg("-i", joined, *COPY, output=temp("temp_long_form"))
        finished = temp("temp_long_form_with_logo")
        if self.plan.crashes_in == (language, expression.number):
            self.crash(plain, finished)
        # By language, so that no two languages' videos are the same bytes.
        logo = f"drawbox=x=iw-30:y=6:w=24:h=12:color=0x{zlib.crc32(language.encode()) & 0xFFFFFF:06x}:t=fill"
        ffmpeg("-i", plain, "-vf", logo, *REDRAW, output=finished)
        video = self.out.temp(directory / f"expression_{expression.numbered}.mkv")
        copy_final(finished, video)

    def transition(self, directory: Path) -> Path:
        """Return the one clip whose name has no expression in it: all of them share it."""
        path = self.own(directory / "temp_transition_1.2s_16x9.mkv")
        if path.exists():
            return path
        picture = f"color=c=white:size={SIZE[0]}x{SIZE[1]}:rate={RATE}:duration=0.5"
        silence = "anullsrc=channel_layout=mono:sample_rate=24000"
        inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", silence]
        return ffmpeg(*inputs, "-shortest", *ENCODE, output=path)

    def slide(self, directories: LanguageDirectories, expression: Expression, master: Path) -> None:
        """Show a picture while the expression is heard twice."""
        directory = directories.expressions
        start, length = EXPRESSION_S
        audio = self.own(directory / f"temp_expression_audio_{expression.name}.wav")
        cut: list[str | Path] = ["-ss", f"{start}", "-i", master, "-t", f"{length}", "-vn"]
        ffmpeg(*cut, "-c:a", "pcm_s16le", output=audio)
        twice = self.own(directory / f"temp_expression_audio_final_{expression.name}.wav")
        ffmpeg("-stream_loop", "1", "-i", audio, *COPY, output=twice)
        temp = self.own(directory / f"temp_slide_{expression.name}.mkv")
        picture = ["-f", "image2", "-pattern_type", "none", "-loop", "1", "-framerate", "4"]
        inputs: list[str | Path] = [*picture, "-i", self.background(), "-i", twice]
        ffmpeg(*inputs, "-vf", FIT, "-shortest", *ENCODE, output=temp)
        if temp.stat().st_size < 100:  # LangFlix's own check
            raise PipelineError(f"{temp.name} is empty")
        slide = self.out.temp(self.out.mkdir(directories.slides) / f"slide_{expression.name}.mkv")
        copy_final(temp, slide)

    def background(self) -> Path:
        """Write a picture of two colours that the seed chooses, without any image library."""
        path = self.work / "background.ppm"
        if not path.exists():
            width, height = SIZE
            colour = bytes((self.plan.seed * 50 % 256, 60, 120))
            band = bytes((240, 240, 240))
            rows = (band if height // 3 < row < height // 2 else colour for row in range(height))
            pixels = b"".join(row * width for row in rows)
            path.write_bytes(b"P6 %d %d 255\n" % (width, height) + pixels)
        return path

    def crash(self, source: Path, output: Path) -> None:
        """End the run while *output* is being written."""
        log.info("crashing while %s is written", output.name)
        if self.plan.crash == "error":  # ffmpeg opens its output before it finds the filter wrong
            ffmpeg("-i", source, "-vf", "crop=99999:99999", *REDRAW, output=output)
        endless = ["-f", "lavfi", "-i", "testsrc=size=640x360:rate=25", "-t", "60", "-c:v", "huffyuv"]
        command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-re", *endless, str(output)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as writer:
            while not output.exists() or output.stat().st_size < 256 * 1024:  # ffmpeg's buffer
                if writer.poll() is not None:
                    raise PipelineError(f"ffmpeg ended before it could be killed: {writer.returncode}")
                time.sleep(0.02)
            writer.kill()
        # LangFlix would leave its slices in the temp directory too; a demo does not litter there.
        shutil.rmtree(self.work)
        os.kill(os.getpid(), signal.SIGKILL)

    # VideoComposer

    def combine(self, language: str, chunk: Sequence[Expression]) -> None:
        """Join the expression videos of a chunk, over what the chunk before left there."""
        directories = self.languages[language]
        videos = [directories.expressions / f"expression_{one.numbered}.mkv" for one in chunk]
        usable = [video for video in videos if video.stat().st_size > 1000]
        log.info("%s: combined.mkv of %d videos", language, len(usable))
        listed = self.out.mkdir(directories.long) / "temp_concat_list_combined.txt"
        self.listed.append(self.out.temp(listed))
        write_concat_list(listed, usable)
        combined = self.out.final(directories.long / "combined.mkv")
        ffmpeg("-f", "concat", "-safe", "0", "-i", listed, *COPY, output=combined)
        open_to_the_group(combined, is_file=True)
        duration_s(combined)

    # ShortFormCreator

    def shorts(self, language: str) -> None:
        """Cut the shorts from the expression videos found on disk."""
        directories = self.languages[language]
        wanted = {f"expression_{one.numbered}": one for one in self.plan.expressions}
        try:
            for video in sorted(directories.expressions.glob("*.mkv")):
                if video.stem in wanted:
                    self.short(language, wanted[video.stem], video)
        finally:
            self.out.mkdir(directories.videos / "expressions")  # for a feature that is gone
            self.editor_cleanup(directories)

    def short(self, language: str, expression: Expression, video: Path) -> None:
        directories = self.languages[language]
        self.out.mkdir(directories.shorts)
        final = self.out.final(directories.shorts / f"short_form_{expression.numbered}.mkv")
        log.info("%s: %s", language, final.name)
        width, height = SHORT_SIZE
        scaled = self.out.temp(directories.expressions / f"temp_scaled_{expression.name}.mkv")
        fit = f"scale={width}:-2,pad={width}:{height}:-1:-1,setsar=1"
        ffmpeg("-i", video, "-vf", fit, *REDRAW, output=scaled)
        overlayed = self.out.temp(directories.expressions / f"temp_overlayed_{expression.name}.mkv")
        title = f"drawbox=x=4:y=8:w={width - 8}:h=20:color=yellow:t=fill"
        ffmpeg("-i", scaled, "-vf", title, *REDRAW, output=overlayed)
        final.unlink(missing_ok=True)
        copy_final(overlayed, final)
        if self.plan.slides:
            self.add_credit(final)
        if duration_s(final) <= 0:
            raise PipelineError(f"{final.name} has no length")
        self.sidecars(language, expression, final)

    def add_credit(self, final: Path) -> None:
        """Append the ending credit to a copy, then rename that onto the final."""
        temp = self.out.temp(final.with_name(f"temp_with_credit_{final.name}"))
        try:
            ffmpeg("-i", final, "-vf", "tpad=stop_mode=add:stop_duration=0.5", *REDRAW, output=temp)
        except PipelineError:
            temp.unlink(missing_ok=True)
            raise
        temp.replace(final)
        open_to_the_group(final, is_file=True)

    def sidecars(self, language: str, expression: Expression, final: Path) -> None:
        made = datetime(2026, 1, 31, 12, tzinfo=UTC) + timedelta(seconds=self.plan.seed)
        title = f"{self.plan.series}: {expression.text}"
        meta = {
            "expression": expression.text,
            "expression_translation": expression.translation,
            "title": title,
            "title_translation": expression.translation,
            "catchy_keywords": [self.plan.series, language],
            "language": language,
            "learn_language": "en",
            "show_name": self.plan.series,
            "generated_at": made.isoformat(),
        }
        text = json.dumps(meta, ensure_ascii=False, indent=2)
        self.out.final(final.with_suffix(".meta.json")).write_text(text, encoding="utf-8")
        lines = [title, expression.text, expression.translation, f"#{language}"]
        text = f"\n{'-' * 20}\n".join(lines) + "\n"
        self.out.final(final.with_suffix(".meta.txt")).write_text(text, encoding="utf-8")

    # cleanup, as far as LangFlix does it

    def own(self, path: Path) -> Path:
        """Register *path* with the editor and with the process-wide list."""
        self.owned.append(path)
        self.listed.append(path)
        return self.out.temp(path)

    def editor_cleanup(self, directories: LanguageDirectories) -> None:
        """Unlink the editor's files, then whatever in its directory looks like them."""
        if self.plan.cleanup != "none":
            found = [
                path
                for kind in ("mkv", "txt", "wav")
                for path in directories.expressions.glob(f"temp_*.{kind}")
            ]
            for path in [*self.owned, *found]:
                path.unlink(missing_ok=True)
        self.owned.clear()

    @contextlib.contextmanager
    def cleaned_at_exit(self) -> Iterator[None]:
        """Unlink what is on the process-wide list at the end, also when the run fails."""
        try:
            yield
        finally:
            if self.plan.cleanup != "none":
                for path in self.listed:
                    path.unlink(missing_ok=True)

    def remove_intermediates(self) -> None:
        """What the service does after a good run, and only then."""
        log.info("removing intermediates")
        for directories in self.languages.values():
            for directory in (directories.shorts, directories.expressions):
                for path in directory.glob("temp_*"):
                    path.unlink()
            for directory in directories.intermediate:
                shutil.rmtree(directory)
            for directory in (directories.shorts, directories.long):
                if not any(directory.iterdir()):
                    directory.rmdir()


# --- the command line -------------------------------------------------------------------------------


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def codes(text: str) -> tuple[str, ...]:
    """Return the language codes in *text*, each once."""
    found = tuple(dict.fromkeys(code.strip() for code in text.split(",")))
    if not all(re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)?", code) for code in found):
        raise argparse.ArgumentTypeError("must be codes with commas between them, like ko,ja")
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Make the output tree of LangFlix in OUT, with real ffmpeg and tiny videos.",
        epilog="On success a JSON summary of OUT goes to stdout: finals, temporaries, empty_directories.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the output directory, as LangFlix is given it")
    parser.add_argument("--series", required=True)
    parser.add_argument("--episode", required=True)
    parser.add_argument("--languages", type=codes, default=("ko",), metavar="ko,ja", help="default: ko")
    parser.add_argument("--expressions", type=positive, default=2, metavar="N", help="default: 2")
    parser.add_argument(
        "--crash",
        nargs="?",
        choices=("kill", "error"),
        const="error",
        help="die half-way: by SIGKILL, or by an error with exit status 1 (default)",
    )
    parser.add_argument(
        "--cleanup",
        choices=("none", "editor", "service"),
        default="none",
        help="what the pipeline removes itself: nothing (default), the editor's files, all of a good run",
    )
    parser.add_argument("--no-long", action="store_true", help="make no long/combined.mkv")
    parser.add_argument("--no-slides", action="store_true", help="make no slides and no ending credit")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another picture, tone and date")
    parser.add_argument(
        "--source", type=Path, metavar="FILE", help="an episode with sound (default: made up)"
    )
    parser.add_argument("-q", "--quiet", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pipeline; 0 done, 1 failed."""
    args = parse(arguments)
    logging.basicConfig(
        format="demo_pipeline: %(message)s", level=logging.WARNING if args.quiet else logging.INFO
    )
    plan = Plan(
        out=args.out.absolute(),
        series=path_component(args.series, "Unknown_Series"),
        episode=path_component(args.episode, "Unknown_Episode"),
        languages=args.languages,
        expressions=tuple(expressions(args.expressions)),
        crash=args.crash,
        cleanup=args.cleanup,
        long_form=not args.no_long,
        slides=not args.no_slides,
        seed=args.seed,
        source=args.source,
    )
    missing = [tool for tool in ("ffmpeg", "ffprobe") if shutil.which(tool) is None]
    if missing:
        log.error("not installed: %s", ", ".join(missing))
        return 1
    with tempfile.TemporaryDirectory(prefix="langflix_") as work:
        pipeline = Pipeline(plan, Path(work))
        try:
            pipeline.run()
        except (PipelineError, OSError) as exc:
            log.error("failed: %s", exc)
            return 1
    print(json.dumps(pipeline.out.summary(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
