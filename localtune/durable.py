"""Writing so that a crash at any moment leaves either the old or the new, never half of one: the one place that writes.

A file: a temporary name in the same folder, fsync, rename, fsync of the folder. Lines: appended whole or not at all
where the disk is full. What a writer that is gone has left is removed when the same file is written again, or by
`sweep`. Folders are written by `localtune.runs.files`.
"""

import errno
import glob
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".partial"
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
"""What a system says when a disk, or somebody's share of it, is full."""
UNTOLD = sys.maxsize
"""Bytes that are free where nobody can tell."""
_ASIDE = f".old{TEMPORARY}"
_WRITER = re.compile(rf"(.+)\.(\d{{1,9}})({re.escape(_ASIDE)}|{re.escape(TEMPORARY)})", re.DOTALL)


class NoRoom(OSError):
    """A disk has not the room for what is to be written; `needed` and `free` (or `UNTOLD`) are bytes."""

    def __init__(self, folder: Path, needed: int) -> None:
        self.needed, self.free = needed, free_space(folder)
        free = f", {self.free:,} are free" if self.free != UNTOLD else ""
        what = f"No space left: {needed:,} bytes are needed{free}"
        super().__init__(errno.ENOSPC, what, str(folder))


@contextmanager
def new_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary name for a file that becomes `path` when the block ends without an error.

    Without `durable` a power cut may bring the old content back, or in a folder that is new itself leave none.
    """
    clear(path)
    temporary = temporary_of(path)
    try:
        yield temporary
        if durable:
            settle(temporary)
        replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


@contextmanager
def new_file(path: Path, size: int) -> Iterator[BinaryIO]:
    """A file of `size` bytes that is whole at `path` when the block ends without an error; as `new_path`, not durable.

    Raises `NoRoom` where the disk has not that many bytes, before the block or in it.
    """
    with new_path(path, durable=False) as temporary, _needing(path, size), temporary.open("wb") as file:
        reserve(file, size)
        yield file


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace `path` by `content`; `durable` as in `new_path`."""
    with _needing(path, len(content)), new_path(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def copy(source: Path, target: Path, *, durable: bool = True) -> None:
    """Replace `target` by the content of `source`; `durable` as in `new_path`."""
    with _needing(target, source.stat().st_size), new_path(target, durable=durable) as temporary:
        shutil.copyfile(source, temporary)


def append(path: Path, content: bytes) -> int:
    """Append `content`, in one write where the system takes it at once, and return the file's new size.

    What a full disk took of it is taken back, unless another process has appended meanwhile.
    """
    with path.open("ab", buffering=0) as file:
        before, left = file.tell(), memoryview(content)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            taken = len(content) - len(left)
            if taken and file.tell() == before + taken == os.fstat(file.fileno()).st_size:
                file.truncate(before)
            raise
        return file.tell()


def settle(path: Path) -> int:
    """Bring what was written to `path` onto the disk and return its size."""
    with path.open("ab") as file:
        _sync(file.fileno())
        return file.tell()


def free_space(folder: Path) -> int:
    """Bytes free on the disk of `folder`; `UNTOLD` where its file system says nothing, so that the write decides."""
    usage = shutil.disk_usage(folder)
    return usage.free if usage.total else UNTOLD


def require_room(folder: Path, size: int) -> None:
    """Raise `NoRoom` where the disk of `folder` has no `size` bytes left."""
    if size > free_space(folder):
        raise NoRoom(folder, size)


def reserve(file: BinaryIO, size: int) -> None:
    """Let `file` be `size` bytes long, on the disk too where the system can. Raises `NoRoom` for a smaller disk."""
    folder = Path(file.name).parent
    require_room(folder, size - os.fstat(file.fileno()).st_size)
    if sys.platform != "linux":
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno in FULL:
            raise NoRoom(folder, size) from None
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):  # a file system that cannot
            raise


def temporary_of(path: Path) -> Path:
    """The name under which this process writes `path`."""
    return path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")


def aside_of(path: Path) -> Path:
    """The name of what lay at `path` while something else takes its place."""
    return path.with_name(f"{path.name}.{os.getpid()}{_ASIDE}")


def replace(source: Path, target: Path) -> None:
    """Rename `source` to `target`, whose place it takes."""
    attempts = 20 if sys.platform == "win32" else 1  # a virus scanner may hold the file for a moment
    for attempt in range(attempts):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if attempt == attempts - 1:
                raise
            time.sleep(0.05)


def remove_folder(path: Path) -> None:
    """Remove the folder `path`: it is gone at once, and never there by half."""
    temporary = temporary_of(path)
    replace(path, temporary)
    shutil.rmtree(temporary)


def clear(path: Path) -> None:
    """Remove what earlier writers of `path` left; what lay there before and was only set aside is put back."""
    for litter in path.parent.glob(f"{glob.escape(path.name)}.*{TEMPORARY}"):
        found = _WRITER.fullmatch(litter.name)
        if found and found[1] == path.name and _is_gone(int(found[2])):
            _clear(litter, path, aside=found[3] == _ASIDE)


def sweep(folder: Path, older: float = 0.0) -> None:
    """`clear` for every name in `folder`, as far as its writer is gone; this process is writing nothing there.

    What changed in the last `older` seconds stays: where containers share a folder, the processes of one are not seen
    in another.
    """
    for litter in folder.glob(f"*{TEMPORARY}"):
        found = _WRITER.fullmatch(litter.name)
        if found and _is_gone(int(found[2])) and (not older or _age(litter) >= older):
            _clear(litter, litter.with_name(found[1]), aside=found[3] == _ASIDE)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` onto the disk, where its file system can: not all of a network or a host can."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def folder_size(folder: Path) -> int:
    """Bytes of all files below `folder`, or of `folder` where it is a file."""
    files = [folder] if folder.is_file() else [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)


def sha256(path: Path) -> str:
    """Hex digest of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _needing(path: Path, size: int) -> Iterator[None]:
    """A full disk inside is told with the `size` bytes that `path` needs."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and not isinstance(error, NoRoom):
            raise NoRoom(path.parent, size) from None
        raise


def _is_gone(writer: int) -> bool:
    import psutil  # `localtune doctor` runs without it, and asks here for free space

    return writer == os.getpid() or not psutil.pid_exists(writer)


def _age(path: Path) -> float:
    """Seconds since `path` was written, or renamed where the system notes that; 0 where it is gone."""
    try:
        found = path.lstat()
    except OSError:
        return 0.0
    return time.time() - max(found.st_mtime, found.st_ctime)


def _clear(litter: Path, path: Path, *, aside: bool) -> None:
    if aside and not path.exists():
        replace(litter, path)
    elif litter.is_dir():
        shutil.rmtree(litter, ignore_errors=True)
    else:
        with suppress(OSError):
            litter.unlink()


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError:  # not every file system has it
            pass
    os.fsync(descriptor)
