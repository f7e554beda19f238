"""Where runs and models lie: whether it can be written, what lies there, how much room is left.

Sizes are bytes. The size of the hub's cache is counted for half a second at most and is a lower bound beyond that.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from localtune.doctor.finding import Finding
from localtune.durable import free_space

COUNT_SECONDS = 0.5
LITTLE = 10**9
"""Free bytes below which even a small adapter's checkpoints may not fit."""


def runs() -> Iterator[Finding]:
    """The folder of all runs; needed."""
    from localtune.runs.store import all_runs, root

    folder = root()
    reason = _not_writable(folder)
    if reason:
        fix = "set LOCALTUNE_RUNS to a folder that can be written"
        yield Finding("runs", "missing", f"{folder}: {reason}", fix, needed=True)
        return
    free = free_space(_existing(folder))
    text = f"{folder}, {_counted(len(all_runs()), 'run')}, {free / 1e9:.1f} GB free"
    yield _roomy("runs", text, free, "localtune runs rm RUN, or set LOCALTUNE_RUNS to a folder on another disk")


def hub_cache() -> Iterator[Finding]:
    """The cache that all tools share, which a model is downloaded into."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    reason = _not_writable(folder)
    if reason:
        text = f"{folder}: {reason}; models in folders can be used, none can be downloaded"
        yield Finding("hub cache", "warning", text, "set HF_HOME to a folder that can be written")
        return
    free = free_space(_existing(folder))
    size, whole = tree_size(folder, COUNT_SECONDS)
    models = sum(path.is_dir() for path in folder.glob("models--*"))
    text = f"{folder}, {_counted(models, 'model')}, {'' if whole else 'over '}{size / 1e9:.1f} GB"
    yield _roomy(
        "hub cache",
        f"{text}, {free / 1e9:.1f} GB free",
        free,
        "hf cache prune, or set HF_HOME to a folder on another disk",
    )


def hub_token() -> Iterator[Finding]:
    """Whether there is one; the hub's own function is not asked, for it may renew a token over the network."""
    from huggingface_hub import constants

    named = [name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(name, "").strip()]
    file = Path(constants.HF_TOKEN_PATH)
    if named:
        yield Finding("hub token", "ok", f"in {named[0]}")
    elif file.is_file() and file.read_bytes().strip():
        yield Finding("hub token", "ok", f"in {file}")
    else:
        yield Finding("hub token", "missing", "none: gated and private models cannot be downloaded", "hf auth login")


def offline() -> Iterator[Finding]:
    """Whether the hub is switched off."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        text = "off, by HF_HUB_OFFLINE: only models on this machine are found"
        yield Finding("downloads", "warning", text, "unset HF_HUB_OFFLINE")
    else:
        yield Finding("downloads", "ok", "on, of models that a recipe names")


def tree_size(folder: Path, seconds: float) -> tuple[int, bool]:
    """Bytes of all files below `folder`, links not followed, and whether `seconds` sufficed to count them all."""
    end, size, waiting = time.monotonic() + seconds, 0, [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if time.monotonic() > end:
                        return size, False
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif not entry.is_symlink():
                        size += entry.stat(follow_symlinks=False).st_size
        except OSError:  # removed meanwhile, or not ours to read
            continue
    return size, True


def _existing(folder: Path) -> Path:
    """`folder`, or the nearest above it that exists, where it would be made."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _not_writable(folder: Path) -> str:
    """Why no file can be made there, tried with one of a single byte that is gone at once; "" if it can."""
    place = _existing(folder)
    if not place.is_dir():
        return "is a file" if place == folder else f"{place} is a file"
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0")
    except OSError as error:
        return f"cannot be written: {error.strerror or type(error).__name__}"
    return ""


def _roomy(name: str, text: str, free: int, fix: str) -> Finding:
    return Finding(name, "ok", text) if free >= LITTLE else Finding(name, "warning", text, fix)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
