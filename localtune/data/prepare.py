"""From the recipe's data settings to segments, test items and a report: reading, rendering, fitting, holding out.

A pure function of files, settings, tokenizer and seed, except for templates that write the date. Rows keep the order
of their file; the order of training is `order`'s.
"""

import datetime
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from localtune.batch import Ints, Segment
from localtune.data.conversations import Example, Format, Passage, examples
from localtune.data.fit import Fitted, fit
from localtune.data.prepared import Prepared, Sample, TestItem, load, save
from localtune.data.render import Renderer, Tokenised
from localtune.data.report import KEPT_LINES, Losses, Report, part
from localtune.data.rows import BadRows, read_rows
from localtune.data.split import held_out_count, split
from localtune.data.tokenizer import Tokenizer
from localtune.data.turns import Learn
from localtune.errors import InputError, Problem
from localtune.settings import DataSettings

__all__ = ["Prepared", "load", "prepare", "save"]

_BLOCK = 1024
"""Rows tokenised at once."""


@dataclass(frozen=True)
class _File:
    """A file, read and fitted."""

    shown: str
    form: Format
    rows: list[Fitted]
    """In use."""
    examples: list[Example]
    """What they were made of, one each; empty unless asked for."""


def prepare(
    settings: DataSettings,
    tokenizer: Tokenizer,
    *,
    learn: Learn,
    seed: int,
    base: Path,
    vocabulary: int,
    context: int | None = None,
    samples: Sequence[str] = (),
    today: datetime.date | None = None,
) -> Prepared:
    """Everything `settings` names, as segments.

    `base`: the folder that paths are relative to. `vocabulary`: rows of the model's embedding. `context`: the most
    tokens the model was made for; None = not known. `samples`: prompts to answer. `today`: the date a template writes;
    None = the day this is called. Raises `InputError` when rows cannot be used, when a token id lies beyond the
    embedding, and for settings that do not go together.
    """
    renderer = Renderer(tokenizer, learn=learn, today=today)
    reader = _Reader(settings, renderer, base, vocabulary)
    read = reader.read(settings.train)
    train, valid_file, valid = _held_out(settings, read, reader, seed)
    asked = tuple(Sample(text, np.array(renderer.prompt_ids(text, settings.system), np.int32)) for text in samples)
    tested = reader.read(settings.test, keep=True) if settings.test else None
    segments, held_out, items = _flat(train), _flat(valid), _items(tested, renderer)
    report = Report(
        shape=read.form.shape,
        why=read.form.why,
        end_of_turn=renderer.turns.end_of_turn if renderer.turns else "",
        tokenizer=tokenizer.fingerprint,
        train=part(read.shown, train),
        valid=part(valid_file, valid),
        test=part(tested.shown if tested else "", tested.rows if tested else []),
        losses=tuple(reader.losses),
        notes=(*_beyond([*segments, *held_out], items, context), *_notes(settings, renderer, read)),
    )
    return Prepared(segments, held_out, items, asked, report)


class _Reader:
    """Reads files under one set of settings and remembers what was left out."""

    def __init__(self, settings: DataSettings, renderer: Renderer, base: Path, vocabulary: int) -> None:
        self._settings = settings
        self._renderer = renderer
        self._base = base
        self._vocabulary = vocabulary
        self.losses: list[Losses] = []

    def read(self, name: str, *, keep: bool = False) -> _File:
        """The file `name`, ready to train on, with `keep` also its examples. Raises `InputError`."""
        bad = BadRows(self._settings.on_error)
        form, source = examples(read_rows(self._base / name, bad, name), self._settings, bad)
        _check_settings(self._settings, form)
        used: list[Fitted] = []
        made: list[Example] = []
        dropped: list[int] = []
        for example, fitted in self._fitted(source):
            if isinstance(fitted, Problem):
                bad.add(fitted)
            elif fitted.dropped:
                dropped.append(fitted.row.place.line)
            else:
                used.append(fitted)
                made += [example] if keep else []
        bad.check(len(used) + len(dropped) + bad.count, name)
        if not used:
            what = f"no row is left: {bad.count:,} cannot be used, {len(dropped):,} are too long"
            raise InputError(
                Problem("data.empty", what, name, fix="--set data.max_tokens=N or --set data.too_long=cut")
            )
        first = tuple(f"{problem.where}  {problem.what}" for problem in bad.first)
        self.losses.append(Losses(name, bad.count, first, len(dropped), tuple(dropped[:KEPT_LINES])))
        return _File(name, form, used, made)

    def _fitted(self, source: Iterator[Example]) -> Iterator[tuple[Example, Fitted | Problem]]:
        for block in iter(lambda: list(itertools.islice(source, _BLOCK)), []):
            for example, result in zip(block, self._renderer.render(block), strict=True):
                yield example, result if isinstance(result, Problem) else self._fit(result)

    def _fit(self, row: Tokenised) -> Fitted | Problem:
        for segment in row.segments:
            _check_vocabulary(segment.tokens, self._vocabulary, str(row.place))
        return fit(row, self._settings.max_tokens, self._settings.too_long)


