"""What a mount is asked for, what is refused, and how the daemon comes to life."""

import errno
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lffs.errors import MountError
from lffs.mounting import systemd
from lffs.mounting.background import LOG_NAME, EarlyLog, PrivateLogFile
from lffs.mounting.options import (
    MountOptions,
    TransportChoice,
    check_fuse,
    check_mount,
    find_config,
    mount_options,
    split_options,
)
from lffs.mounting.table import UsageError
from tests.bare_mount import bare_mount

ROOT = Path(__file__).parents[2]

# -- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", []),
        ("ro", ["ro"]),
        ("ro,,dev,", ["ro", "dev"]),
        (r"config=/a\,b.yaml,ro", ["config=/a,b.yaml", "ro"]),
        (r"config=/a\\b\=c", [r"config=/a\b=c"]),
        ("ro\\", ["ro\\"]),
    ],
)
def test_a_comma_list_is_split_and_a_backslash_takes_the_next_character(
    text: str, options: list[str]
) -> None:
    assert list(split_options(text)) == options


def options_of(*comma_lists: str, **others: str) -> MountOptions:
    return mount_options("/data", "/mnt", comma_lists, **others)  # type: ignore[arg-type]


def test_without_options_nothing_is_given_away() -> None:
    options = options_of()
    assert (options.backing, options.mountpoint) == (Path("/data"), Path("/mnt"))
    assert [options.read_only, options.suid, options.dev] == [False, False, False]
    assert options.allow_other == (os.geteuid() == 0)
    assert options.transport is TransportChoice.AUTO
    assert options.overrides == {}
    assert options.kernel_options == ()


def test_every_option_reaches_its_place() -> None:
    options = options_of(
        "ro,suid,dev,allow_other,transport=passthrough", "status_names=plain,debug,noexec,state_dir=/state"
    )
    assert options.read_only
    assert options.suid
    assert options.dev
    assert options.allow_other
    assert options.transport is TransportChoice.PASSTHROUGH
    assert options.overrides == {"jobs.status_names": "plain", "debug": True}
    assert options.kernel_options == ("noexec",)
    assert options.state_dir == Path("/state")


def test_of_contrary_options_the_last_counts() -> None:
    assert not options_of("ro", "rw").read_only
    assert options_of("nosuid,suid").suid
    assert not options_of("suid,nosuid").suid


