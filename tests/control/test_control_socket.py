"""The control socket: what the daemon answers, and that nothing a client sends harms it."""

import contextlib
import errno
import functools
import inspect
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from lffs.control.api import CALLS, AdminApi
from lffs.control.client import NoDaemonError, RemoteAdmin
from lffs.control.protocol import MAX_REQUEST_BYTES, SOCKET_NAME
from lffs.control.server import IDLE_S, serve_control
from lffs.errors import (
    InvalidStatusError,
    JobBusyError,
    LffsError,
    MountError,
    StoreInUseError,
    UnknownJobError,
)
from lffs.progress import Progress, progress_to
from lffs.state_dir import STATE_NAME, point_to_state_directory, state_directory
from tests.fake_daemon import FakeAdmin, make_job, served_in_thread


@pytest.fixture
def admin() -> FakeAdmin:
    return FakeAdmin({"Suits/S01E01": make_job("Suits/S01E01")})


def call(name: str, **arguments: object) -> bytes:
    return json.dumps({"call": name, "arguments": arguments}).encode() + b"\n"


HEALTH = call("health")

Scenario = Callable[[Path], Awaitable[None]]


def while_serving(
    admin: AdminApi, state_dir: Path, scenario: Scenario, clock: trio.abc.Clock | None = None
) -> None:
    """Run *scenario* beside the server.  A server that ended or left a task behind fails it."""

    async def run() -> None:
        directory_fd = os.open(state_dir, os.O_PATH)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(functools.partial(serve_control, directory_fd, admin))
                await scenario(state_dir)
                nursery.cancel_scope.cancel()
        finally:
            os.close(directory_fd)

    trio.run(run, clock=clock)


@contextlib.asynccontextmanager
async def connection(state_dir: Path) -> AsyncIterator[trio.SocketStream]:
    async with await trio.open_unix_socket(os.fspath(state_dir / SOCKET_NAME)) as stream:
        yield stream


async def read_lines(stream: trio.SocketStream, count: int) -> list[dict[str, object]]:
    received = b""
    while received.count(b"\n") < count and (chunk := await stream.receive_some()):
        received += chunk
    return [json.loads(line) for line in received.splitlines()]


async def read_to_end(stream: trio.SocketStream) -> list[dict[str, object]]:
    return [json.loads(line) for line in b"".join([chunk async for chunk in stream]).splitlines()]


async def assert_alive(state_dir: Path) -> None:
    async with connection(state_dir) as stream:
        await stream.send_all(HEALTH)
        [answer] = await read_lines(stream, 1)
        assert "result" in answer


# -- the calls ------------------------------------------------------------------------------------


def test_calls_are_answered_as_the_admin_answers_them(admin: FakeAdmin, tmp_path: Path) -> None:
    with served_in_thread(admin, tmp_path):
        remote = RemoteAdmin(tmp_path)
        assert remote.jobs(status=None, all=False) == [make_job("Suits/S01E01")]
        assert remote.jobs(status="failed", all=True) == []
        assert remote.show("Suits/S01E01") == make_job("Suits/S01E01")
        assert remote.status("Suits/S01E01", None) == "running"
        assert remote.status("Suits/S01E01", "completed") == "completed"
        assert remote.manifest("Suits/S01E01")["files"] == {"other": ["caf\udce9.txt"]}
        assert remote.health()["pid"] == os.getpid()
        remote.reload()
    assert admin.reloads == 1


def test_work_is_carried_out_and_its_progress_arrives(admin: FakeAdmin, tmp_path: Path) -> None:
    seen: list[Progress] = []
    with served_in_thread(admin, tmp_path), progress_to(seen.append):
        found = RemoteAdmin(tmp_path).verify()
    assert found == {"ok": True, "missing": [], "phantom": [], "corrupt": [], "unowned": []}
    assert seen == [Progress("files checked", 1, 2)]


def test_every_call_of_the_protocol_can_be_asked_remotely() -> None:
    """One table and three classes name the calls; here they are compared."""
    for name, admitted in CALLS.items():
        for side in (AdminApi, RemoteAdmin):
            _, *parameters = inspect.signature(getattr(side, name)).parameters
            assert parameters == list(admitted.parameters)
    public = {name for name in vars(AdminApi) if not name.startswith("_")}
    assert public == CALLS.keys()


def test_the_state_is_found_from_the_backing_store(admin: FakeAdmin, tmp_path: Path) -> None:
    backing, elsewhere = tmp_path / "backing", tmp_path / "elsewhere"
    (backing / STATE_NAME).mkdir(parents=True)
    elsewhere.mkdir()
    assert state_directory(backing) == backing / STATE_NAME
    point_to_state_directory(backing, elsewhere)
    with served_in_thread(admin, elsewhere):
        assert RemoteAdmin(backing).health()["transport"] == "none"
    point_to_state_directory(backing, backing / STATE_NAME)
    with served_in_thread(admin, backing / STATE_NAME):
        assert RemoteAdmin(backing).health()["transport"] == "none"


