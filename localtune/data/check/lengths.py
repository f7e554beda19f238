"""Rows that are far longer or shorter than the others; four bytes a row and measure are kept.

Long: more than 8 times the median and 2,000 characters. A short answer: under a twentieth of the median answer, where
that has 40 characters or more, so that data of one-word answers is left alone.
"""

from array import array
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from localtune.data.check.finding import KEPT, Finding, Seen
from localtune.data.check.same import Keys
from localtune.data.check.written import answer_of

TIMES_LONGER, LONG = 8, 2_000
TIMES_SHORTER, SHORT = 20, 40


class Lengths:
    """Looks at how long rows and their answers are, in characters."""

    codes = ("long", "short")

    def __init__(self, keys: Keys) -> None:
        """`keys` knows the places of the rows, in the same order."""
        self._keys = keys
        self._rows, self._answers = array("I"), array("I")

    @property
    def characters(self) -> NDArray[np.uint32]:
        """Of each row, uint32 [rows]."""
        return np.frombuffer(self._rows, np.uint32)

    @property
    def answers(self) -> NDArray[np.uint32]:
        """Characters of each row's last answer, uint32 [rows]."""
        return np.frombuffer(self._answers, np.uint32)

    def see(self, row: Seen) -> None:
        """Look at the next row."""
        self._rows.append(min(len(row.text), 2**32 - 1))
        self._answers.append(min(len(answer_of(row.example)), 2**32 - 1))

    def findings(self, name: str) -> Iterator[Finding]:
        """What was seen."""
        if not len(self._rows):
            return
        rows, answers = self.characters, self.answers
        middle = float(np.median(rows))
        long = np.flatnonzero(rows > max(TIMES_LONGER * middle, LONG))
        if len(long):
            what = f"rows are more than {TIMES_LONGER} times as long as the median of {middle:,.0f} characters"
            yield self._finding("long", what, long[np.argsort(-rows[long].astype(np.int64), kind="stable")], rows, name)
        middle = float(np.median(answers))
        short = np.flatnonzero(answers * TIMES_SHORTER < middle)
        if middle >= SHORT and len(short):
            what = f"answers are shorter than a twentieth of the median of {middle:,.0f} characters"
            yield self._finding("short", what, short, answers, name)

    def _finding(self, code: str, what: str, at: NDArray[np.int64], lengths: NDArray[np.uint32], name: str) -> Finding:
        first = tuple(f"{self._keys.place(i)}  {lengths[i]:,} characters" for i in at[:KEPT].tolist())
        return Finding(code, "note", len(at), what, first, f"localtune data show {name} --row N   shows one")
