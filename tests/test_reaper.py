"""The reaper comes when something is due, trusts no clock that was set ahead, and survives every failure."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from lffs.errors import StoreError
from lffs.reaper import ClockGuard, Reaper
from lffs.units import MinFree
from tests.stores import HOUR_NS, Client, FakeClock, make_settings, opened

# -- the clock --------------------------------------------------------------------------------------


def test_time_that_passes_on_both_clocks_is_trusted() -> None:
    clock = FakeClock()
    guard = ClockGuard(clock)
    for hours in (0, 0.5, 24, 1000):
        clock.advance(hours)
        assert guard.look()


def test_a_wall_clock_set_ahead_by_more_than_an_hour_holds_the_reaper(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    guard = ClockGuard(clock)
    clock.now_wall_ns += HOUR_NS
    assert guard.look()  # by an hour and not more
    clock.now_wall_ns += HOUR_NS + 1
    for _ in range(3):
        assert not guard.look()
        clock.advance(5)
    assert guard.is_holding
    assert len(caplog.records) == 1
    assert "the clock was set ahead by 1.0 hours: nothing is reaped until it is back" in caplog.text


def test_a_clock_that_is_back_is_trusted_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = FakeClock()
    guard = ClockGuard(clock)
    clock.now_wall_ns += 48 * HOUR_NS
    assert not guard.look()
    clock.advance(1)
    clock.now_wall_ns -= 48 * HOUR_NS
    assert guard.look()
    assert not guard.is_holding
    assert "the clock is back" in caplog.text


def test_an_operator_can_say_that_the_clock_is_right() -> None:
    clock = FakeClock()
    guard = ClockGuard(clock)
    clock.now_wall_ns += 48 * HOUR_NS
    assert not guard.look()
    guard.trust()
    assert guard.look()


@given(drifts=st.lists(st.integers(-HOUR_NS, HOUR_NS), max_size=50))
def test_a_clock_that_drifts_slowly_never_adds_up_to_a_jump(drifts: list[int]) -> None:
    clock = FakeClock()
    guard = ClockGuard(clock)
    for drift_ns in drifts:
        clock.advance(1)
        clock.now_wall_ns += drift_ns
        assert guard.look()


# -- rounds -----------------------------------------------------------------------------------------


class Bench:
    """A mount's filesystem with a job, and a reaper."""

    def __init__(self, client: Client, clock: FakeClock) -> None:
        self.client = client
        self.clock = clock
        self.backing = client.fs.backing
        self._hidden = 0
        self.left: list[int] = []  # in the trash, each time that it became less
        self.heard: Callable[[], None] = lambda: None  # that something was deleted
        self.told: Callable[[], None] = lambda: None

    def changed(self) -> None:
        left = len(self.backing.store.trash())
        self.told()
        if left < self._hidden:
            self.left.append(left)
            self.heard()
        self._hidden = left

    def run(self, program: Callable[[Reaper], Awaitable[Any]], clock: trio.abc.Clock | None = None) -> Reaper:
        """Run *program* with a reaper in trio."""

        async def main() -> Reaper:
            reaper = Reaper(self.backing, self.client.fs, self.changed)
            self.client.fs.deadlines_changed = reaper.wake
            await program(reaper)
            return reaper

        return trio.run(main, clock=clock)

    def hidden(self) -> list[str]:
        return sorted(one.name.decode() for one in self.backing.store.trash())

    def hide(self, *names: str, content: bytes = b"12345") -> None:
        if not self.client.exists("job"):
            self.client.mkdir("job")
        for name in names:
            self.client.write(f"job/{name}", content)
        self.client.set("job", "status", "completed")
        self._hidden = len(self.backing.store.trash())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    clock = FakeClock()
    with opened(tmp_path, clock=clock) as backing:
        client = Client(backing)
        yield Bench(client, clock)
        client.fs.close()


async def one_round(reaper: Reaper) -> None:
    await reaper.round()