def test_what_mount8_and_fstab_add_is_accepted() -> None:
    added = (
        "rw,nosuid,nodev,noatime,relatime,defaults,_netdev,nofail,user,exec,x-systemd.automount,comment=mine"
    )
    assert options_of(added) == options_of()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("allow_othre", "unknown mount option allow_othre: did you mean allow_other"),
        ("transports=auto", "unknown mount option transports=: did you mean transport"),
        ("zzz", "unknown mount option zzz: there are allow_other"),
        ("ro=1", "ro takes no value"),
        ("transport", "transport needs a value"),
        ("config=", "config needs a value"),
        ("transport=fast", "transport=fast: there are auto, pyfuse3, passthrough"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(option: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        options_of(f"ro,{option}")


def test_one_thing_said_twice_and_differently_is_refused() -> None:
    assert options_of("state_dir=/a", state_dir="/a").state_dir == Path("/a")
    with pytest.raises(UsageError, match="give one"):
        options_of("state_dir=/a", state_dir="/b")


@pytest.mark.parametrize("paths", [("", "/mnt"), ("/data", "")])
def test_an_empty_path_is_refused(paths: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="is empty"):
        mount_options(*paths)


def test_paths_are_absolute_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = mount_options("data", "mnt", config="langflix", state_dir="state")
    assert options.backing == tmp_path / "data"
    assert options.state_dir == tmp_path / "state"


def test_a_configuration_is_a_profiles_name_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "langflix").write_text("{}")
    (tmp_path / "mine.yaml").write_text("{}")
    profile = find_config("langflix")
    assert profile is not None
    assert profile.name == "langflix.yaml"
    assert find_config("./langflix") == tmp_path / "langflix"
    assert find_config("mine.yaml") == tmp_path / "mine.yaml"
    assert find_config(None) is None
    with pytest.raises(UsageError, match="absent does not exist"):
        find_config("absent")
    with pytest.raises(UsageError, match="is not a file"):
        find_config(str(tmp_path))


# -- checks ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def fuse_is_there(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about directories, and hold on any machine."""
    if not request.node.get_closest_marker("mounted"):
        monkeypatch.setattr("lffs.mounting.options.check_fuse", lambda: None)


@pytest.fixture
def options(tmp_path: Path) -> MountOptions:
    (tmp_path / "data").mkdir()
    (tmp_path / "mnt").mkdir()
    return MountOptions(tmp_path / "data", tmp_path / "mnt")


def checked(options: MountOptions) -> MountOptions:
    return check_mount(options, say=pytest.fail)


def test_a_mount_with_nothing_wrong_passes_with_its_paths_resolved(
    options: MountOptions, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("data")
    assert checked(options) == options
    assert checked(MountOptions(tmp_path / "link", options.mountpoint)) == options


@pytest.mark.parametrize("which", ["data", "mnt"])
def test_a_directory_that_is_missing_or_none_is_named(
    options: MountOptions, tmp_path: Path, which: str
) -> None:
    (tmp_path / which).rmdir()
    with pytest.raises(MountError, match=f"{which} does not exist"):
        checked(options)
    (tmp_path / which).write_text("")
    with pytest.raises(MountError, match=f"{which} is not a directory"):
        checked(options)
    (tmp_path / which).unlink()
    (tmp_path / which).symlink_to(which)
    with pytest.raises((MountError, OSError), match="Too many levels"):
        checked(options)


def test_a_mountpoint_with_content_is_refused(options: MountOptions) -> None:
    (options.mountpoint / "a").write_text("")
    with pytest.raises(MountError, match=r"is not empty \(it holds a\)"):
        checked(options)


@pytest.mark.parametrize(
    ("backing", "mountpoint", "message"),
    [
        ("data", "data", "same directory"),
        ("data", "data/inner", "lies in the backing store"),
        ("data/inner", "data", "lies below the mountpoint"),
        ("data", "link/inner", "lies in the backing store"),
        ("link/inner", "data", "lies below the mountpoint"),
        ("link", "data", "same directory"),
    ],
)
def test_one_inside_the_other_is_refused(
    options: MountOptions, tmp_path: Path, backing: str, mountpoint: str, message: str
) -> None:
    (tmp_path / "data/inner").mkdir()
    (tmp_path / "link").symlink_to("data")
    with pytest.raises(UsageError, match=message):
        checked(MountOptions(tmp_path / backing, tmp_path / mountpoint))


@pytest.mark.parametrize(
    ("state_dir", "is_fine"), [("state", True), ("data/.lffs", True), ("data/x", False), ("mnt/x", False)]
)
def test_the_state_directory_may_not_lie_where_the_mount_shows_or_hides_it(
    options: MountOptions, tmp_path: Path, state_dir: str, is_fine: bool
) -> None:
    asked = MountOptions(options.backing, options.mountpoint, state_dir=tmp_path / state_dir)
    if is_fine:
        assert checked(asked) == asked
    else:
        with pytest.raises(UsageError, match="--state-dir"):
            checked(asked)


@pytest.mark.mounted
def test_a_dead_mount_in_the_way_is_detached_and_said(tmp_path: Path) -> None:
    with bare_mount(tmp_path) as bare:
        bare.kill_daemon()
        said: list[str] = []
        options = MountOptions(bare.backing, bare.mountpoint)
        assert check_mount(options, said.append) == options
        assert said == [f"detached a dead mount of {bare.backing} at {bare.mountpoint}: its daemon had died"]
        assert not bare.is_mounted()


@pytest.mark.mounted
def test_a_live_mount_in_the_way_is_refused(tmp_path: Path) -> None:
    """Also one whose daemon hangs: the bare mount answers nothing, not even whether it is dead."""
    (tmp_path / "other").mkdir()
    with bare_mount(tmp_path) as bare:
        with pytest.raises(MountError, match=r"is mounted at .* already"):
            checked(MountOptions(bare.backing, bare.mountpoint))
        with pytest.raises(MountError, match="is in use"):
            checked(MountOptions(tmp_path / "other", bare.mountpoint))
        assert bare.is_mounted()


@pytest.mark.mounted
def test_fuse_is_usable_here() -> None:
    check_fuse()


def test_a_missing_or_forbidden_fuse_device_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MountError, match=r"modprobe fuse.*--device"):
        check_fuse(tmp_path / "fuse")
    with pytest.raises(MountError, match="can't be opened"):
        check_fuse(tmp_path)


def test_without_fusermount3_only_root_can_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = tmp_path / "fuse"
    device.write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MountError, match="apt install fuse3"):
        check_fuse(device)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    check_fuse(device)


# -- the daemon's process -------------------------------------------------------------------------

_START = """
import os, signal, sys
from lffs.mounting.background import run_in_background
def serve(ready):
{body}
sys.exit(run_in_background(serve, "still scanning", note_after_s={note_after_s}))
"""


