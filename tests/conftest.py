"""What every test may use, and what none may leave behind."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Mounted
from tests.places import Place, unmounted


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--crash-rounds",
        type=int,
        default=10,
        metavar="N",
        help="how often the daemon is killed under load (tests/mounted/test_crash.py)",
    )


@contextlib.contextmanager
def _mounts(directory: Path) -> Iterator[Callable[..., Mounted]]:
    made: list[Mounted] = []

    def make(
        config: str = "", options: str = "", *, verify: bool = True, old_kernel: bool = False
    ) -> Mounted:
        place = directory / f"mount{len(made)}"
        place.mkdir()
        mounted = Mounted(place, config, options, old_kernel=old_kernel)
        mounted.verify_at_end = verify
        made.append(mounted)
        return mounted.start()

    try:
        yield make
        for mounted in made:
            if mounted.is_running and mounted.verify_at_end:
                mounted.verify()
                assert "Traceback" not in mounted.log(), mounted.log()
    finally:
        for mounted in made:
            mounted.close()


@pytest.fixture
def make_mount(tmp_path: Path) -> Iterator[Callable[..., Mounted]]:
    """Return a function that mounts (config, options); all is verified and unmounted at the end."""
    with _mounts(tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def make_shared_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Mounted]]:
    """The same for mounts that the tests of a module share, each test with jobs of its own."""
    with _mounts(tmp_path_factory.mktemp("shared")) as make:
        yield make


@pytest.fixture
def mounted(make_mount: Callable[..., Mounted]) -> Mounted:
    """A mount with the default configuration."""
    return make_mount()


@pytest.fixture(scope="module")
def library_mount(make_shared_mount: Callable[..., Mounted]) -> Mounted:
    """The mount that the library's tests of a module share."""
    return make_shared_mount()


@pytest.fixture(params=["unmounted", pytest.param("mounted", marks=pytest.mark.mounted)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A store with the default configuration: not mounted, then mounted."""
    if request.param == "mounted":
        yield request.getfixturevalue("library_mount")
        return
    with unmounted(tmp_path / "store") as opened:
        yield opened
        opened.verify()


@pytest.fixture
def job_id(request: pytest.FixtureRequest) -> str:
    """A job's id that no other test has."""
    name: str = request.node.originalname
    return name.removeprefix("test_")[:100]


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path: Path) -> Iterator[None]:
    """A test that leaves a mount or a child process fails."""
    yield
    with open("/proc/self/mountinfo", "rb") as table:
        left = [line for line in table if os.fsencode(tmp_path) in line]
    assert not left, f"mounts left behind: {left}"