def test_a_long_path_is_no_obstacle(admin: FakeAdmin, tmp_path: Path) -> None:
    """A socket's own path ends at 107 bytes."""
    deep = tmp_path.joinpath(*["d" * 200] * 4)
    deep.mkdir(parents=True)
    with served_in_thread(admin, deep):
        assert RemoteAdmin(deep).status("Suits/S01E01", None) == "running"


def test_the_daemons_pid_is_known_without_its_answer(admin: FakeAdmin, tmp_path: Path) -> None:
    with served_in_thread(admin, tmp_path):
        assert RemoteAdmin(tmp_path).daemon_pid() == os.getpid()


def test_a_large_answer_arrives_whole(admin: FakeAdmin, tmp_path: Path) -> None:
    admin.rows = {f"job{number:06}": make_job(f"job{number:06}") for number in range(5000)}
    with served_in_thread(admin, tmp_path):
        assert RemoteAdmin(tmp_path).jobs(status=None, all=True) == list(admin.rows.values())


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "error", "number"),
    [
        ("absent", UnknownJobError, errno.ENOENT),
        ("busy", JobBusyError, errno.EBUSY),
        ("forbidden", PermissionError, errno.EACCES),
    ],
)
def test_an_error_comes_back_as_what_it_was(
    admin: FakeAdmin, tmp_path: Path, job: str, error: type[LffsError] | type[OSError], number: int
) -> None:
    admin.rows["busy"] = make_job("busy", "cleaning_up")
    with served_in_thread(admin, tmp_path), pytest.raises(error) as caught:
        RemoteAdmin(tmp_path).status(job, "failed")
    assert isinstance(caught.value, LffsError | OSError)
    assert caught.value.errno == number
    assert job in str(caught.value) or "/backing/x" in str(caught.value)


def test_an_error_of_its_own_kind_arrives_as_its_nearest_base(tmp_path: Path) -> None:
    class FarTooLateError(InvalidStatusError):
        pass

    class Refusing(FakeAdmin):
        def status(self, job: str, status: str | None) -> str:
            raise FarTooLateError("too late")

    with served_in_thread(Refusing(), tmp_path), pytest.raises(InvalidStatusError, match="too late"):
        RemoteAdmin(tmp_path).status("x", "failed")


def test_a_bug_is_logged_and_answered_as_eio(
    admin: FakeAdmin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served_in_thread(admin, tmp_path):
        with pytest.raises(OSError, match="internal error") as caught:
            RemoteAdmin(tmp_path).show("broken")
        assert RemoteAdmin(tmp_path).health()
    assert caught.value.errno == errno.EIO
    assert "ZeroDivisionError: a bug" in caplog.text


def test_without_a_daemon_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoDaemonError, match="no daemon serves"):
        RemoteAdmin(tmp_path).health()
    with pytest.raises(NoDaemonError):
        RemoteAdmin(tmp_path / "absent").health()


def test_a_daemon_that_hangs_is_not_waited_for_beyond_the_limit(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(os.fspath(tmp_path / SOCKET_NAME))
        mute.listen()
        with pytest.raises(MountError, match="does not answer"):
            RemoteAdmin(tmp_path, timeout_s=0.01).health()


# -- hostile bytes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n",
        b"\0\xff\xfe\n",
        b"not json\n",
        b"[" * 100_000 + b"\n",
        b"9" * 10_000 + b"\n",
        b"null\n",
        b'"call"\n',
        b"[]\n",
        b"{}\n",
        b'{"call": "health"}\n',
        b'{"call": "health", "arguments": {}, "more": 1}\n',
        call("__init__"),
        call("__class__"),
        call("rows"),
        call("health", extra=1),
        call("show"),
        call("show", job=None),
        call("show", job=["a"]),
        call("jobs", status=1, all=True),
        call("jobs", status=None, all=1),
        call("status", job="x"),
        b'{"call": ["health"], "arguments": {}}\n',
        b'{"call": {"a": 1}, "arguments": {}}\n',
        b'{"call": "health", "arguments": []}\n',
        b'{"call": "show", "arguments": {"job": "\xff"}}\n',
    ],
)
def test_garbage_gets_an_error_and_the_connection_goes_on(
    admin: FakeAdmin, tmp_path: Path, garbage: bytes
) -> None:
    async def scenario(state_dir: Path) -> None:
        async with connection(state_dir) as stream:
            await stream.send_all(garbage + HEALTH)
            refused, answered = await read_lines(stream, 2)
            assert refused["error"]["type"] == "RequestError"  # type: ignore[index]
            assert "result" in answered

    while_serving(admin, tmp_path, scenario)


