"""Rows in numbers: turns, roles, characters, columns, scripts and, with a model, tokens. Counts and lengths are exact;
percentiles are of rows, the higher of two neighbours."""

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localtune.data.check.finding import Seen
from localtune.data.check.model import Model
from localtune.data.check.scripts import Scripts
from localtune.data.check.written import text_of
from localtune.data.conversations import Conversation, Example, Labelled, Pair, Preference
from localtune.data.opened import Opened
from localtune.data.rendering import Rendering
from localtune.errors import Problem

FORMAT = 1
BINS = 24


@dataclass(frozen=True)
class Spread:
    """One length of every row."""

    total: int
    p5: int
    p50: int
    p95: int
    longest: int
    histogram: tuple[int, ...]
    """Rows in bins of equal width from 0 to p99; what is longer is in the last one."""


@dataclass(frozen=True)
class Measured:
    """What the rows are."""

    name: str
    shape: str
    why: str
    rows: int
    """Usable ones."""
    unusable: int
    columns: dict[str, int]
    """Column -> rows that have it."""
    roles: dict[str, int]
    """Role -> turns; of preference rows those of both sides."""
    turns: Spread
    characters: Spread
    tokens: Spread | None
    """Before rows are cut."""
    learned: Spread | None
    scripts: dict[str, int]
    """Script -> rows; "" for rows with hardly a letter."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the format's version."""
        return {"format": FORMAT} | asdict(self)


def measure(opened: Opened, rendering: Rendering | None = None) -> Measured:
    """Measure every row of `opened`; with `rendering` also in tokens. Raises `InputError`."""
    columns: Counter[str] = Counter()
    roles: Counter[str] = Counter()
    turns, characters = array("I"), array("I")
    scripts, unusable = Scripts(), 0
    model = Model(rendering, opened.settings) if rendering else None
    unreadable: Counter[str] = Counter()
    for row, outcome in opened.rows(lambda problem: unreadable.update((problem.code,))):
        columns.update(row.value.keys())
        if isinstance(outcome, Problem):
            unusable += 1
            continue
        seen = Seen(outcome, row.value, text_of(outcome))
        of_row = roles_of(outcome)
        roles.update(of_row)
        turns.append(sum(of_row.values()))
        characters.append(len(seen.text))
        scripts.see(seen)
        if model:
            model.see(seen)
    return Measured(
        name=opened.name,
        shape=opened.form.shape,
        why=opened.form.why,
        rows=len(turns),
        unusable=unusable + unreadable.total(),
        columns=dict(columns.most_common()),
        roles=dict(roles.most_common()),
        turns=spread(np.array(turns)),
        characters=spread(np.array(characters)),
        tokens=spread(model.tokens) if model else None,
        learned=spread(model.learned) if model else None,
        scripts=dict(scripts.rows.most_common()),
    )


def roles_of(example: Example) -> Mapping[str, int]:
    """Turns of `example` by role."""
    match example:
        case Conversation(messages=messages):
            return Counter(message.role for message in messages)
        case Pair(system=system):
            return {"system": 1, "user": 1, "assistant": 1} if system else {"user": 1, "assistant": 1}
        case Preference(chosen=chosen, rejected=rejected):
            return Counter(roles_of(chosen)) + Counter(roles_of(rejected))
        case Labelled(example=inner):
            return roles_of(inner)
        case _:
            return {}


def spread(lengths: NDArray[Any]) -> Spread:
    """Percentiles and histogram of `lengths`, integers [rows]; all 0 for no rows."""
    if not len(lengths):
        return Spread(0, 0, 0, 0, 0, ())
    p5, p50, p95, p99 = (int(np.percentile(lengths, q, method="higher")) for q in (5, 50, 95, 99))
    width = max(p99, 1) / BINS
    bins = np.minimum((lengths / width).astype(np.int64), BINS - 1)
    histogram = tuple(int(count) for count in np.bincount(bins, minlength=BINS))
    return Spread(int(lengths.sum(dtype=np.int64)), p5, p50, p95, int(lengths.max()), histogram)
