"""`localtune data show` and `stats`: rows as the model sees them, and all of them in numbers."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import click

from localtune.batch import Segment
from localtune.cli.data_options import Asked, asked, bars, colours, data_arguments, placed, say, wrapped
from localtune.cli.data_rows import counts, row_json, runs
from localtune.cli.options import to_json
from localtune.data.check.finding import plural
from localtune.data.check.written import text_of
from localtune.data.conversations import Conversation, Example, Infill, Labelled, Message, Pair, Passage, Preference
from localtune.data.measure import Measured, Spread, measure
from localtune.data.opened import Opened
from localtune.data.paint import paint
from localtune.data.rendering import Rendering
from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError, Problem, escaped, safe

JOINERS = "\u200c\u200d"
"""Written inside words of Persian and Hindi, and inside emoji; they steer no terminal."""
MARK = "▒"
_FILES = 10
"""Files that are named where --row fits none of them."""
_PLACE = re.compile(r"(.*?):(\d+)(?::\d+)?")


@click.command(short_help="Rows as the model sees them.")
@data_arguments(several=True)
@click.option("--row", help="Number or line of the row; FILE:LINE where there are several files.")
@click.option("-n", "count", type=click.IntRange(1), default=3, show_default=True, help="Rows without --row.")
@click.option("--mask", is_flag=True, help="Paint what is learned (▒ at both ends where there are no colours).")
@click.option("--ids", is_flag=True, help="Every token with its id and weight.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(
    names: tuple[str, ...],
    model: str | None,
    overrides: tuple[str, ...],
    row: str | None,
    count: int,
    mask: bool,
    ids: bool,
    as_json: bool,
) -> None:
    """A row as the model sees it with -m, else in normal form; --mask paints what is learned."""
    data = asked(names, model, overrides)
    if (mask or ids) and data.model is None:
        what = "what is learned, and which ids, a model's tokenizer and template decide"
        raise InputError(Problem("data.show", what, fix=f"localtune data show {data.shown} -m MODEL --mask"))
    rows = list(_chosen(data, row, count))
    with data.rendering() as rendering:
        if as_json:
            click.echo(to_json({"format": 1, "rows": [row_json(example, rendering, ids=ids) for example in rows]}))
            return
        for number, example in enumerate(rows):
            if number:
                say("")
            for line in _head(example) if rendering is None else _rendered(example, rendering, mask=mask, ids=ids):
                say(line)


@click.command(short_help="All rows in numbers.")
@data_arguments()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def stats(names: str, model: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Rows, turns, roles, lengths, columns and scripts; with -m also tokens and what of them is learned."""
    data = asked(names, model, overrides)
    with data.rendering() as rendering:
        measured = measure(data.train(), rendering)
    if as_json:
        click.echo(to_json(measured.to_json()))
        return
    for line in _stats_lines(measured):
        say(line)


def _chosen(data: Asked, row: str | None, count: int) -> Iterator[Example]:
    """Row `row`, or the first `count` that can be used. Raises `InputError` for a row that cannot be used."""
    opened = data.train()
    if row is not None:
        yield _one(opened, *_wanted(row, opened.files, data.shown), data.shown)
        return
    for _, outcome in opened.rows(lambda problem: None):
        if isinstance(outcome, Problem):
            say(str(outcome), err=True)
            continue
        yield outcome
        count -= 1
        if not count:
            return


def _wanted(row: str, files: Sequence[str], shown: str) -> tuple[str | None, int]:
    """File and line of --row; None for the file where a line alone is given. Raises `InputError`."""
    file, colon, line = row.rpartition(":")
    if not (line.isascii() and line.isdecimal()) or bool(colon) != bool(file):
        what = f"--row is {safe(repr(row), 80)}; expected a row's number or FILE:LINE"
        raise InputError(Problem("data.row", what, shown, fix="--row 1"))
    if not file:
        return None, int(line)
    ending = "/" + file.removeprefix("./")
    found = [file] if file in files else [name for name in files if f"/{name}".endswith(ending)]
    if len(found) == 1:
        return found[0], int(line)
    named = ", ".join(safe(name, 200) for name in (found or files)[:_FILES])
    more = ", …" if len(found or files) > _FILES else ""
    said = "is the end of several files" if found else "is none of the files"
    raise InputError(Problem("data.row", f"{safe(file, 200)} {said}: {named}{more}", shown))


