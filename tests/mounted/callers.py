"""Who makes a system call: this process, another one, another user."""

import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def in_child(action: Callable[[], T]) -> T:
    """Run *action* in a forked process; return what it returns, raise the OSError that it raises."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        try:
            answer: object = action()
        except BaseException as exc:  # whatever it is, the parent is to see it, and nobody else
            answer = exc
        with os.fdopen(write_end, "wb") as stream:
            stream.write(pickle.dumps(answer))
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    result = pickle.loads(said)
    if isinstance(result, BaseException):
        raise result
    answered: T = result
    return answered


def as_user(
    uid: int, gid: int, action: Callable[[Path], T], directory: Path, groups: Sequence[int] = ()
) -> T:
    """Run *action* as another user, standing in *directory*, which it is given as ``Path(".")``.

    Relative, because pytest's directories above are closed to other users.
    """

    def become() -> T:
        os.chdir(directory)
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
        return action(Path("."))

    return in_child(become)


def refusal(action: Callable[[], object]) -> int:
    """Return the errno that *action* fails with, 0 if it does not."""
    try:
        action()
    except OSError as exc:
        return exc.errno or -1
    return 0
