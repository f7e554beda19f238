"""JSON objects from files nobody vouches for: bounded in bytes, values and depth, so that time and memory are.

Regular files only, UTF-8, no duplicate keys; every failure names the file. NaN, Infinity and half characters are read,
since they may stand where nobody looks: whoever takes a value looks at its range. Python needs up to 220 bytes for a
value that takes three in the file, so values are bounded before any is made.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from localtune.errors import InputError, Problem

DEPTH = 32
"""Objects and lists inside each other."""
VALUES = 1_000_000
"""Values and keys of one object, counted generously: separators within text count too."""
_SMALLER = "use a smaller file, with fewer values and levels"


def read_object(path: Path, limit: int = 1_000_000, values: int = VALUES) -> dict[str, Any]:
    """The object in the file `path`, at most `limit` bytes. Raises `InputError` (code model.json) otherwise."""
    try:
        if path.exists() and not path.is_file():  # a pipe would never end
            raise _refusal(path.name, "is not a regular file")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise _refusal(path.name, f"cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise _refusal(path.name, f"is larger than {limit:,} bytes", _SMALLER)
    return parse_object(content, path.name, values)


def parse_object(content: bytes, name: str, values: int = VALUES) -> dict[str, Any]:
    """The object in `content`; `name` stands in the message of the `InputError`."""
    if sum(map(content.count, (b",", b":", b"[", b"{"))) > values:
        raise _refusal(name, f"holds more than {values:,} values", _SMALLER)
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise _refusal(f"{name}:{error.lineno}:{error.colno}", f"is not valid JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise _refusal(name, f"is not UTF-8 at byte {error.start:,}") from None
    except RecursionError:
        raise _refusal(name, "is nested too deeply", _SMALLER) from None
    except ValueError as error:
        raise _refusal(name, f"is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise _refusal(name, "does not hold a JSON object")
    if is_deeper(value, DEPTH):
        raise _refusal(name, f"is nested deeper than {DEPTH}", _SMALLER)
    return value


def recoded(error: InputError, code: str, fix: str) -> InputError:
    """`error` with another code and fix: the same fault, of a file of another kind."""
    return InputError(*(replace(problem, code=code, fix=fix) for problem in error.problems))


def is_deeper(value: Any, levels: int) -> bool:
    """Whether objects and lists lie more than `levels` deep inside each other."""
    level = [value]
    for _ in range(levels):
        groups = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for group in groups for item in group if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The `object_pairs_hook` that refuses a key given twice. Raises `ValueError`."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return found


def _refusal(where: str, what: str, fix: str = "get a fresh copy of the file") -> InputError:
    return InputError(Problem("model.json", what, where, fix=fix))