def _one(opened: Opened, file: str | None, line: int, shown: str) -> Example:
    """The row at `line` of `file`, the first such row where that is None. Raises `InputError`."""
    unread: list[Problem] = []
    rows, last = 0, ""
    for found, outcome in opened.rows(unread.append):
        _refuse_unread(unread, file, line)
        rows += len(unread) + 1
        unread.clear()
        if file in (None, found.place.file):
            last = str(found.place)
            if found.place.line == line:
                if isinstance(outcome, Problem):
                    raise InputError(outcome)
                return outcome
    _refuse_unread(unread, file, line)
    rows += len(unread)
    last = next((f"{at[0]}:{at[1]}" for p in reversed(unread) if (at := _at(p)) and file in (None, at[0])), last)
    place = last if len(opened.files) > 1 else last.rpartition(":")[2]
    where = f"{safe(file, 200)}:" if file else ""
    what = f"there is no row {where}{line} among {plural(rows)}; the last one is {safe(place) or 'none'}"
    raise InputError(Problem("data.row", what, shown))


def _refuse_unread(unread: Sequence[Problem], file: str | None, line: int) -> None:
    """Raise `InputError` where the row that is asked for is among those that cannot be read."""
    asked_for = [p for p in unread if (at := _at(p)) and at[1] == line and file in (None, at[0])]
    if asked_for:
        raise InputError(*asked_for)


def _at(problem: Problem) -> tuple[str, int] | None:
    """File and line of a problem; None where it names none."""
    found = _PLACE.fullmatch(problem.where)
    return (found[1], int(found[2])) if found else None


def _head(example: Example) -> Iterator[str]:
    """The normal form, turn by turn."""
    yield from _title(str(example.place), "normal form; -m MODEL shows what a model sees")
    match example:
        case Conversation(messages=messages, tools=tools):
            if tools:
                yield f"tools: {', '.join(safe(_tool_name(tool), 60) for tool in tools)}"
            yield from _turns(messages)
        case Pair():
            yield from _turns(example.as_conversation().messages)
        case Preference(chosen=chosen, rejected=rejected):
            for name, side in (("chosen", chosen), ("rejected", rejected)):
                yield f"━━ {name}"
                yield from _turns(side.messages if isinstance(side, Conversation) else side.as_conversation().messages)
        case Labelled(example=inner, wanted=wanted):
            yield f"━━ {'wanted' if wanted else 'unwanted'}"
            yield from _turns(inner.messages if isinstance(inner, Conversation) else inner.as_conversation().messages)
        case Passage(text=text):
            yield _shown(text)
        case Infill(prefix=prefix, suffix=suffix, middle=middle):
            for name, text in (("prefix", prefix), ("middle (learned)", middle), ("suffix", suffix)):
                yield f"── {name}"
                yield _shown(text)


def _turns(messages: Sequence[Message]) -> Iterator[str]:
    for message in messages:
        name = f" {safe(message.name, 60)}" if message.name else ""
        weight = f"  weight {message.weight:g}" if message.weight != 1 else ""
        yield f"── {message.role}{name}{weight}"
        if message.reasoning:
            yield f"(thinks) {_shown(message.reasoning)}"
        if message.content:
            yield _shown(message.content)
        for call in message.calls:
            yield f"(calls) {safe(call.name, 60)}({_shown(to_json(call.arguments))})"


