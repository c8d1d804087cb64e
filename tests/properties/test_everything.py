"""All properties at once: files, links, renames, pins, statuses, hours, crashes and damage, in any order.

The machine that holds mount, manifest and disk against a dict (tests/fs) is taken further: hours pass
one by one, retention is what each job says, and the manifest store is damaged while it is closed.
"""

import os
import shutil
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.fs.test_filesystem import (
    NAMES,
    MountManifestAndDiskAgree,
    Oracle,
    OracleFile,
    OracleHidden,
    OracleJob,
    is_below,
)
from tests.properties.pipelines import examples
from tests.stores import fast_directory, problems, reap, tree

RETENTION_HOURS = 24


class OracleInTime(Oracle):
    """Knows the hour, and from when on a hidden file may go."""

    def __init__(self) -> None:
        super().__init__()
        self.hour = 0
        self.since: dict[int, int] = {}  # order of a hidden file → the hour that its retention begins

    def hide(self, job: OracleJob, path: str, file: OracleFile, *, by_unlink: bool) -> None:
        super().hide(job, path, file, by_unlink=by_unlink)
        self.since[self.order] = self.hour

    def complete(self, name: str) -> None:
        super().complete(name)
        for hidden in self.jobs[name].trash:
            if hidden.by_unlink:
                self.since[hidden.order] = self.hour

    def remove_directory(self, path: str) -> None:
        ended = len(self.ended)
        super().remove_directory(path)
        for job in self.ended[ended:]:
            for hidden in job.trash:
                if hidden.by_unlink:
                    self.since[hidden.order] = self.hour

    def is_due(self, hidden: OracleHidden) -> bool:
        return self.hour - self.since[hidden.order] >= RETENTION_HOURS

    def may_go_for_good(self) -> list[bytes]:
        """The contents that completing every job and waiting for ever may delete."""
        in_view = [
            file.content
            for path, file in self.files.items()
            if self.type_of(path) != "other" and not file.keep and not self.is_pinned(path)
        ]
        jobs = [*self.jobs.values(), *self.ended]
        return in_view + [hidden.file.content for job in jobs for hidden in job.trash]


def whole_trash(directory: Path) -> list[bytes]:
    found = tree(directory / ".lffs" / "trash").values()
    return sorted(content for content in found if content is not None)