def start(body: str, note_after_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run *body* as the daemon of a process of its own; what it holds open, holds this up."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    script = _START.format(body=indented, note_after_s=note_after_s)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )


def test_the_start_returns_when_the_daemon_serves_and_lets_go_of_everything(tmp_path: Path) -> None:
    """subprocess.run reads stdout and stderr to their end: a daemon that kept them would hang it."""
    os.mkfifo(tmp_path / "stop")
    body = f"""
print("never seen")
print("warned", file=sys.stderr)
ready()
print("not seen either", file=sys.stderr)
facts = [os.getsid(0) == os.getpid(), os.getcwd(), os.umask(0), sorted(os.listdir("/proc/self/fd"))]
open({str(tmp_path / "stop")!r}, "w").write(repr(facts))
return 0
"""
    done = start(body)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "warned\n")
    facts = (tmp_path / "stop").read_text()
    # 3 is the listing's own descriptor.
    assert facts == repr([True, "/", 0, ["0", "1", "2", "3"]])


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("sys.stderr.write('lffs: no\\n'); return 2", 2, "lffs: no\n"),
        ("return 0", 1, "lffs: the daemon ended before it served\n"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            1,
            "lffs: the daemon was killed by SIGKILL before it served\n",
        ),
        ("os.write(2, b'x' * 200_000); return 1", 1, "x" * 200_000),
    ],
)
def test_a_daemon_that_does_not_come_to_serve_is_reported(body: str, status: int, said: str) -> None:
    done = start(body)
    assert (done.returncode, done.stderr) == (status, said)


def test_a_bug_in_the_start_keeps_its_traceback() -> None:
    done = start("1 / 0")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_a_long_start_is_explained_once(tmp_path: Path) -> None:
    """The daemon serves once the note was read."""
    os.mkfifo(tmp_path / "go")
    script = _START.format(
        body=f"    open({str(tmp_path / 'go')!r}).read(); ready(); return 0", note_after_s=0
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"lffs: still scanning\n"
        (tmp_path / "go").write_text("")
        assert process.wait() == 0
        assert process.stderr.read() == b""


def test_who_gives_up_waiting_takes_the_daemon_along(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")
    body = f"    os.write(2, b'starting'); open({str(tmp_path / 'never')!r}).read()"
    script = _START.format(body=body, note_after_s=60)
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stderr is not None
        assert os.read(process.stderr.fileno(), 100) == b"starting"
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()  # ends when the last holder of the pipe, the daemon, has ended
        assert b"KeyboardInterrupt" in rest


# -- the log --------------------------------------------------------------------------------------


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, as it was afterwards."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    root.handlers.clear()  # else they would be closed by the daemon's set-up
    yield root
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_what_is_logged_before_serving_is_in_the_file_from_then_on(
    root_logger: logging.Logger, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("lffs.x")
    early = EarlyLog(verbose=False)
    log.info("scanning")
    log.warning("unclean end")
    assert list(tmp_path.iterdir()) == []
    early.move_to(tmp_path)
    log.info("serving")
    assert capfd.readouterr().err == "lffs: unclean end\n"
    lines = (tmp_path / LOG_NAME).read_text().splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == ["scanning", "unclean end", "serving"]


def test_a_log_that_cannot_be_written_is_said_and_stops_nothing(
    root_logger: logging.Logger, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    early = EarlyLog(verbose=False)
    early.move_to(tmp_path / "absent")
    logging.getLogger("lffs.x").warning("on")
    assert "no log is kept" in capfd.readouterr().err


def test_the_log_is_private_follows_no_link_and_is_rotated(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        file = PrivateLogFile(tmp_path / LOG_NAME, max_bytes=100)
        for number in range(10):
            file.emit(logging.LogRecord("x", logging.INFO, "", 0, "line %d \udcff", (number,), None))
        file.close()
    finally:
        os.umask(umask)
    logs = sorted(tmp_path.iterdir())
    assert [log.name for log in logs] == [LOG_NAME, *(f"{LOG_NAME}.{number}" for number in (1, 2, 3))]
    assert {stat.S_IMODE(log.stat().st_mode) for log in logs} == {0o600}
    (tmp_path / "link").symlink_to(LOG_NAME)
    with pytest.raises(OSError) as caught:
        PrivateLogFile(tmp_path / "link")
    assert caught.value.errno == errno.ELOOP


# -- systemd --------------------------------------------------------------------------------------


def test_systemd_is_told_where_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.notify("READY=1")
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        systemd.notify("READY=1")
        assert listening.recv(100) == b"READY=1"
    abstract = f"lffs-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{abstract}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{abstract}")
        systemd.notify("STOPPING=1")
        assert listening.recv(100) == b"STOPPING=1"
    assert not caplog.records
    systemd.notify("STOPPING=1")
    assert "cannot tell systemd" in caplog.text