def test_a_round_deletes_what_is_due_and_counts_it(bench: Bench) -> None:
    bench.hide("a.tmp", "b.tmp")
    bench.clock.advance(12)
    bench.hide("c.tmp")
    bench.clock.advance(12)
    reaper = bench.run(one_round)
    assert bench.hidden() == ["c.tmp"]
    assert (reaper.reaped_files, reaper.reaped_bytes) == (2, 10)
    assert bench.left == [1]
    (job,) = bench.backing.jobs.live()
    assert [removal.why for removal in bench.backing.store.removals(job.number)] == ["retention is over"] * 2


def test_nothing_is_deleted_before_its_time_and_nobody_is_told(bench: Bench) -> None:
    bench.hide("a.tmp")
    bench.clock.advance(23.99)
    bench.run(one_round)
    assert (bench.hidden(), bench.left) == (["a.tmp"], [])


def test_nothing_is_deleted_while_the_clock_is_not_trusted(bench: Bench) -> None:
    bench.hide("a.tmp")

    async def set_the_clock(reaper: Reaper) -> None:
        bench.clock.now_wall_ns += 48 * HOUR_NS
        await reaper.round()
        assert bench.hidden() == ["a.tmp"]
        reaper.trust_clock()
        await reaper.round()

    bench.run(set_the_clock)
    assert bench.hidden() == []


def test_more_than_a_batch_is_deleted_in_one_round(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lffs.reaper._BATCH", 2)
    bench.hide(*(f"{number}.tmp" for number in range(5)))
    bench.clock.advance(24)
    bench.run(one_round)
    assert bench.left == [3, 1, 0]


def test_what_fails_is_tried_once_a_round(bench: Bench) -> None:
    bench.hide("a.tmp", "b.tmp")
    bench.clock.advance(24)
    with open(bench.backing.path / ".lffs/trash/1/a.tmp", "ab"):
        bench.run(one_round)
        assert (bench.hidden(), bench.left) == (["a.tmp"], [1])
    bench.run(one_round)
    assert bench.hidden() == []


def test_a_failed_job_is_released_from_view_after_its_own_retention(tmp_path: Path) -> None:
    clock = FakeClock()
    settings = make_settings(cleanup={"failed_retention_hours": 48, "retention_hours": 0})
    with opened(tmp_path, settings, clock) as backing:
        client = Client(backing)
        bench = Bench(client, clock)
        client.mkdir("job")
        client.write("job/a.tmp")
        client.write("job/v.mkv")
        client.set("job", "status", "failed")
        known = client.number("job/a.tmp")
        clock.advance(48)
        bench.run(one_round)
        assert client.list("job") == ["v.mkv"]
        assert known in client.kernel.aged_attributes
        assert bench.hidden() == []
        client.fs.close()


def low_disk(tmp_path: Path, *, overrides: bool, needed: float) -> list[str]:
    """What is left in the trash of four files when *needed* per cent must be free and nothing is due."""
    clock = FakeClock()
    settings = make_settings(
        cleanup={"min_free": MinFree(needed, is_percent=True), "min_free_overrides_retention": overrides}
    )
    with opened(tmp_path, settings, clock) as backing:
        bench = Bench(Client(backing), clock)
        for name in "dcba":
            bench.hide(f"{name}.tmp")
            clock.advance(1)
        bench.run(one_round)
        bench.client.fs.close()
        return bench.hidden()


def test_below_min_free_retention_is_kept_unless_the_configuration_says_otherwise(tmp_path: Path) -> None:
    """Nobody has a whole disk free: with 100% needed everything would go."""
    assert low_disk(tmp_path / "kept", overrides=False, needed=100) == ["a.tmp", "b.tmp", "c.tmp", "d.tmp"]
    assert low_disk(tmp_path / "overridden", overrides=True, needed=100) == []
    assert low_disk(tmp_path / "enough", overrides=True, needed=0) == ["a.tmp", "b.tmp", "c.tmp", "d.tmp"]


def test_records_of_removed_jobs_go_when_their_retention_is_over(bench: Bench) -> None:
    bench.hide("a.tmp")
    bench.client.rmdir("job")
    bench.clock.advance(24)
    bench.run(one_round)
    assert bench.backing.store.jobs(ended=True) == []


# -- the task ---------------------------------------------------------------------------------------


async def until(bench: Bench, reaper: Reaper, do: Callable[[], None]) -> None:
    """Run the reaper's task; *do* something once it waits; end when a round deleted something."""
    deleted = trio.Event()
    bench.heard = deleted.set
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reaper.run)
        await trio.testing.wait_all_tasks_blocked()
        do()
        with trio.fail_after(30):
            await deleted.wait()
        nursery.cancel_scope.cancel()


