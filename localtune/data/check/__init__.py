"""`localtune data check`: one pass over rows of any size that says what is wrong with them and what mends it.

Rows are looked at one by one and forgotten; what is kept is hashes, lengths, counts and the first five places of each
finding. Each module says what of it is exact and what is estimated.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from localtune.data.check.characters import Characters, Markup
from localtune.data.check.finding import Finding, Look, Seen, Severity, Tally
from localtune.data.check.labels import Labels
from localtune.data.check.lengths import Lengths
from localtune.data.check.mend import BY_HAND, mended
from localtune.data.check.model import Model
from localtune.data.check.near import MOST, Near
from localtune.data.check.personal import Personal
from localtune.data.check.same import Keys, Same, leak_findings, leaking
from localtune.data.check.scripts import Scripts
from localtune.data.check.turns import Turns
from localtune.data.check.written import text_of
from localtune.data.opened import Opened
from localtune.data.rendering import Rendering
from localtune.errors import Problem
from localtune.typed import typed

__all__ = ["Checked", "Finding", "HeldOut", "check", "held_out_part"]

FORMAT = 1
BAD_SHARE = 100
"""More than one unusable row in this many is an error: a run stops."""
_PLACE = re.compile(r"(.*?:(\d+))(?: |:|$)")
BAD_CODES = ("unreadable", "unusable", "mixed")
_ORDER = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Checked:
    """What was looked at, and what was found."""

    name: str
    files: tuple[str, ...]
    shape: str
    why: str
    """The shape and what decided it."""
    rows: int
    """All of them, unusable ones included."""
    said: tuple[str, ...]
    """How the files were read, where there is more to say than plain UTF-8."""
    held_out: dict[str, int]
    """Part -> rows that were compared with the training rows."""
    tokens: dict[str, int]
    """With a model: total, learned, p50, p95, max of the rows before they are cut; else empty."""
    looked_for: tuple[str, ...]
    """Codes of all findings that were possible."""
    findings: tuple[Finding, ...]
    """Errors first."""
    keys: Keys
    """Of the usable rows, for a clean copy."""
    mend: str = ""
    """The command that mends all that can be mended, where several findings can; else empty."""

    @property
    def failed(self) -> bool:
        """Whether there is an error among the findings."""
        return any(finding.severity == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the format's version."""
        named = ("name", "files", "shape", "why", "rows", "said", "held_out", "tokens", "looked_for", "mend")
        plain = {key: list(v) if isinstance(v := getattr(self, key), tuple) else v for key in named}
        return {"format": FORMAT} | plain | {"findings": [finding.to_json() for finding in self.findings]}


@dataclass(frozen=True)
class HeldOut:
    """A validation or test part: what it is compared by, and which of its rows are of no use."""

    keys: Keys
    """Of its usable rows."""
    findings: tuple[Finding, ...]
    """Of its rows that cannot be read or used; codes begin with the part's name."""


@dataclass
class _Unusable:
    """Rows that cannot be read, or are of no use as they are."""

    turns: Turns | None
    """Takes up what is empty; None where that is not told apart."""
    unreadable: Tally = field(default_factory=Tally)
    unusable: Tally = field(default_factory=Tally)
    mixed: Tally = field(default_factory=Tally)
    count: int = 0

    def unread(self, problem: Problem) -> None:
        self.count += 1
        self.unreadable.add(problem.where, problem.what, problem.code)

    def unused(self, problem: Problem) -> None:
        self.count += 1
        if problem.code == "data.mixed":
            self.mixed.add(problem.where, problem.what)
        elif self.turns is None or not self.turns.unusable(problem):
            self.unusable.add(problem.where, problem.what, problem.code)


