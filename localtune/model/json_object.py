"""JSON objects from files nobody vouches for: bounded size, UTF-8, no duplicate keys; every failure names the file."""

import json
from pathlib import Path
from typing import Any

from localtune.errors import InputError, Problem

DEPTH = 32
"""Objects and lists inside each other."""


def read_object(path: Path, limit: int = 1_000_000) -> dict[str, Any]:
    """The object in the file `path`, at most `limit` bytes. Raises `InputError` (code model.json) otherwise."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise _refusal(path.name, f"cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise _refusal(path.name, f"is larger than {limit:,} bytes")
    found = parse_object(content, path.name)
    _check_depth(found, path.name)
    return found


def parse_object(content: bytes, name: str) -> dict[str, Any]:
    """The object in `content`; `name` stands in the message of the `InputError`."""
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise _refusal(f"{name}:{error.lineno}:{error.colno}", f"is not valid JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise _refusal(name, f"is not UTF-8 at byte {error.start:,}") from None
    except RecursionError:
        raise _refusal(name, "is nested too deeply") from None
    except ValueError as error:
        raise _refusal(name, f"is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise _refusal(name, "does not hold a JSON object")
    return value


def _check_depth(value: Any, name: str) -> None:
    level = [value]
    for _ in range(DEPTH):
        groups = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for group in groups for item in group]
        if not level:
            return
    raise _refusal(name, f"is nested deeper than {DEPTH}")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The `object_pairs_hook` that refuses a key given twice. Raises `ValueError`."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return found


def _refusal(where: str, what: str) -> InputError:
    return InputError(Problem("model.json", what, where, fix="get a fresh copy of the file"))
