"""`localtune data list`: every row on one line, with what becomes of it; and a row as plain values, for programs.

Lines come as rows are read, so a program that shows them need not wait for the last one. What is said of a row is
exact: tokens are those of the model's tokenizer and template, and duplicates are rows of the same normal form.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import click

from localtune.batch import Segment
from localtune.cli.data_options import asked, data_arguments, say
from localtune.data.check.written import keys_of, text_of
from localtune.data.conversations import Example, Passage
from localtune.data.measure import roles_of
from localtune.data.opened import Opened
from localtune.data.paint import paint
from localtune.data.parts import Tokenised
from localtune.data.rendering import Rendering
from localtune.data.rows import Place
from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError, Problem, safe
from localtune.settings import DataSettings

LONGEST = 8_000
"""Characters of a row's text that --text tells."""
_FIRST, _BLOCK = 32, 512
"""Rows that are rendered together: few at first, so that there is something to see at once."""


@dataclass(frozen=True)
class Line:
    """What there is to say of one row."""

    place: str
    """File and line."""
    row: str
    """The line alone where there is one file, else as `place`: what --row of `data show` takes."""
    turns: int
    tokens: int | None
    """None without a model, and for rows that cannot be used."""
    learned: int | None
    issue: str
    """Empty for a row that is used as it is."""
    text: str
    """What the row says, from its beginning; of one that cannot be read, what is said of it."""
    type: Literal["row"] = "row"


@click.command("list", short_help="Every row on a line: turns, tokens, what becomes of it.")
@data_arguments(several=True)
@click.option("-n", "count", type=click.IntRange(1), default=10_000, show_default=True, help="Rows at most.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line as rows are read; the last says the end.")
@click.option("--text", "with_text", is_flag=True, help=f"With --json also each row's first {LONGEST:,} characters.")
def list_rows(
    names: tuple[str, ...], model: str | None, overrides: tuple[str, ...], count: int, as_json: bool, with_text: bool
) -> None:
    """Every row on a line, with its turns and what becomes of it; with -m also its tokens and what of it is learned."""
    data = asked(names, model, overrides)
    with data.rendering() as rendering:
        lines = _lines(data.train(), rendering)
        for line in itertools.islice(lines, count):
            if as_json:
                told = asdict(line)
                if not with_text:
                    del told["text"]
                click.echo(json.dumps(told))
            else:
                say(_shown(line))
        more = next(lines, None) is not None
    if as_json:
        click.echo(json.dumps({"type": "end", "more": more}))
    elif more:
        say(f"there are more rows than these {count:,}; -n shows more", err=True)


def runs(tokenizer: Tokenizer, segment: Segment) -> Iterator[tuple[str, bool]]:
    """The text of `segment` in runs that are learned, or are not; together its decoded text."""
    for learned, pieces in itertools.groupby(paint(tokenizer, segment), lambda piece: piece.weight > 0):
        yield "".join(piece.text for piece in pieces), learned


def row_json(example: Example, rendering: Rendering | None, *, ids: bool = False) -> dict[str, Any]:
    """A row as plain values, with `rendering` as the model gets it, with `ids` also token by token."""
    from localtune.data.shapes import to_messages

    value: dict[str, Any] = {"place": str(example.place), "row": to_messages(example)}
    if rendering is None:
        return value
    ((result,),) = rendering.render([[example]])
    if isinstance(result, Problem):
        raise InputError(result)
    segments = [_segment_json(rendering.tokenizer, segment, ids=ids) for segment in result.segments]
    tokens, learned = counts(result)
    return value | {"tokens": tokens, "learned": learned, "neutralised": result.held, "segments": segments}


def counts(result: Tokenised) -> tuple[int, int]:
    """Tokens of a row, and those of them that are learned."""
    return sum(len(s.tokens) for s in result.segments), sum(s.targets for s in result.segments)


def _segment_json(tokenizer: Tokenizer, segment: Segment, *, ids: bool) -> dict[str, Any]:
    value: dict[str, Any] = {
        "tokens": segment.tokens.tolist(),
        "weights": segment.weights.tolist(),
        "text": [{"text": text, "learned": learned} for text, learned in runs(tokenizer, segment)],
    }
    if ids:
        pieces = paint(tokenizer, segment)
        value["pieces"] = [{"ids": list(p.ids), "text": p.text, "weight": p.weight} for p in pieces]
    return value


def _lines(opened: Opened, rendering: Rendering | None) -> Iterator[Line]:
    several, first = len(opened.files) > 1, dict[int, str]()
    for block in _blocks(_outcomes(opened), _FIRST):
        usable = [outcome for outcome in block if not isinstance(outcome, Problem)]
        results = iter(next(iter(rendering.render([usable]))) if rendering and usable else [None] * len(usable))
        for outcome in block:
            if isinstance(outcome, Problem):
                text = outcome.evidence[:LONGEST]
                yield Line(outcome.where, _row_of(outcome.where, several), 0, None, None, outcome.what, text)
            else:
                yield _line(outcome, next(results), opened.settings, first, several)


def _outcomes(opened: Opened) -> Iterator[Example | Problem]:
    """Rows in their order; those that cannot be read come before the next one that can."""
    unread: list[Problem] = []
    for _, outcome in opened.rows(unread.append):
        yield from unread
        unread.clear()
        yield outcome
    yield from unread


def _blocks(outcomes: Iterator[Example | Problem], size: int) -> Iterator[list[Example | Problem]]:
    while block := list(itertools.islice(outcomes, size)):
        yield block
        size = _BLOCK


def _line(
    example: Example, result: Tokenised | Problem | None, settings: DataSettings, first: dict[int, str], several: bool
) -> Line:
    place, (key, _), text = example.place, keys_of(example), text_of(example)[:LONGEST]
    row = _row(place, several)
    same = first.setdefault(key, row)
    turns = sum(roles_of(example).values())
    if isinstance(result, Problem):
        return Line(str(place), row, turns, None, None, result.what, text)
    duplicate = f"duplicate of {same}" if same != row else ""
    if result is None:
        return Line(str(place), row, turns, None, None, duplicate, text)
    tokens, learned = counts(result)
    issue = "nothing in it is learned" if not learned else duplicate or _too_long(example, result, settings)
    return Line(str(place), row, turns, tokens, learned, issue, text)


def _too_long(example: Example, result: Tokenised, settings: DataSettings) -> str:
    longest = max((len(segment.tokens) for segment in result.segments), default=0)
    if longest <= settings.max_tokens:
        return ""
    how = settings.too_long
    if how == "auto":
        how = "split" if isinstance(example, Passage) else "cut"
    said = {"cut": "cut", "drop": "left out, longer than", "split": "split", "error": "stops a run, longer than"}[how]
    return f"{said} {'at ' if how in ('cut', 'split') else ''}{settings.max_tokens:,}"


def _row(place: Place, several: bool) -> str:
    return str(place) if several else str(place.line)


def _row_of(where: str, several: bool) -> str:
    """What --row takes, of a problem's "file:line" or "file:line:column"."""
    parts = where.split(":")
    while len(parts) > 2 and parts[-1].isdecimal() and parts[-2].isdecimal():
        parts.pop()
    return ":".join(parts) if several else parts[-1]


def _shown(line: Line) -> str:
    tokens = "" if line.tokens is None else f"{line.tokens:,}"
    return f"{safe(line.row, 60):>8} {line.turns:>4} {tokens:>8}  {safe(line.issue, 200)}".rstrip()