def _tool_name(tool: dict[str, Any]) -> str:
    function = tool.get("function", tool)
    return str(function.get("name", "?")) if isinstance(function, dict) else "?"


def _rendered(example: Example, rendering: Rendering, *, mask: bool, ids: bool) -> Iterator[str]:
    """The row as text, as the model gets it."""
    ((result,),) = rendering.render([[example]])
    if isinstance(result, Problem):
        raise InputError(result)
    tokens, learned = counts(result)
    share = 100 * learned / max(tokens, 1)
    yield from _title(str(example.place), f"{tokens:,} tokens · {learned:,} learned ({share:.0f} %)")
    if result.held:
        strings = ", ".join(sorted(set(rendering.tokenizer.control.pattern.findall(text_of(example)))))
        yield from wrapped(f"read as plain text, not as control tokens: {safe(strings, 200)}", "  ")
    for number, segment in enumerate(result.segments, start=1):
        if len(result.segments) > 1:
            yield f"━━ segment {number} of {len(result.segments)}, {len(segment.tokens):,} tokens"
        if ids:
            yield from _token_lines(rendering.tokenizer, segment)
        else:
            yield "".join(
                _painted(text, is_learned and mask) for text, is_learned in runs(rendering.tokenizer, segment)
            )


def _painted(text: str, learned: bool) -> str:
    if not learned:
        return _shown(text)
    return click.style(_shown(text), reverse=True) if colours() else f"{MARK}{_shown(text)}{MARK}"


def _token_lines(tokenizer: Tokenizer, segment: Segment) -> Iterator[str]:
    """A line a token; what several tokens write together stands beside the last of them."""
    at = 0
    for piece in paint(tokenizer, segment):
        for number, token in enumerate(piece.ids, start=1):
            text = safe(repr(piece.text), 60) if number == len(piece.ids) else "…"
            yield f"{at:>6} {token:>7} {segment.weights[at]:>5g}  {text}"
            at += 1


def _title(place: str, text: str) -> Iterator[str]:
    yield from placed(place, text, "")


def _shown(text: str) -> str:
    return escaped(text, limit=max(1, len(text) * 12), keep=JOINERS)


def _stats_lines(measured: Measured) -> Iterator[str]:
    yield from wrapped(f"{safe(measured.name, 200)}: {safe(measured.why)}", "")
    unusable = f", and {measured.unusable:,} that cannot be used" if measured.unusable else ""
    yield f"rows        {measured.rows:,}{unusable}"
    columns = ", ".join(f"{safe(name, 40)} {count:,}" for name, count in list(measured.columns.items())[:20])
    yield from _field("columns", columns)
    if measured.roles:
        roles = ", ".join(f"{role} {count:,}" for role, count in measured.roles.items())
        turns = measured.turns
        yield from _field("turns", f"p50 {turns.p50}  p95 {turns.p95}  max {turns.longest}; {roles}")
    scripts = ", ".join(f"{script or 'no letters'} {count:,}" for script, count in measured.scripts.items())
    yield from _field("scripts", scripts)
    yield from _spread_lines("characters", measured.characters)
    if measured.tokens and measured.learned:
        yield from _spread_lines("tokens", measured.tokens)
        yield from _spread_lines("learned", measured.learned)
        yield f"            {measured.learned.total / max(measured.tokens.total, 1):.0%} of all tokens are learned"


def _spread_lines(name: str, spread: Spread) -> Iterator[str]:
    lengths = f"p5 {spread.p5:,}  p50 {spread.p50:,}  p95 {spread.p95:,}  max {spread.longest:,}"
    yield f"{name:<10}  {lengths}  total {spread.total:,}"
    yield f"            0 {bars(spread.histogram)} p99"


def _field(name: str, text: str) -> Iterator[str]:
    first, *more = [*wrapped(text, " " * 12)] or [""]
    yield f"{name:<10}  {first.strip()}"
    yield from more