def check(
    opened: Opened,
    held_out: Mapping[str, HeldOut] | None = None,
    rendering: Rendering | None = None,
    *,
    shown: str = "",
    beside: str = "",
    near: int = MOST,
) -> Checked:
    """Look at every row of `opened`.

    `held_out`: the validation and test rows (`held_out_part`). `rendering`: of the model that is to learn the rows.
    `shown`: the data as a command names it; `beside`: the flags that name the held-out rows. `near`: rows among which
    near duplicates are looked for. Raises `InputError` for what cannot be read at all.
    """
    same, turns = Same(), Turns()
    model = Model(rendering, opened.settings) if rendering else None
    looks: list[Look] = [turns, Characters(), Markup(), Personal(), same, Near(near), Labels(), Scripts()]
    looks += [Lengths(same.keys), *([model] if model else [])]
    bad = _Unusable(turns)
    for row, outcome in opened.rows(bad.unread):
        if isinstance(outcome, Problem):
            bad.unused(outcome)
            continue
        seen = Seen(outcome, row.value, text_of(outcome))
        for look in looks:
            look.see(seen)
    name, rows = shown or opened.name, len(same.keys) + bad.count
    turns.stops = bad.count * BAD_SHARE > rows
    parts = held_out or {}
    keys = {part: looked.keys for part, looked in parts.items()}
    findings = [*_bad_findings(bad, turns.stops, f"localtune data check {name} --fix bad -o clean.jsonl")]
    findings += [finding for look in looks for finding in look.findings(name)]
    findings += leak_findings(same.keys, keys, name + beside)
    dropped = {finding.code: finding.count for finding in findings} | {"leak": leaking(same.keys, keys)}
    findings, mend = mended(findings, dropped, rows, name + beside)
    findings += [finding for looked in parts.values() for finding in looked.findings]
    codes = ["unreadable", "unusable", *(code for look in looks for code in look.codes)]
    codes += [*(["leak"] if parts else []), *(f"{part}-{code}" for part in parts for code in BAD_CODES)]
    several = len(opened.files) > 1
    return Checked(
        name=opened.name,
        files=opened.files,
        shape=opened.form.shape,
        why=opened.form.why,
        rows=rows,
        said=opened.said(),
        held_out={part: len(found) for part, found in keys.items()},
        tokens=_tokens(model),
        looked_for=tuple(codes),
        findings=tuple(sorted((_typed(f, several) for f in findings), key=lambda finding: _ORDER[finding.severity])),
        keys=same.keys,
        mend=mend,
    )


def held_out_part(part: str, opened: Opened, flags: str = "") -> HeldOut:
    """What the training rows are compared with, and the rows of `part` ("validation", "test") that are of no use.

    `flags`: the settings as a command names them.
    """
    keys, bad = Keys(), _Unusable(None)
    for _, outcome in opened.rows(bad.unread):
        if isinstance(outcome, Problem):
            bad.unused(outcome)
        else:
            keys.add(outcome)
    rows = len(keys) + bad.count
    name = typed(opened.files[0] if len(opened.files) == 1 else opened.name) + flags
    fix = f"localtune data check {name} --fix bad,empty -o clean-{part}.jsonl" if len(keys) else BY_HAND
    findings = _bad_findings(bad, bad.count * BAD_SHARE > rows, fix, part)
    return HeldOut(keys, tuple(findings))


def _bad_findings(bad: _Unusable, stops: bool, fix: str, part: str = "") -> list[Finding]:
    severity: Severity = "error" if stops else "warning"
    does = "a run stops where more than 1 % cannot be used" if stops else "a run skips and counts them"
    code, rows = (f"{part}-", f"{part} rows") if part else ("", "rows")
    unread = bad.unreadable.finding(f"{code}unreadable", severity, f"{rows} cannot be read; {does}", fix)
    unused = bad.unusable.finding(f"{code}unusable", severity, f"{rows} cannot be used as they are; {does}", fix)
    what = f"{rows} have another shape than the first row; a run stops"
    mixed = bad.mixed.finding(f"{code}mixed", "error", what, f"put each shape into a file of its own, or {fix}")
    return [*mixed, *unread, *unused]


def _tokens(model: Model | None) -> dict[str, int]:
    if model is None or not len(model.tokens):
        return {}
    tokens = model.tokens
    p50, p95 = (int(np.percentile(tokens, q, method="higher")) for q in (50, 95))
    total, learned = int(tokens.sum(dtype=np.int64)), int(model.learned.sum(dtype=np.int64))
    return {"total": total, "learned": learned, "p50": p50, "p95": p95, "max": int(tokens.max())}


def _typed(finding: Finding, several: bool) -> Finding:
    """The finding with its first row in the command, where that shows a row; with its file where there are several."""
    place = _PLACE.match(finding.first[0]) if finding.first else None
    if place is None:
        return finding
    row = typed(place[1]) if several else place[2]
    return replace(finding, fix=finding.fix.replace("--row N", f"--row {row}"))
