"""What an installation holds: as the locks in constraints/ say, and as the metadata of what is installed says."""

import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "constraints"
_ENTRY = re.compile(
    r"(?P<name>[a-z0-9._-]+)==(?P<version>[a-zA-Z0-9.+!]+)( ; (?P<marker>[^\\\n#]+?))?"
    r"(?P<hashes>( \\\n    --hash=sha256:[0-9a-f]{64})+)"
)


@dataclass(frozen=True)
class Locked:
    """One package of a lock."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    """SHA-256 of every file that may be installed."""


def read(text: str) -> list[Locked]:
    """The entries of a lock; ValueError where anything but names, versions, markers and SHA-256 stands in it."""
    found = []
    for block in re.split(r"\n(?! )", text.strip("\n")):
        entry = _ENTRY.fullmatch(block)
        if entry is None:
            raise ValueError(f"{block.partition(' ')[0]}: not name==version with hashes")
        hashes = tuple(re.findall("[0-9a-f]{64}", entry["hashes"]))
        found.append(Locked(canonicalize_name(entry["name"]), entry["version"], entry["marker"] or "", hashes))
    return found


def lock(name: str) -> dict[str, Locked]:
    """The lock `name`, by the names of its packages."""
    return {entry.name: entry for entry in read((FOLDER / f"{name}.txt").read_text(encoding="utf-8"))}


def needed(root: str, extras: Iterable[str], platform: dict[str, str]) -> set[str]:
    """Names of all that `root` with `extras` brings to `platform` (values of environment markers).

    Exact for what is installed here; of a package that is not, only the name is known.
    """
    seen: dict[str, set[str]] = {}
    waiting = [(canonicalize_name(root), frozenset(extras))]
    while waiting:
        name, asked = waiting.pop()
        if name in seen and asked <= seen[name]:
            continue
        seen.setdefault(name, set()).update(asked)
        waiting += [
            (canonicalize_name(entry.name), frozenset(entry.extras)) for entry in _direct(name, seen[name], platform)
        ]
    return set(seen) - {canonicalize_name(root)}


def _direct(name: str, extras: Iterable[str], platform: dict[str, str]) -> Iterator[Requirement]:
    try:
        lines = importlib.metadata.distribution(name).requires or []
    except importlib.metadata.PackageNotFoundError:
        return
    for requirement in map(Requirement, lines):
        places = [{**platform, "extra": extra} for extra in ("", *extras)]
        if requirement.marker is None or any(requirement.marker.evaluate(place) for place in places):
            yield requirement
