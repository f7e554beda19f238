"""Which findings a clean copy ends, and the one command that makes it.

No copy is proposed that would hold no row. Rows that are there twice never matter for that: the first of them stays.
The bound is exact for one kind; for several a row with two faults counts twice, so a copy may go unmentioned.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from localtune.data.check.finding import Finding
from localtune.data.check.fix import MENDED, Kind

BY_HAND = "mend these rows by hand: without them no row is left"
_EMPTYING: tuple[Kind, ...] = ("bad", "empty", "leak")
"""Kinds that can drop every row."""


def mended(findings: Sequence[Finding], dropped: Mapping[str, int], rows: int, name: str) -> tuple[list[Finding], str]:
    """`findings`, without the proposal of a copy that would be empty, and the command that mends several at once.

    `dropped`: code -> training rows that go with it. `name`: the data and its flags, as a command names them. The
    command is "" where fewer than two findings can be mended.
    """
    codes = {finding.code for finding in findings}
    found = [kind for kind, ends in MENDED.items() if codes & set(ends)]
    if "unreadable" in codes and "bad" not in found:
        found.insert(0, "bad")
    empties = {kind for kind in found if not _is_left([kind], dropped, rows)}
    kept = [replace(f, fix=BY_HAND) if "--fix" in f.fix and _kind(f.code) in empties else f for f in findings]
    several = sum("--fix" in finding.fix for finding in kept) > 1
    if not several or not _is_left(found, dropped, rows):
        return kept, ""
    return kept, f"localtune data check {name} --fix {','.join(found)} -o clean.jsonl"


def _is_left(kinds: Iterable[Kind], dropped: Mapping[str, int], rows: int) -> bool:
    """Whether a row is left; those that cannot be read always go."""
    codes = {"unreadable", *(code for kind in kinds if kind in _EMPTYING for code in MENDED[kind])}
    return sum(dropped.get(code, 0) for code in codes) < rows


def _kind(code: str) -> Kind:
    return next((kind for kind, ends in MENDED.items() if code in ends), "bad")
