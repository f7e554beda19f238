"""Rows with and without faults, and what the check finds in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from localtune.data.check import Checked, Finding, check, held_out_part
from localtune.data.opened import Opened, open_data
from localtune.data.rendering import Rendering
from localtune.settings import DataSettings
from tests.unit.data.builders import write_rows

Rows = Sequence[Mapping[str, Any]]
_WORDS = ("river", "stone", "lamp", "garden", "winter", "copper", "violin", "market", "harbour", "feather", "engine")


def sentence(number: int, words: int = 12) -> str:
    """A sentence that no other number has."""
    return " ".join(_WORDS[(number * (i + 3) + i * i) % len(_WORDS)] + str(number * 31 + i) for i in range(words))


def chat(asked: str, answered: str, *, system: str = "") -> dict[str, Any]:
    """A conversation of one question and its answer."""
    first = [{"role": "system", "content": system}] if system else []
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return {"messages": [*first, *turns]}


def good(count: int = 20, first: int = 0) -> list[dict[str, Any]]:
    """Rows with nothing to find in them."""
    return [chat(f"What is {sentence(n, 6)}?", f"It is {sentence(n)}.") for n in range(first, first + count)]


def turns(*said: tuple[str, str]) -> dict[str, Any]:
    """A conversation of (role, content)."""
    return {"messages": [{"role": role, "content": content} for role, content in said]}


def opened(folder: Path, rows: Rows, name: str = "rows.jsonl", **settings: Any) -> Opened:
    """`rows` in a file of `folder`, opened."""
    write_rows(folder / name, rows)
    return open_data(name, DataSettings(train=name, **settings), folder)


def checked(
    folder: Path, rows: Rows, *, valid: Rows = (), rendering: Rendering | None = None, near: int = 1000, **settings: Any
) -> Checked:
    """What the check says of `rows`, with `valid` as validation rows."""
    held_out = {"validation": held_out_part("validation", opened(folder, valid, "valid.jsonl"))} if valid else {}
    return check(opened(folder, rows, **settings), held_out, rendering, near=near)


def by_code(result: Checked) -> dict[str, Finding]:
    """Findings by their codes; the test fails where a code comes twice."""
    found = {finding.code: finding for finding in result.findings}
    assert len(found) == len(result.findings)
    return found