def test_a_job_that_completes_wakes_it_and_it_waits_for_the_next_file_that_is_due(bench: Bench) -> None:
    clock = trio.testing.MockClock()

    async def program(reaper: Reaper) -> None:
        def complete_and_let_time_pass() -> None:
            bench.hide("a.tmp")
            bench.clock.advance(24)
            reaper.wake()

        await until(bench, reaper, complete_and_let_time_pass)

    bench.run(program, clock)
    assert bench.hidden() == []


def test_it_looks_again_when_the_next_file_is_due(bench: Bench) -> None:
    clock = trio.testing.MockClock()
    bench.hide("a.tmp")
    bench.clock.advance(24 - 10 / 3600)  # ten seconds to go

    async def program(reaper: Reaper) -> None:
        def wait_ten_seconds() -> None:
            bench.clock.advance(10 / 3600)
            clock.jump(10)

        await until(bench, reaper, wait_ten_seconds)

    bench.run(program, clock)
    assert bench.hidden() == []


def test_a_failure_is_tried_again_within_a_minute(bench: Bench) -> None:
    clock = trio.testing.MockClock()
    bench.hide("a.tmp")
    bench.clock.advance(24)
    place = bench.backing.path / ".lffs/trash/1/a.tmp"
    place.rename(bench.backing.path / "aside")
    place.mkdir()

    async def program(reaper: Reaper) -> None:
        failed = trio.Event()
        bench.told = failed.set
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reaper.run)
            await failed.wait()
            await trio.testing.wait_all_tasks_blocked()
            place.rmdir()
            (bench.backing.path / "aside").rename(place)
            tried_again = trio.Event()
            bench.heard = tried_again.set
            clock.jump(60)
            await tried_again.wait()
            nursery.cancel_scope.cancel()

    bench.run(program, clock)
    assert bench.hidden() == []


@pytest.mark.parametrize("error", [StoreError("the disk is full"), OSError(5, "Input/output error")])
def test_a_round_that_fails_does_not_end_the_daemon(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    bench.hide("a.tmp")
    bench.clock.advance(24)
    settle_all, failures = bench.backing.cleanup.settle_all, [error]

    def failing_once(now_ns: int) -> None:
        if failures:
            raise failures.pop()
        settle_all(now_ns)

    monkeypatch.setattr(bench.backing.cleanup, "settle_all", failing_once)

    async def program(reaper: Reaper) -> None:
        def go_on() -> None:
            bench.hide("b.tmp")
            bench.clock.advance(24)
            reaper.wake()

        await until(bench, reaper, lambda: None)
        await until(bench, reaper, go_on)

    bench.run(program)
    assert bench.hidden() == []
    assert str(error) in caplog.text


def test_a_clock_set_ahead_while_a_round_deletes_holds_the_rest_of_the_round(bench: Bench) -> None:
    bench.hide("a.tmp")
    bench.clock.advance(20)
    bench.hide("b.tmp")
    bench.clock.advance(5)

    def set_ahead() -> None:
        bench.clock.now_wall_ns += 100 * HOUR_NS

    bench.told = set_ahead
    reaper = bench.run(lambda reaper: reaper.round())
    assert bench.hidden() == ["b.tmp"]
    assert reaper.guard.is_holding


def test_cancelled_while_a_thread_deletes_it_still_records_what_was_deleted(bench: Bench) -> None:
    bench.hide("a.tmp")
    bench.clock.advance(24)

    async def program(reaper: Reaper) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reaper.run)
            await trio.testing.wait_all_tasks_blocked()  # the thread is at work, or done
            nursery.cancel_scope.cancel()

    bench.run(program)
    on_disk = [name for _, name, _ in bench.backing.trash.files()]
    assert sorted(name.decode() for name in on_disk) == bench.hidden()