class Everything(MountManifestAndDiskAgree):
    """Nothing is lost that was not to go, whatever happens."""

    oracle: OracleInTime

    def __init__(self) -> None:
        super().__init__()
        self.oracle = OracleInTime()
        self.steps = 0  # since the store was made

    # -- work ---------------------------------------------------------------------------------

    @initialize(content=st.binary(max_size=6))
    def a_pipeline_has_begun(self, content: bytes) -> None:
        """Without it most examples would never come to have a file."""
        for directory in ("a", "b", "a/b"):
            self.mkdir(directory)
        for path in ("a/a.tmp", "a/b.wav", "a/b/a.tmp", "a/b/c.mkv", "b/a.tmp"):
            self.create(path, content + path.encode(), leave_open=False)

    @rule(job=st.sampled_from(["a", "b"]), files=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))
    def a_pipeline_writes(self, job: str, files: list[str]) -> None:
        self.mkdir(job)
        for name in files:
            self.create(f"{job}/{name}", name.encode(), leave_open=False)

    @rule(which=st.integers(0, 100), job=st.sampled_from(["a", "b"]), name=st.sampled_from(NAMES))
    def a_pipeline_renames(self, which: int, job: str, name: str) -> None:
        self.rename_a_file(which, f"{job}/{name}", noreplace=False)

    @rule(which=st.integers(0, 100), keep=st.booleans())
    def a_job_completes_with_a_file_pinned(self, which: int, keep: bool) -> None:
        self.keep_a_file(which, keep)
        self.complete(which)

    # -- time ---------------------------------------------------------------------------------

    @rule(hours=st.sampled_from([1, 11, 12, 23, 24]))
    def hours_pass_and_the_reaper_comes(self, hours: int) -> None:
        self.clock.advance(hours)
        self.oracle.hour += hours
        reap(self.backing)
        being_written = {id(file) for _, file in self.handles}
        for file in being_written:  # its retention begins with the last close
            self.written(file)
        for name, job in [*self.oracle.jobs.items(), *((None, job) for job in self.oracle.ended)]:
            if name is None or job.status == "completed":
                job.trash = [
                    hidden
                    for hidden in job.trash
                    if not self.oracle.is_due(hidden)
                    or hidden.file.keep
                    or (name is not None and self.oracle.is_pinned(f"{name}/{hidden.path}"))
                ]

    def written(self, file: int) -> None:
        for job in [*self.oracle.jobs.values(), *self.oracle.ended]:
            for hidden in job.trash:
                if id(hidden.file) == file:
                    self.oracle.since[hidden.order] = self.oracle.hour

    @rule()
    def a_day_passes_and_the_reaper_comes(self) -> None:
        self.hours_pass_and_the_reaper_comes(25)

    @rule(which=st.integers(0, 100))
    def close_a_handle(self, which: int) -> None:
        if self.handles:
            _, file = self.handles[which % len(self.handles)]
            self.written(id(file))
        super().close_a_handle(which)

    def close(self, *, kill: bool) -> None:
        for _, file in self.handles:
            self.written(id(file))
        super().close(kill=kill)

    # -- damage -------------------------------------------------------------------------------

    @precondition(lambda self: self.steps >= 12)
    @rule(
        damage=st.sampled_from(["truncate", "flip", "delete"]),
        at=st.integers(0, 2**20),
        without_backups=st.booleans(),
    )
    def the_store_is_damaged_while_it_is_closed(self, damage: str, at: int, without_backups: bool) -> None:
        """After that a new life begins: no oracle knows what of the records came back."""
        self.close(kill=False)
        disk, trash = tree(self.directory), whole_trash(self.directory)
        state = self.directory / ".lffs"
        hurt(state / "manifest.db", damage, at)
        if without_backups:
            shutil.rmtree(state / "backups", ignore_errors=True)
        self.open()
        assert tree(self.directory) == disk
        assert whole_trash(self.directory) == trash
        assert {path: content for path, content in self.client.tree().items() if content is not None} == {
            path: content for path, content in disk.items() if content is not None
        }
        assert problems(self.backing) == {}
        self.nothing_goes_but_what_was_to_go(rebuilt=damage == "delete" and without_backups)
        self.close(kill=True)
        self.directory = self.life.enter_context(fast_directory())
        self.oracle = OracleInTime()
        self.open()
        self.a_pipeline_has_begun(b"")
        self.steps = 0

    def nothing_goes_but_what_was_to_go(self, *, rebuilt: bool) -> None:
        before = sorted([*self.all_contents()])
        for job in self.backing.jobs.live():
            self.client.set(job.id, "status", "completed")
        self.clock.advance(10_000)
        reap(self.backing)
        after = self.all_contents()
        lost = list(before)
        for content in after:
            lost.remove(content)
        may = [] if rebuilt else self.oracle.may_go_for_good()
        for content in lost:
            assert content in may, f"{content!r} was not to go"
            may.remove(content)

    def all_contents(self) -> list[bytes]:
        """What lies on disk and in the trash, a content for each name."""
        on_disk = [content for content in tree(self.directory).values() if content is not None]
        return on_disk + whole_trash(self.directory)

    # -- what must hold besides ---------------------------------------------------------------

    @invariant()
    def time_goes_on(self) -> None:
        self.steps += 1

    @invariant()
    def what_a_failed_job_made_is_in_view(self) -> None:
        for name, job in self.oracle.jobs.items():
            if job.status == "failed":
                made = {
                    path: file.content for path, file in self.oracle.files.items() if is_below(path, name)
                }
                assert {path: self.client.read(path) for path in made} == made


def hurt(path: Path, damage: str, at: int) -> None:
    size = path.stat().st_size
    if damage == "delete":
        path.unlink()
    elif damage == "truncate":
        os.truncate(path, at % size)
    else:
        content = bytearray(path.read_bytes())
        content[at // 8 % size] ^= 1 << at % 8
        path.write_bytes(content)


TestEverything = Everything.TestCase
TestEverything.settings = settings(examples(100), stateful_step_count=40)
