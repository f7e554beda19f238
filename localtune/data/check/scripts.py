"""Which scripts a text is written in: by blocks of Unicode, not languages; French and English are both Latin.

A row counts for the script of more than half of its letters. Han beside Kana is Japanese writing and counts as Kana;
Han beside Hangul keeps its own count. At most 4,000 characters of a row are read.
"""

from collections import Counter
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from localtune.data.check.finding import Finding, Seen, Tally

FEWEST_LETTERS = 10
"""A row with fewer has no script."""
_READ = 4000
_RANGES: dict[str, tuple[tuple[int, int], ...]] = {
    "Latin": ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x1E00, 0x1EFF), (0xFF21, 0xFF3A), (0xFF41, 0xFF5A)),
    "Hangul": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF)),
    "Han": ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),
    "Kana": ((0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9D)),
    "Cyrillic": ((0x400, 0x52F), (0x1C80, 0x1C8F)),
    "Greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "Arabic": ((0x620, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC)),
    "Hebrew": ((0x5D0, 0x5F4),),
    "Devanagari": ((0x900, 0x97F),),
    "Bengali": ((0x980, 0x9FF),),
    "Tamil": ((0xB80, 0xBFF),),
    "Telugu": ((0xC00, 0xC7F),),
    "Thai": ((0xE00, 0xE7F),),
    "Georgian": ((0x10A0, 0x10FF),),
    "Armenian": ((0x530, 0x58F),),
    "Ethiopic": ((0x1200, 0x139F),),
    "Khmer": ((0x1780, 0x17FF),),
    "Myanmar": ((0x1000, 0x109F),),
}
NAMES = tuple(_RANGES)


def shares(text: str) -> dict[str, int]:
    """Letters of `text` by script."""
    text = text[:_READ]
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    counts = np.bincount(_table()[points], minlength=len(NAMES) + 1)
    found = {name: int(count) for name, count in zip(NAMES, counts[1:], strict=True) if count}
    if found.get("Kana", 0) * 10 > found.get("Han", 0):
        found["Kana"] += found.pop("Han", 0)
    return found


def script_of(text: str) -> str:
    """The script of more than half of the letters; "" where there is none, "mixed" where none has so many."""
    found = shares(text)
    letters = sum(found.values())
    if letters < FEWEST_LETTERS:
        return ""
    name = max(found, key=lambda script: found[script])
    return name if 2 * found[name] > letters else "mixed"


class Scripts:
    """Looks at the script of every row."""

    codes = ("scripts",)

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        """Script -> rows; "" without letters."""
        self._tallies: dict[str, Tally] = {}

    def see(self, row: Seen) -> None:
        """Look at the next row."""
        script = "Latin" if row.text.isascii() and _has_letters(row.text) else script_of(row.text)
        self.rows[script] += 1
        if script:
            self._tallies.setdefault(script, Tally()).add(row.place, f"mostly {script}")

    def findings(self, name: str) -> Iterator[Finding]:
        """Rows in another script than most."""
        written = Counter({script: count for script, count in self.rows.items() if script})
        if len(written) < 2:
            return
        most, _ = written.most_common(1)[0]
        others = {script: count for script, count in written.most_common() if script != most}
        first = [place for script in others for place in self._tallies[script].first][:5]
        listed = ", ".join(f"{script} {count:,}" for script, count in written.most_common())
        what = f"rows are written in several scripts (scripts are told apart, not languages): {listed}"
        fix = "keep them if the model is to speak all of these; else take them out"
        yield Finding("scripts", "note", sum(others.values()), what, tuple(first), fix, dict(written))


def _has_letters(text: str) -> bool:
    return len(text) > 4 * FEWEST_LETTERS or sum(map(str.isalpha, text)) >= FEWEST_LETTERS


@cache
def _table() -> NDArray[np.uint8]:
    """Code point -> 1 + number of its script; 0 for everything else."""
    table = np.zeros(0x110000, np.uint8)
    for number, ranges in enumerate(_RANGES.values(), start=1):
        for first, last in ranges:
            table[first : last + 1] = number
    return table