def test_a_request_without_end_is_cut_off(admin: FakeAdmin, tmp_path: Path) -> None:
    async def scenario(state_dir: Path) -> None:
        async with connection(state_dir) as stream:
            with contextlib.suppress(trio.BrokenResourceError):  # refused in the middle of it
                await stream.send_all(b"x" * (4 * MAX_REQUEST_BYTES))
            [refused] = [line async for line in _lines_until_reset(stream)]
            assert "at most" in refused["error"]["message"]  # type: ignore[index]
        await assert_alive(state_dir)

    while_serving(admin, tmp_path, scenario)


async def _lines_until_reset(stream: trio.SocketStream) -> AsyncIterator[dict[str, object]]:
    received = b""
    with contextlib.suppress(trio.BrokenResourceError):
        async for chunk in stream:
            received += chunk
    for line in received.splitlines():
        yield json.loads(line)


def test_a_client_that_leaves_in_the_middle_harms_nobody(admin: FakeAdmin, tmp_path: Path) -> None:
    admin.rows = {f"job{number:06}": make_job(f"job{number:06}") for number in range(5000)}

    async def scenario(state_dir: Path) -> None:
        for sent in (b"", b'{"call"', HEALTH, call("jobs", status=None, all=True), call("verify")):
            async with connection(state_dir) as stream:
                await stream.send_all(sent)
        await assert_alive(state_dir)

    while_serving(admin, tmp_path, scenario)


def test_a_silent_client_is_let_go(
    admin: FakeAdmin, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async def scenario(state_dir: Path) -> None:
        started_s = trio.current_time()
        async with connection(state_dir) as stream:
            await stream.send_all(b'{"call": "hea')
            assert await read_to_end(stream) == []
        assert trio.current_time() - started_s == pytest.approx(IDLE_S)

    while_serving(admin, tmp_path, scenario, autojump_clock)


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0)


def test_many_clients_at_once_each_get_their_answer(admin: FakeAdmin, tmp_path: Path) -> None:
    async def scenario(state_dir: Path) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(assert_alive, state_dir)

    while_serving(admin, tmp_path, scenario)


# -- who may ask ----------------------------------------------------------------------------------


def test_the_socket_is_private_and_goes_with_the_server(admin: FakeAdmin, tmp_path: Path) -> None:
    async def scenario(state_dir: Path) -> None:
        assert stat.S_IMODE((state_dir / SOCKET_NAME).stat().st_mode) == 0o600

    umask = os.umask(0)
    try:
        while_serving(admin, tmp_path, scenario)
    finally:
        os.umask(umask)
    assert not (tmp_path / SOCKET_NAME).exists()


def test_another_user_is_refused_even_where_the_socket_lets_him_in(
    admin: FakeAdmin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test connects as another user, so it needs root")
    monkeypatch.chdir(tmp_path)  # the directories above are closed to him
    tmp_path.chmod(0o755)
    with served_in_thread(admin, tmp_path), socket.socket(socket.AF_UNIX) as client:
        Path(SOCKET_NAME).chmod(0o666)
        os.seteuid(65534)
        try:
            client.connect(SOCKET_NAME)
        finally:
            os.seteuid(0)
        with client.makefile("rb") as answers:
            answer = json.loads(answers.read())
    assert answer["error"]["errno"] == errno.EACCES
    assert "only root" in answer["error"]["message"]
    assert "uid 65534" in caplog.text


# -- what lies there already ----------------------------------------------------------------------


def _leave_socket(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(directory / SOCKET_NAME))


async def _serve_once(admin: AdminApi, state_dir: Path, holds_lock: bool) -> None:
    directory_fd = os.open(state_dir, os.O_PATH)
    try:
        async with trio.open_nursery() as nursery:
            serve = functools.partial(serve_control, directory_fd, admin, holds_lock=holds_lock)
            await nursery.start(serve)
            await assert_alive(state_dir)
            nursery.cancel_scope.cancel()
    finally:
        os.close(directory_fd)


def test_a_dead_daemons_socket_is_replaced_by_the_holder_of_the_lock(
    admin: FakeAdmin, tmp_path: Path
) -> None:
    _leave_socket(tmp_path)
    with pytest.RaisesGroup(StoreInUseError):
        trio.run(_serve_once, admin, tmp_path, False)
    trio.run(_serve_once, admin, tmp_path, True)


def test_what_is_no_socket_is_never_removed(admin: FakeAdmin, tmp_path: Path) -> None:
    (tmp_path / SOCKET_NAME).write_text("precious")
    with pytest.RaisesGroup(FileExistsError):
        trio.run(_serve_once, admin, tmp_path, True)
    assert (tmp_path / SOCKET_NAME).read_text() == "precious"
