"""Rows become the files of prepared data, streamed: read, brought into normal form, rendered, fitted, held out.

`train.safetensors` and `valid.safetensors` hold the segments, the rest is what `prepared` says. Validation rows that
are held out are a pure function of seed and count.
"""

import datetime
import itertools
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from localtune.data.conversations import Conversation, Example, Pair
from localtune.data.fit import Fitted, fit, resolved
from localtune.data.order import Indices
from localtune.data.parts import Tokenised
from localtune.data.prepared import Prepared, Sample, TestItem, save_rest
from localtune.data.reading import Source
from localtune.data.remarks import remarks
from localtune.data.rendering import Rendering, blocks
from localtune.data.report import KEPT_LINES, Losses, Part, Report, RowFigures
from localtune.data.rows import BadRows
from localtune.data.segments import Longs, Segments, SegmentWriter, write
from localtune.data.shapes import Format, examples
from localtune.data.split import TOO_FEW, split
from localtune.data.tokenizer import Tokenizer
from localtune.data.turns import Learn
from localtune.errors import InputError, Problem
from localtune.settings import DataSettings
from localtune.typed import typed

_COMPARED = {"preference": "two answers", "kto": "wanted and unwanted answers"}
"""Shapes that only an objective other than SFT learns from."""


@dataclass(frozen=True)
class Making:
    """Everything that decides prepared data."""

    settings: DataSettings
    train: Source
    valid: Source | None
    test: Source | None
    hashes: tuple[str, ...]
    """Of `files`."""
    tokenizer: Tokenizer
    learn: Learn
    seed: int
    vocabulary: int
    context: int | None
    samples: tuple[str, ...]
    today: datetime.date | None

    @property
    def files(self) -> tuple[str, ...]:
        """Of all sources; the number of a row's file counts them."""
        return tuple(file for source in (self.train, self.valid, self.test) if source for file in source.files)


@dataclass
class _Read:
    """What is known of a source that was read."""

    name: str
    form: Format
    figures: RowFigures
    counts: "array[int]" = field(default_factory=lambda: array("q"))
    """Segments of each row in use."""


def make(making: Making, folder: Path) -> None:
    """Write the prepared data into the empty `folder`. Raises `InputError`, and `OSError` when the disk is full."""
    with Rendering(making.tokenizer, learn=making.learn, today=making.today) as rendering:
        reader = _Reader(making, rendering)
        asked = (rendering.prompt_ids(text, making.settings.system) for text in making.samples)
        samples = tuple(Sample(s, np.array(ids, np.int32)) for s, ids in zip(making.samples, asked, strict=True))
        train, valid, part, held_out = _segments(making, reader, folder)
        items, tested = _tests(making, reader, rendering)
        end_of_turn, seen = rendering.end_of_turn, rendering.seen
    first = reader.reads[0].form
    notes = remarks(
        making.settings, first, making.tokenizer, seen, train, valid, items, context=making.context,
        held_out=making.valid is None, pieces=making.valid is None and making.settings.valid == "auto"
        and _by_pieces(reader.reads[0]), said=[text for source in _sources(making) for text in source.said()],
    )  # fmt: skip
    report = Report(first.shape, first.why, end_of_turn, making.tokenizer.fingerprint, part, held_out, tested,
                    tuple(reader.losses), notes, making.files, making.hashes)  # fmt: skip
    save_rest(Prepared(train, valid, items, samples, report), folder)


def _sources(making: Making) -> list[Source]:
    return [source for source in (making.train, making.valid, making.test) if source]


def _segments(making: Making, reader: "_Reader", folder: Path) -> tuple[Segments, Segments, Part, Part]:
    """Training and validation segments, in their files, and the figures of both."""
    train, valid = folder / "train.safetensors", folder / "valid.safetensors"
    if making.valid is not None or making.settings.valid == "none":
        read = reader.write(making.train, train)
        other = reader.write(making.valid, valid) if making.valid else None
        if other is None:
            write((), valid)
        return _measured(making, train, valid, read, None, other, None)
    whole = folder / "rows.safetensors"
    read = reader.write(making.train, whole)
    segments = Segments(whole)
    counts = np.ones(len(segments), np.int64) if _by_pieces(read) else np.array(read.counts, np.int64)
    rows, held_out = split(len(counts), making.seed)
    ends = np.concatenate([[0], np.cumsum(counts)])
    for chosen, path in ((rows, train), (held_out, valid)):
        write((segments[i] for row in chosen for i in range(ends[row], ends[row + 1])), path)
    del segments
    whole.unlink()
    other = read if len(held_out) else None
    if _by_pieces(read):
        return _measured(making, train, valid, read, None, other, held_out[:0])
    return _measured(making, train, valid, read, rows, other, held_out)


def _by_pieces(read: _Read) -> bool:
    """Whether pieces of a text are held out, there being too few texts."""
    return read.form.shape == "text" and len(read.counts) < TOO_FEW <= sum(read.counts)


def _measured(
    making: Making, train: Path, valid: Path, read: _Read, rows: Indices | None, other: _Read | None,
    others: Longs | None,
) -> tuple[Segments, Segments, Part, Part]:  # fmt: skip
    learned, held_out = Segments(train), Segments(valid)
    files = making.files
    part = read.figures.part(read.name, learned, files, rows)
    if other is None:
        return learned, held_out, part, RowFigures().part("", held_out, files)
    return learned, held_out, part, other.figures.part(other.name, held_out, files, others)


