"""Rows that are there twice, prompts with several answers, and held-out rows that are trained on.

Kept per row are two hashes and a place, 24 bytes, never the row (see `written` for what a hash promises); comparing
them takes 40 bytes a row for a moment.
"""

from array import array
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from localtune.data.check.finding import KEPT, Finding, Seen, Tally, plural
from localtune.data.check.written import keys_of
from localtune.data.conversations import Conversation, Example, Pair
from localtune.data.rows import Place

LEAK_SHARE = 100
"""More than one held-out row in this many that is trained on is an error."""
Indices = NDArray[np.int64]
Hashes = NDArray[np.uint64]


class Keys:
    """Hashes and places of the rows of one part: training, validation or test."""

    def __init__(self) -> None:
        self._whole, self._asked, self._ids = array("Q"), array("Q"), array("q")
        self._files: dict[int, str] = {}

    def add(self, example: Example) -> None:
        """Take up the next row."""
        whole, asked = keys_of(example)
        self._whole.append(whole)
        self._asked.append(asked)
        self._ids.append(example.place.id)
        self._files.setdefault(example.place.number, example.place.file)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def whole(self) -> Hashes:
        """Of the whole row, uint64 [rows]."""
        return np.frombuffer(self._whole, np.uint64)

    @property
    def asked(self) -> Hashes:
        """Of what is asked, 0 where nothing is, uint64 [rows]."""
        return np.frombuffer(self._asked, np.uint64)

    def place(self, index: int) -> Place:
        """Where row `index` stands."""
        number, line = self._ids[index] >> 40, self._ids[index] & ((1 << 40) - 1)
        return Place(self._files[number], line, number)


def origins(hashes: Hashes) -> Indices:
    """For each row the index of the first one with the same hash, int64 [rows]; its own where it is the first."""
    if not len(hashes):
        return np.zeros(0, np.int64)
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    begins = np.r_[True, ordered[1:] != ordered[:-1]]
    found = np.empty(len(hashes), np.int64)
    found[order] = order[begins][np.cumsum(begins) - 1]
    return found


def leaked(train: Keys, held_out: Keys) -> Indices:
    """For each row of `train` the index of a row of `held_out` with the same prompt, or the same whole; -1 for none."""
    by_whole = _where(train.whole, held_out.whole)
    by_prompt = np.where(train.asked == 0, -1, _where(train.asked, held_out.asked))
    return np.where(by_whole >= 0, by_whole, by_prompt)


def several_answers(keys: Keys) -> tuple[int, list[tuple[int, int]]]:
    """How many prompts have several different answers, and the first two rows of the first of these."""
    asked, first = keys.asked, np.flatnonzero(origins(keys.whole) == np.arange(len(keys)))
    first = first[asked[first] != 0]
    origin = origins(asked[first])
    again = np.flatnonzero(origin != np.arange(len(first)))
    prompts, rows = np.unique(origin[again], return_index=True)  # ascending, so the first come first
    pairs = zip(prompts[:KEPT].tolist(), rows[:KEPT].tolist(), strict=True)
    return len(prompts), [(int(first[prompt]), int(first[again[row]])) for prompt, row in pairs]


class Same:
    """Looks for rows that are there twice and for prompts with several answers."""

    codes = ("duplicate", "same-prompt")

    def __init__(self) -> None:
        self.keys = Keys()
        self._asks = False

    def see(self, row: Seen) -> None:
        """Look at the next row."""
        self.keys.add(row.example)
        self._asks |= isinstance(row.example, Conversation | Pair)

    def findings(self, name: str) -> Iterator[Finding]:
        """What was seen."""
        origin = origins(self.keys.whole)
        again = np.flatnonzero(origin != np.arange(len(origin)))
        if len(again):
            what = "rows are there before already: they are learned more often than the others"
            fix = f"localtune data check {name} --fix dup -o clean.jsonl"
            first = tuple(f"{self.keys.place(i)} = {self.keys.place(origin[i])}" for i in again[:KEPT].tolist())
            yield Finding("duplicate", "warning", len(again), what, first, fix)
        prompts, pairs = several_answers(self.keys) if self._asks else (0, [])
        if prompts:
            what = f"{plural(prompts, 'prompt')} with different answers: fine where several are right, else a conflict"
            places = tuple(f"{self.keys.place(a)} and {self.keys.place(b)}" for a, b in pairs)
            yield Finding("same-prompt", "note", prompts, what, places, f"localtune data show {name} --row N")


def leak_findings(train: Keys, held_out: Mapping[str, Keys], name: str) -> Iterator[Finding]:
    """Rows of the held-out parts ("validation", "test") whose prompt or whole is among the training rows."""
    for part, keys in held_out.items():
        found, tally = leaked(keys, train), Tally()
        for row in np.flatnonzero(found >= 0).tolist():
            tally.add(f"{keys.place(row)} = {train.place(int(found[row]))}")
        severe = tally.count * LEAK_SHARE > len(keys)
        share = f"{tally.count:,} of {len(keys):,} {part} rows"
        what = f"{share} are trained on (same prompt, or same text): their score says nothing about new ones"
        fix = f"localtune data check {name} --fix leak -o clean.jsonl"
        yield from tally.finding("leak", "error" if severe else "warning", what, fix)


def leaking(train: Keys, held_out: Mapping[str, Keys]) -> int:
    """How many training rows ask or say what a held-out row does."""
    found = np.zeros(len(train), bool)
    for keys in held_out.values():
        found |= leaked(train, keys) >= 0
    return int(found.sum())


def _where(hashes: Hashes, among: Hashes) -> Indices:
    """Index in `among` of each hash, the first there is; -1 for none."""
    if not len(among):
        return np.full(len(hashes), -1, np.int64)
    order = np.argsort(among, kind="stable")
    at = np.minimum(np.searchsorted(among[order], hashes), len(among) - 1)
    return np.where(among[order][at] == hashes, order[at], -1)
