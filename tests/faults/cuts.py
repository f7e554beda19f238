"""Work that ends before any one of its system calls, as by a power cut, or that is refused it, as by a full disk.

Each try is a process of its own, forked here. Counted are calls of C functions that change a file system, by their
names; what is still in a buffer of Python's when the process ends is lost, as it would be.
"""

import errno
import itertools
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

CHANGING = frozenset(
    {"open", "write", "writelines", "flush", "fsync", "fcntl", "replace", "rename", "mkdir", "unlink", "remove",
     "rmdir", "truncate", "ftruncate", "utime", "link", "symlink", "serialize_file"}
)  # fmt: skip
FILLING = frozenset({"open", "write", "flush", "fsync", "mkdir", "serialize_file"})
"""What a full disk refuses."""
_CUT = 77


def cut_everywhere(folder: Path, act: Callable[[], None], check: Callable[[int], None], *, full: bool = False) -> int:
    """Do `act` once for each of its calls, ended before that call, or with `full` refused it for want of space.

    `folder` is as it was before each try; `check` looks at it afterwards and is told the number of the call. Returns
    how many calls there are.
    """
    before = folder.with_name(f"{folder.name}.before")
    shutil.copytree(folder, before)
    for number in itertools.count(1):
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        code = _child(act, number, FILLING if full else CHANGING, full=full)
        check(number)
        if code == 0:
            return number - 1
        assert code == (1 if full else _CUT), f"call {number}"
    raise AssertionError("unreachable")


def _child(act: Callable[[], None], number: int, calls: frozenset[str], *, full: bool) -> int:
    """The exit code: 0 = it came to its end without that call, 1 = it raised `OSError`."""
    process = os.fork()
    if process == 0:
        code = 99
        try:
            sys.setprofile(_before(number, calls, full=full))
            act()
            sys.setprofile(None)
            code = 0
        except OSError:
            code = 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _before(number: int, calls: frozenset[str], *, full: bool) -> Callable[[FrameType, str, Any], None]:
    left = iter(range(number - 1))

    def hook(frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call" or getattr(called, "__name__", "") not in calls or next(left, None) is not None:
            return
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os._exit(_CUT)

    return hook


def partials(folder: Path) -> Iterator[Path]:
    """What a write that was cut off left."""
    yield from folder.rglob("*.partial")
