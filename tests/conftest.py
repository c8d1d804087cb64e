"""What every test may use, and what none may leave behind."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Mounted


@pytest.fixture
def make_mount(tmp_path: Path) -> Iterator[Callable[..., Mounted]]:
    """Return a function that mounts (config, options); all is verified and unmounted at the end."""
    made: list[Mounted] = []

    def make(
        config: str = "", options: str = "", *, verify: bool = True, old_kernel: bool = False
    ) -> Mounted:
        directory = tmp_path / f"mount{len(made)}"
        directory.mkdir()
        mounted = Mounted(directory, config, options, old_kernel=old_kernel)
        mounted.verify_at_end = verify
        made.append(mounted)
        return mounted.start()

    yield make
    try:
        for mounted in made:
            if mounted.is_running and mounted.verify_at_end:
                mounted.verify()
                assert "Traceback" not in mounted.log(), mounted.log()
    finally:
        for mounted in made:
            mounted.close()


@pytest.fixture
def mounted(make_mount: Callable[..., Mounted]) -> Mounted:
    """A mount with the default configuration."""
    return make_mount()


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path: Path) -> Iterator[None]:
    """A test that leaves a mount or a child process fails."""
    yield
    with open("/proc/self/mountinfo", "rb") as table:
        left = [line for line in table if os.fsencode(tmp_path) in line]
    assert not left, f"mounts left behind: {left}"