def _tests(making: Making, reader: "_Reader", rendering: Rendering) -> tuple[tuple[TestItem, ...], Part]:
    if making.test is None:
        return (), RowFigures().part("", (), making.files)
    kept: list[tuple[Example, Fitted]] = []
    read = reader.read(making.test, kept.append, together=True)  # the first segment is what is scored
    items = tuple(_item(example, row, rendering) for example, row in kept)
    segments = [segment for _, row in kept for segment in row.row.segments]
    return items, read.figures.part(read.name, segments, making.files)


def _item(example: Example, row: Fitted, rendering: Rendering) -> TestItem:
    if not isinstance(example, Conversation | Pair):
        what = "test rows are answered, and these have no answers"
        raise InputError(Problem("data.test", what, str(example.place), fix="use messages or prompt-completion rows"))
    asked = rendering.question(example)
    if isinstance(asked, Problem):
        raise InputError(asked)
    return TestItem(np.array(asked.prompt, np.int32), asked.answer, example.group, row.row.segments[0])


class _Reader:
    """Reads sources under one set of settings and remembers what was left out."""

    def __init__(self, making: Making, rendering: Rendering) -> None:
        self._making = making
        self._settings = making.settings
        self._rendering = rendering
        self.reads: list[_Read] = []
        self.losses: list[Losses] = []

    def write(self, source: Source, path: Path) -> _Read:
        """The segments of `source` as the file `path`."""
        with SegmentWriter(path) as writer:
            return self.read(source, lambda row: writer.extend(row[1].row.segments))

    def read(self, source: Source, use: Callable[[tuple[Example, Fitted]], object], *, together: bool = False) -> _Read:
        """Give every row of `source` that can be used to `use`. Raises `InputError`.

        `together`: a row of which one segment is cut away whole cannot be used.
        """
        bad = BadRows(self._settings.on_error)
        form, found = examples(source.rows(bad), self._settings, bad)
        _check_settings(self._settings, form)
        read = _Read(source.name, form, RowFigures())
        dropped = _Left()
        answers_cut = 0
        for example, fitted in self._fitted(found, form, together):
            if isinstance(fitted, Problem):
                answers_cut += fitted.code == "data.answer-cut"
                bad.add(fitted)
            elif fitted.dropped:
                dropped.add(str(fitted.row.place))
            else:
                use((example, fitted))
                read.figures.add(fitted)
                read.counts.append(len(fitted.row.segments))
        self._settle(read, bad, dropped, answers_cut)
        return read

    def _settle(self, read: _Read, bad: BadRows, dropped: "_Left", answers_cut: int) -> None:
        used = len(read.figures)
        bad.check(used + dropped.count + bad.count, read.name)
        if not used:
            what = f"no row is left: {bad.count:,} cannot be used, {dropped.count:,} are too long"
            fix = "--set data.max_tokens=N or --set data.too_long=cut"
            raise InputError(Problem("data.empty", what, read.name, fix=fix))
        first = tuple(f"{problem.where}  {problem.what}" for problem in bad.first)
        self.losses.append(Losses(read.name, bad.count, first, dropped.count, tuple(dropped.first), answers_cut))
        self.reads.append(read)

    def _fitted(
        self, found: Iterator[Example], form: Format, together: bool
    ) -> Iterator[tuple[Example, Fitted | Problem]]:
        too_long = resolved(self._settings.too_long, form.shape)
        ours, theirs = itertools.tee(blocks(found))
        for block, results in zip(ours, self._rendering.render(theirs), strict=True):
            for example, result in zip(block, results, strict=True):
                if isinstance(result, Tokenised):
                    self._check_vocabulary(result)
                    yield example, fit(result, self._settings.max_tokens, too_long, together=together)
                else:
                    yield example, result

    def _check_vocabulary(self, row: Tokenised) -> None:
        largest = max(int(segment.tokens.max(initial=0)) for segment in row.segments)
        if largest >= self._making.vocabulary:
            what = f"token id {largest:,} lies beyond the model's embedding of {self._making.vocabulary:,} rows"
            fix = "use the tokenizer that belongs to this model; if it does, leave out the row"
            raise InputError(Problem("tokenizer.vocabulary", what, str(row.place), fix=fix))


@dataclass
class _Left:
    """Rows that were left out as asked."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, place: str) -> None:
        self.count += 1
        if len(self.first) < KEPT_LINES:
            self.first.append(place)


def _check_settings(settings: DataSettings, form: Format) -> None:
    file = form.first.place.file
    if form.shape in _COMPARED:
        what = f"the rows are {form.shape}: {_COMPARED[form.shape]}, and what is trained here learns from answers alone"
        fix = f"localtune data convert {typed(file)} --to chosen -o chosen.jsonl"
        raise InputError(Problem("data.objective", what, file, fix=fix))
    if settings.too_long == "split" and form.shape != "text":
        what = f"split is for text, and the rows are {form.shape}: half an answer has no prompt"
        raise InputError(Problem("data.split", what, file, fix="--set data.too_long=cut"))
    if settings.system and form.shape in ("text", "fim"):
        what = f"a system turn is for conversations, and the rows are {form.shape}"
        raise InputError(Problem("data.system", what, file, fix="remove data.system"))
