"""Prepared data that is kept between runs, under the hash of everything that decides it.

An entry is a folder that is complete when its manifest, written last, names every file with size, time of change and
SHA-256. `find` checks sizes and times always, hashes on demand; what does not agree counts as absent and is made anew.
Any number of processes may use the cache at once: an entry appears by one rename, and which one wins does not matter.
Entries that nobody used for `UNUSED_DAYS` go when another is written, and the longest unused ones where all together
are beyond the limit, but none that was used within the last hour. A cache that cannot be written is no error.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from localtune.durable import TEMPORARY, copy, settle, sha256, write_bytes

FORMAT = 1
MANIFEST = "manifest.json"
LIMIT = 20 * 10**9
"""Bytes of all entries together."""
UNUSED_DAYS = 30
_HOUR, _DAY = 3600, 86400


def root() -> Path:
    """The folder of all entries: `LOCALTUNE_CACHE`, else where this system keeps a user's caches."""
    given = os.environ.get("LOCALTUNE_CACHE")
    if given:
        return Path(given).expanduser() / "data"
    from platformdirs import user_cache_path  # not needed where the cache is not asked for

    return user_cache_path("localtune", appauthor=False) / "data"


def key(parts: Mapping[str, Any]) -> str:
    """64 hex digits of the values in `parts`, whatever their order: anything that JSON can hold, names included."""
    text = json.dumps({"format": FORMAT, "parts": parts}, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def find(name: str, *, verify: bool = False) -> Path | None:
    """The whole entry called `name`, which counts as used now; `verify` also hashes its files."""
    entry = root() / name
    if not _is_whole(entry, verify):
        return None
    with contextlib.suppress(OSError):  # a cache that others own can be read all the same
        os.utime(entry / MANIFEST)
    return entry


def keep(
    name: str, write: Callable[[Path], None], *, say: Callable[[str], None] = lambda text: None, limit: int = LIMIT
) -> Path | None:
    """The entry called `name`, made by `write` in an empty folder; None where the cache cannot be written.

    Why it cannot be is told to `say`. What `write` raises is raised, `OSError` excepted.
    """
    temporary = root() / f"{name}.{uuid.uuid4().hex[:12]}{TEMPORARY}"
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        _write_manifest(temporary)
        entry = _put(temporary, root() / name)
    except OSError as error:
        say(f"prepared data is not kept for the next run: {error.strerror or error} ({root()})")
        return None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _tidy(entry, limit)
    return entry


def hand_over(entry: Path, folder: Path) -> None:
    """The files of `entry` in the existing `folder`. Raises `OSError`.

    Tokens, which nobody edits, are linked, or copied where the disk is another; the small files are copied.
    """
    for path in entry.iterdir():
        if path.name == MANIFEST:
            continue
        target = folder / path.name
        target.unlink(missing_ok=True)
        try:
            if path.suffix != ".safetensors":
                raise OSError
            os.link(path, target)
        except OSError:
            copy(path, target, durable=False)


def _files(entry: Path) -> dict[str, Any]:
    """What the manifest says of each file. Raises `OSError` or `ValueError` where there is none."""
    manifest = json.loads((entry / MANIFEST).read_text("utf-8"))
    files = manifest["files"] if isinstance(manifest, dict) and manifest.get("format") == FORMAT else None
    if not isinstance(files, dict):
        raise ValueError("not a manifest")
    return files


def _is_whole(entry: Path, verify: bool = False) -> bool:
    try:
        return all(_agrees(entry / file, said, verify) for file, said in _files(entry).items())
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def _agrees(path: Path, said: Mapping[str, Any], verify: bool) -> bool:
    found = path.stat()
    if (found.st_size, found.st_mtime_ns) != (said["size"], said["changed"]):
        return False
    return not verify or sha256(path) == said["sha256"]


def _write_manifest(folder: Path) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        size = settle(path)
        files[path.name] = {"size": size, "changed": path.stat().st_mtime_ns, "sha256": sha256(path)}
    write_bytes(folder / MANIFEST, json.dumps({"format": FORMAT, "files": files}, indent=1).encode())


def _put(temporary: Path, entry: Path) -> Path:
    """`temporary` as `entry`, unless another process was faster; an entry that is not whole makes way."""
    for _ in range(8):
        try:
            os.rename(temporary, entry)
            return entry
        except OSError:
            if not entry.exists():
                raise
        if _is_whole(entry):
            return entry
        remove(entry)
    raise OSError("other processes keep changing it")


def remove(entry: Path) -> None:
    """Remove an entry: aside first, so that nobody meets half of it."""
    aside = entry.with_name(f"{entry.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")
    try:
        os.rename(entry, aside)
    except OSError:  # another process was faster, or a system that lets no open file go
        return
    shutil.rmtree(aside, ignore_errors=True)


def _tidy(kept: Path, limit: int) -> None:
    """Remove what is no longer wanted; what cannot be removed stays."""
    now, entries = time.time(), []
    for path in _inside(kept.parent):
        if path.name.endswith(TEMPORARY):
            if now - max(map(_changed, [path, *_inside(path)])) > _DAY:
                shutil.rmtree(path, ignore_errors=True)
        elif path != kept and path.is_dir():
            entries.append((_changed(path / MANIFEST), path))
    total = _size(kept) + sum(_size(path) for _, path in entries)
    for used, path in sorted(entries):
        unused = now - used
        if unused > UNUSED_DAYS * _DAY or (total > limit and unused > _HOUR):
            total -= _size(path)
            remove(path)


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _changed(path: Path) -> float:
    """Seconds since 1970, 0 where it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(folder: Path) -> int:
    total = 0
    for path in _inside(folder):
        try:
            total += path.stat().st_size
        except OSError:  # removed in the meantime
            continue
    return total