def _check_settings(settings: DataSettings, form: Format) -> None:
    if settings.too_long == "split" and form.shape != "text":
        what = f"split is for text, and the rows are {form.shape}: half an answer has no prompt"
        raise InputError(Problem("data.split", what, form.first.place.file, fix="--set data.too_long=cut"))
    if settings.system and form.shape == "text":
        what = "a system turn is for conversations, and the rows are text"
        raise InputError(Problem("data.system", what, form.first.place.file, fix="remove data.system"))


def _check_vocabulary(tokens: Ints, vocabulary: int, where: str) -> None:
    largest = int(tokens.max(initial=0))
    if largest >= vocabulary:
        what = f"token id {largest:,} lies beyond the model's embedding of {vocabulary:,} rows"
        fix = "use the tokenizer that belongs to this model"
        raise InputError(Problem("tokenizer.vocabulary", what, where, fix=fix))


def _held_out(
    settings: DataSettings, read: _File, reader: _Reader, seed: int
) -> tuple[list[Fitted], str, list[Fitted]]:
    """Training rows, the file of the validation rows, and these."""
    if settings.valid == "none":
        return read.rows, "", []
    if settings.valid != "auto":
        return read.rows, settings.valid, reader.read(settings.valid).rows
    train, valid = split(len(read.rows), seed)
    return [read.rows[i] for i in train], read.shown if len(valid) else "", [read.rows[i] for i in valid]


def _items(tested: _File | None, renderer: Renderer) -> tuple[TestItem, ...]:
    return tuple(_item(e, row, renderer) for e, row in zip(tested.examples, tested.rows, strict=True)) if tested else ()


def _item(example: Example, row: Fitted, renderer: Renderer) -> TestItem:
    if isinstance(example, Passage):
        what = "test rows are answered, and text has no answers"
        raise InputError(Problem("data.test", what, str(example.place), fix="use messages or prompt-completion rows"))
    asked = renderer.question(example)
    if isinstance(asked, Problem):
        raise InputError(asked)
    return TestItem(np.array(asked.prompt, np.int32), asked.answer, example.group, row.row.segments[0])


def _flat(rows: Sequence[Fitted]) -> tuple[Segment, ...]:
    return tuple(segment for row in rows for segment in row.row.segments)


def _beyond(segments: Sequence[Segment], items: Sequence[TestItem], context: int | None) -> list[str]:
    """The warning about examples that are longer than the model was made for, if there are any."""
    lengths = [len(segment.tokens) for segment in segments]
    lengths += [max(len(item.segment.tokens), len(item.prompt)) for item in items]
    count = 0 if context is None else sum(length > context for length in lengths)
    if not count:
        return []
    are = "1 example is" if count == 1 else f"{count:,} examples are"
    return [f"{are} longer than the {context:,} tokens this model was made for; fix: --set data.max_tokens={context}"]


def _notes(settings: DataSettings, renderer: Renderer, read: _File) -> tuple[str, ...]:
    seen, rows, notes = renderer.seen, len(read.rows), []
    if settings.valid == "auto" and held_out_count(rows) == 0:
        notes.append(f"no validation: {rows} rows are too few to hold some out")
    if seen["turns"]:
        notes.append("prompt and completion became a user and an assistant turn of the model's chat template")
    elif read.form.shape == "prompt-completion":
        notes.append("the model has no chat template: prompt and completion are learned as plain text")
    if seen["eos-appended"]:
        notes.append("the chat template writes no token after the last answer: eos was appended and is learned")
    if renderer.turns and "strftime_now" in (renderer.tokenizer.template or ""):
        notes.append("the chat template writes the date of the day the data was prepared")
    if seen["no-bos"]:
        notes.append("the chat template writes no BOS although the tokenizer puts one before raw text; none is trained")
    if seen["own-segment"]:
        notes.append(
            f"in {seen['own-segment']:,} rows the template writes earlier answers differently once the conversation "
            "goes on: each of those is learned in an example of its own"
        )
    if seen["straddled"]:
        notes.append(f"in {seen['straddled']:,} rows the first characters of an answer share a token with the prompt")
    if seen["markup"]:
        notes.append(f"in {seen['markup']:,} texts control tokens are written out and keep their meaning")
    return tuple(notes)
