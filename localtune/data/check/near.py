"""Rows that are nearly the same, by MinHash over runs of five words, or of five characters in scripts without spaces.

An estimate: 128 hashes say the share of common runs within about 0.04. Rows count from 0.8 on. Looked at are rows
until 20,000 different ones are known, so memory is bounded; what comes later is not looked at, and that is said.
"""

import importlib
import re
import zlib
from collections.abc import Iterator
from typing import Any

from localtune.data.check.finding import Finding, Seen, Tally
from localtune.data.rows import Place
from localtune.typed import typed

MODULE = "datasketch"
MOST = 20_000
"""Different rows that are kept to compare with."""
SIMILAR = 0.8
RUN = 5
MOST_RUNS = 5_000
"""Of a row that are compared."""
_HASHES = 128
_WORD = re.compile(r"\w+")
_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


def runs_of(text: str) -> set[int]:
    """32-bit hashes of all runs of five words of `text`; of characters where a third or more has no spaces."""
    text = text[: 20 * MOST_RUNS].lower()
    spaceless = not text.isascii() and 3 * len(_SPACELESS.findall(text)) >= len(text)
    parts = [c for c in text if not c.isspace()] if spaceless else _WORD.findall(text)
    parts = parts[:MOST_RUNS]
    if len(parts) < RUN:
        return {zlib.crc32(" ".join(parts).encode("utf-8", "surrogatepass"))}
    return {
        zlib.crc32(" ".join(parts[i : i + RUN]).encode("utf-8", "surrogatepass")) for i in range(len(parts) - RUN + 1)
    }


class NearIndex:
    """Different rows seen so far, to find the one a new row resembles."""

    def __init__(self, most: int = MOST) -> None:
        """Raises `ImportError` without datasketch."""
        datasketch: Any = importlib.import_module(MODULE)
        self._lsh = datasketch.MinHashLSH(threshold=SIMILAR - 0.1, num_perm=_HASHES)
        self._empty = datasketch.MinHash(num_perm=_HASHES, hashfunc=int)
        self._kept: list[Any] = []
        self._places: list[Place] = []
        self._most = most
        self._texts: set[int] = set()

    @property
    def full(self) -> bool:
        """Whether no more rows are looked at."""
        return len(self._kept) >= self._most

    def resembles(self, place: Place, text: str) -> Place | None:
        """The earlier row that `text` resembles; None when it is new, and is kept from now on, or the very same."""
        if self.full or hash(text) in self._texts:
            return None
        self._texts.add(hash(text))
        sketch = self._sketch(text)
        likely: list[int] = [i for i in sorted(self._lsh.query(sketch)) if sketch.jaccard(self._kept[i]) >= SIMILAR]
        if likely:
            return self._places[likely[0]]
        self._lsh.insert(len(self._kept), sketch)
        self._kept.append(sketch)
        self._places.append(place)
        return None

    def _sketch(self, text: str) -> Any:
        sketch = self._empty.copy()
        sketch.update_batch(sorted(runs_of(text)))
        return sketch


class Near:
    """Looks for near duplicates."""

    codes = ("near-duplicate",)

    def __init__(self, most: int = MOST) -> None:
        self._tally = Tally()
        self._looked = 0
        self._passed = 0
        try:
            self._index: NearIndex | None = NearIndex(most)
        except ImportError:
            self._index = None

    def see(self, row: Seen) -> None:
        """Look at the next row."""
        if self._index is None or self._index.full:
            self._passed += 1
            return
        self._looked += 1
        if (other := self._index.resembles(row.place, row.text)) is not None:
            self._tally.add(f"{row.place} ~ {other}")

    def findings(self, name: str) -> Iterator[Finding]:
        """What was seen."""
        if self._index is None:
            what = "near duplicates were not looked for: the package datasketch is not installed"
            yield Finding("near-duplicate", "note", 0, what, fix=typed("pip", "install", "localtune[data]"))
            return
        among = f" of the first {self._looked:,}" if self._passed else ""
        what = f"rows{among} are nearly the same as an earlier one (estimated by MinHash)"
        fix = f"localtune data check {name} --fix near -o clean.jsonl"
        yield from self._tally.finding("near-duplicate", "note", what, fix)
