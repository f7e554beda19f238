"""What only a model's tokenizer and template can tell: cut answers, lost characters, refused rows.

Exact: tokens, what is learned and what is cut are those of a run. A tokenizer loses text when decoding its ids does
not give the text back, blanks, case and Unicode's compatibility forms aside; that is tried for every text with a
character that has not come back whole before, since tokenizers lose characters and not their order.
"""

import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from localtune.data.check.finding import Finding, Seen, Tally, plural
from localtune.data.conversations import Passage
from localtune.data.parts import Tokenised
from localtune.data.rendering import Rendering
from localtune.data.rows import SKIP
from localtune.errors import InputError, Problem
from localtune.settings import DataSettings

BLOCK, BLOCKS = 256, 8
"""Rows that one process renders at once, and blocks that are given out together."""
CHARACTERS = 16_000_000
"""Fewer rows are held where they are long."""
REFUSED_SHARE = 100
"""More than one refused row in this many is an error: a run stops."""
MOST_FIXES = 3
"""What mends refused rows is said for the commonest reasons."""


class Model:
    """Looks at rows as one model gets them."""

    codes = ("template", "refused", "cut", "control", "unknown", "lossy")

    def __init__(self, rendering: Rendering, settings: DataSettings) -> None:
        self._rendering, self._settings = rendering, settings
        self._waiting: list[Seen] = []
        self._characters = 0
        self._known: set[str] = set()
        self._stopped: tuple[Problem, ...] = ()
        self._fixes: Counter[str] = Counter()
        self._refused, self._cut, self._control, self._unknown, self._lossy = (Tally() for _ in range(5))
        self._tokens, self._learned = array("I"), array("I")
        unknown = rendering.tokenizer.names.get("unk_token", "")
        self._unk = (
            (unknown, rendering.tokenizer.id_of(unknown)) if unknown in rendering.tokenizer.control.strings else None
        )
        self._rows = 0

    @property
    def tokens(self) -> NDArray[np.uint32]:
        """Of each row before it is cut, uint32 [rows that could be rendered]."""
        self._flush()
        return np.array(self._tokens, np.uint32)

    @property
    def learned(self) -> NDArray[np.uint32]:
        """Learned tokens of each row before it is cut, uint32 [rows that could be rendered]."""
        self._flush()
        return np.array(self._learned, np.uint32)

    def see(self, row: Seen) -> None:
        """Look at the next row."""
        self._rows += 1
        self._waiting.append(row)
        self._characters += len(row.text)
        if len(self._waiting) >= BLOCK * BLOCKS or self._characters >= CHARACTERS:
            self._flush()

    def findings(self, name: str) -> Iterator[Finding]:
        """What was seen."""
        self._flush()
        for problem in self._stopped:
            first = (problem.where,) if problem.where else ()
            yield Finding("template", "error", self._rows, problem.what, first, problem.fix)
        severe = self._refused.count * REFUSED_SHARE > self._rows
        what = "rows the chat template refuses, or that cannot be masked exactly; a run leaves them out"
        fix = "; ".join(fix for fix, _ in self._fixes.most_common(MOST_FIXES))
        yield from self._refused.finding("refused", "error" if severe else "warning", what, fix)
        yield from self._cut_finding()
        what = "strings that look like this model's control tokens; in turns they are read as plain text"
        fix = f"localtune data show {name} --row N -m MODEL   shows one"
        yield from self._control.finding("control", "note", what, fix)
        what = "the tokenizer has no token for some characters: the model reads and learns <unk>"
        yield from self._unknown.finding("unknown", "warning", what, "take a model that knows this script")
        what = "the tokenizer changes the text: what comes back from its tokens is not what was written"
        yield from self._lossy.finding("lossy", "warning", what, "take a model whose tokenizer keeps these characters")

    def _cut_finding(self) -> Iterator[Finding]:
        limit, drops = self._settings.max_tokens, self._settings.too_long == "drop"
        lost = self._cut.details.get("no answer left", 0)
        done = "left out" if drops else "cut"
        what = f"rows are longer than {limit:,} tokens and are {done}"
        if lost and not drops:
            what += f"; of {plural(lost)} nothing that is learned is left"
        longest = 1 << (max(self._tokens, default=1) - 1).bit_length()
        fix = f"--set data.max_tokens={longest}, or --set data.too_long=drop"
        severe = "error" if self._settings.too_long == "error" else "warning"
        yield from self._cut.finding("cut", severe, what, fix)  # type: ignore[arg-type]

    def _flush(self) -> None:
        rows, self._waiting, self._characters = self._waiting, [], 0
        if not rows or self._stopped:
            return
        blocks = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
        try:
            for block, results in zip(blocks, self._rendered(blocks), strict=True):
                for row, result in zip(block, results, strict=True):
                    if isinstance(result, Problem):
                        self._refused.add(row.place, result.what, result.code)
                        self._fixes[_fix_of(result)] += 1
                    else:
                        self._see_tokens(row, result)
                self._see_texts(block, results)
        except InputError as error:
            self._stopped = error.problems

    def _rendered(self, blocks: Sequence[Sequence[Seen]]) -> Iterator[list[Tokenised | Problem]]:
        return self._rendering.render([row.example for row in block] for block in blocks)

    def _see_tokens(self, row: Seen, result: Tokenised) -> None:
        limit = self._settings.max_tokens
        self._tokens.append(sum(len(segment.tokens) for segment in result.segments))
        self._learned.append(sum(segment.targets for segment in result.segments))
        longest = max((len(segment.tokens) for segment in result.segments), default=0)
        if longest > limit and not self._is_split(row):
            left = any((segment.weights[:limit] > 0).any() for segment in result.segments)
            self._cut.add(row.place, f"{longest:,} tokens", "" if left else "no answer left")
        held = result.held or (isinstance(row.example, Passage) and self._pattern_in(row.text))
        if held:
            self._control.add(row.place)

    def _is_split(self, row: Seen) -> bool:
        return isinstance(row.example, Passage) and self._settings.too_long in ("auto", "split")

    def _pattern_in(self, text: str) -> bool:
        return bool(self._rendering.tokenizer.control.pattern.search(text))

    def _see_texts(self, block: Sequence[Seen], results: Sequence[Tokenised | Problem]) -> None:
        """Tokenise texts by themselves where they hold <unk>, or a character that has not come back whole before."""
        rows = [row for row, result in zip(block, results, strict=True) if self._is_new(row, result)]
        tokenizer = self._rendering.tokenizer
        for row, encoding in zip(rows, tokenizer.encode_texts([row.text for row in rows]), strict=True):
            if self._unk and self._unk[1] in encoding.ids and self._unk[0] not in row.text:
                start, end = encoding.offsets[encoding.ids.index(self._unk[1])]
                self._unknown.add(row.place, row.text[start:end])
                continue
            back = tokenizer.decode(encoding.ids, skip_special=False)
            lost = _lost(row.text, back) if back != row.text else ""
            if lost:
                self._lossy.add(row.place, lost)
            else:
                self._known.update(row.text)

    def _is_new(self, row: Seen, result: Tokenised | Problem) -> bool:
        if self._unk and isinstance(result, Tokenised):
            number = self._unk[1]
            if any((segment.tokens == number).any() for segment in result.segments):
                return True
        return not self._known.issuperset(row.text)


def _fix_of(problem: Problem) -> str:
    """What mends a row that was refused for this reason."""
    if problem.code == "template.lost" and problem.what.endswith("does not write the tools"):
        return "take a model whose template writes tools, or rows without them"
    if problem.fix in ("", SKIP):  # it is passed over already
        return "change the rows as the template's words say, such as the order of the turns, or take another model"
    return problem.fix


def _lost(text: str, back: str) -> str:
    """Where `back` first differs from `text` in more than blanks, case or form; "" where it does not."""
    ours, theirs = _plain(text), _plain(back)
    if ours == theirs:
        return ""
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    return f"{ours[max(0, at - 10) : at + 10]} became {theirs[max(0, at - 10) : at + 10]}"


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
