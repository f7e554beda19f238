"""Links in a folder that nobody vouches for: they may lead within it, or to the files of the hub's cache.

A folder that was unpacked or copied can hold a link to any file of this machine, whose content would then be read as
the model's, and written into what is made of it. What is never read may be a link to anything.
"""

import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from localtune.errors import InputError, Problem

READ = (
    *("*.json", "*.jinja", "*.safetensors", "*.model", "*.model.v*", "*.tiktoken"),
    *("chat_template.*", "vocab.txt", "merges.txt"),
    *("license*", "licence*", "notice*", "use_policy*", "readme.md"),
)
"""Files of a model that are read or copied, as patterns of their names in lower case."""
_BLOB = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
"""What the hub's cache calls the content of a file: nothing else that lies where a foreign link leads is called so."""


def refuse_links_out(folder: Path, files: Iterable[Path] | None = None) -> None:
    """Raise `InputError` (code model.link) where one of `files` in `folder`, by default a model's, lies elsewhere.

    That is by a link which it is itself, or which the folder is that holds it.
    """
    root = _root(Path(os.path.realpath(folder)))
    for path in _read(folder) if files is None else files:
        there = Path(os.path.realpath(path))  # which also answers where links lead in a circle
        if not there.is_relative_to(root) and not os.path.isdir(there) and not _is_cached(there, root):
            what = "is a link that leads out of its folder, to a file that is not part of it"
            fix = "if you made the link yourself, replace it by a copy of the file; if not, do not use this folder"
            raise InputError(Problem("model.link", what, path.relative_to(folder).as_posix(), fix=fix))


def _read(folder: Path) -> Iterator[Path]:
    for path in sorted((*folder.iterdir(), *folder.glob("additional_chat_templates/*"))):
        if any(fnmatchcase(path.name.lower(), pattern) for pattern in READ):
            yield path


def _root(folder: Path) -> Path:
    """What the files of `folder` may lie in: of a snapshot in the hub's cache, all that is kept of the model."""
    kept = folder.parent.parent
    return kept if folder.parent.name == "snapshots" and kept.name.startswith("models--") else folder


def _is_cached(file: Path, root: Path) -> bool:
    """Whether `file` is content in the hub's cache, or in that of the model at `root`, which may be on another disk."""
    if not _BLOB.fullmatch(file.name):
        return False
    from huggingface_hub import constants

    blobs = os.path.realpath(root / "blobs") if root.name.startswith("models--") else None
    return str(file.parent) == blobs or file.is_relative_to(os.path.realpath(constants.HF_HUB_CACHE))
