"""Work that ends before any one of its system calls, as by a power cut, or that is refused it, as by a bad disk.

Each try is a process of its own, forked here. Counted are calls of C functions that change a file system, by their
names; what is still in a buffer of Python's when the process ends is lost, as it would be.
"""

import errno
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from localtune.errors import LocaltuneError

CHANGING = frozenset(
    {"open", "write", "writelines", "flush", "fsync", "fcntl", "replace", "rename", "mkdir", "unlink", "remove",
     "rmdir", "truncate", "ftruncate", "utime", "link", "symlink", "serialize_file", "tofile", "sendfile",
     "posix_fallocate"}
)  # fmt: skip
FILLING = frozenset(
    {"open", "write", "flush", "fsync", "mkdir", "serialize_file", "tofile", "sendfile", "posix_fallocate"}
)
"""What a full disk refuses."""
_CUT = 77


def cut_everywhere(
    folder: Path,
    act: Callable[[], object],
    check: Callable[[int], None],
    *,
    full: bool = False,
    error: int = errno.ENOSPC,
    most: int | None = None,
) -> int:
    """Do `act` once for each of its calls, ended before that call, or with `full` refused it with `error`.

    `folder` is as it was before each try; `check` looks at it afterwards, and after a whole one, and is told the number
    of the call. With `most` only so many calls, evenly chosen, are tried. Returns how many were.
    """
    before = folder.with_name(f"{folder.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    shutil.copytree(folder, before)
    calls = FILLING if full else CHANGING
    total = _count(act, calls)
    check(total + 1)
    numbers = _chosen(total, most)
    for number in numbers:
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        code = _child(act, _before(number, calls, error if full else None))
        assert code in ((0, 1) if full else (_CUT,)), f"call {number} of {total} ended with {code}"
        check(number)
    return len(numbers)


def whole(act: Callable[[], object]) -> int:
    """Do `act` in a process of its own: 0, 1 where it raised what the system or localtune refuses, else 99."""
    return _child(act, None)


Hook = Callable[[FrameType, str, Any], None]


def _chosen(total: int, most: int | None) -> Sequence[int]:
    if most is None or total <= most:
        return range(1, total + 1)
    return sorted({1 + i * (total - 1) // (most - 1) for i in range(most)})


def _count(act: Callable[[], object], calls: frozenset[str]) -> int:
    """How many of `calls` a whole `act` makes."""
    seen = 0

    def hook(frame: FrameType, event: str, called: Any) -> None:
        nonlocal seen
        if event == "c_call" and getattr(called, "__name__", "") in calls:
            seen += 1

    reader, writer = os.pipe()

    def counted() -> None:
        sys.setprofile(hook)
        act()
        sys.setprofile(None)
        os.write(writer, str(seen).encode())

    code = _child(counted, None)
    os.close(writer)
    with open(reader, "rb") as said:
        assert code == 0, "it does not come to its end when nothing is in its way"
        return int(said.read())


def _child(act: Callable[[], object], hook: Hook | None) -> int:
    """The exit code: 0 = it came to its end, 1 = it raised `OSError` or an error of localtune's."""
    process = os.fork()
    if process == 0:
        code = 99
        try:
            sys.setprofile(hook)
            act()
            sys.setprofile(None)
            code = 0
        except (OSError, LocaltuneError) as refused:
            if hook is None:
                traceback.print_exception(refused)
            code = 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _before(number: int, calls: frozenset[str], error: int | None) -> Hook:
    """Ends the process before call `number`, or raises `error` there."""
    left = iter(range(number - 1))

    def hook(frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call" or getattr(called, "__name__", "") not in calls or next(left, None) is not None:
            return
        if error is not None:
            raise OSError(error, os.strerror(error))
        os._exit(_CUT)

    return hook


def partials(folder: Path) -> Iterator[Path]:
    """What a write that was cut off left."""
    yield from folder.rglob("*.partial")
