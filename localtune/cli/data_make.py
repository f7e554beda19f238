"""`localtune data convert`, `split` and `mix`: rows in another form, in parts, in proportions."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import Any, get_args

import click

from localtune.cli.data_options import CANONICAL, asked, data_arguments, say
from localtune.data.check.finding import plural
from localtune.data.convert import FORMS, Form, converted
from localtune.data.jsonl import line_of, new_jsonl, refuse_existing
from localtune.data.mix import alternated, chosen, parse_source, quotas
from localtune.data.opened import Opened
from localtune.data.partition import PARTS, By, parse_size, partition
from localtune.data.rows import Row
from localtune.data.shapes import to_messages
from localtune.errors import InputError, Problem, safe
from localtune.settings import Shape

SHOWN = 5
"""Rows named of those that could not be used."""
CHATS: tuple[Shape, ...] = ("messages", "prompt-completion", "alpaca", "sharegpt")
"""Shapes that become messages."""
_SEED = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=42, show_default=True, help="Of the draw.")
_FORCE = click.option("--force", is_flag=True, help="Replace files that are there.")
_OUTPUT = click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write.")


@click.command(short_help="Rows of any kind as JSONL of one form.")
@data_arguments(several=True)
@click.option("--to", "form", type=click.Choice(FORMS), required=True, help="Form of the new rows.")
@_OUTPUT
@_FORCE
def convert(
    names: tuple[str, ...], model: str | None, overrides: tuple[str, ...], form: Form, output: Path, force: bool
) -> None:
    """Rows of any kind as JSONL of one plain form; rows that do not fit are left out and named."""
    del model  # the form of a row is no model's business
    refuse_existing(output, force)
    left_out = _LeftOut()
    rows = 0
    with new_jsonl(output, force=force) as write:
        for _, outcome in asked(names, None, overrides).train().rows(left_out.add):
            made = outcome if isinstance(outcome, Problem) else converted(outcome, form)
            if isinstance(made, Problem):
                left_out.add(made)
            elif made is not None:
                write(made)
                rows += 1
        if not rows:
            raise InputError(*left_out.first or [Problem("data.empty", f"no row has the form {form}", str(output))])
    left_out.say()
    say(f"wrote {output}: {plural(rows)} as {form}", err=True)


@click.command(short_help="Rows into train, valid and test files.")
@data_arguments(several=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder for the parts.")
@click.option("--valid", default="5%", show_default=True, help="Validation rows: a share or a count.")
@click.option("--test", default="0", show_default=True, help="Test rows: a share or a count.")
@click.option(
    "--by",
    type=click.Choice(get_args(By)),
    default="random",
    show_default=True,
    help="group: no key on two sides; stratify: the same share of each key.",
)
@click.option("--key", help="Column of the key, for group and stratify; default: group.")
@_SEED
@_FORCE
def split(
    names: tuple[str, ...],
    model: str | None,
    overrides: tuple[str, ...],
    output: Path,
    valid: str,
    test: str,
    by: By,
    key: str | None,
    seed: int,
    force: bool,
) -> None:
    """Rows into train.jsonl, valid.jsonl and test.jsonl; the same rows and seed give the same parts."""
    del model
    if key is not None and by == "random":
        raise InputError(
            Problem("data.key", "--key is for --by group and --by stratify", fix=f"--by group --key {key}")
        )
    sizes = (parse_size(valid, "--valid"), parse_size(test, "--test"))
    opened, left_out = asked(names, None, overrides).train(), _LeftOut()
    column = None if by == "random" else key or "group"
    canonical = not opened.is_alike()
    keys = [_key_of(row, column) for row, _ in _values(opened, canonical, left_out)]
    if column is not None and not any(keys):
        has = ", ".join(safe(name, 40) for name in list(opened.form.first.value)[:20])
        what = f"no row has the column {safe(column, 40)}; they have {has}"
        raise InputError(Problem("data.key", what, opened.name, fix=f"--by {by} --key COLUMN"))
    parts = partition(keys, by, *sizes, seed)
    files = {number: output / f"{name}.jsonl" for number, name in enumerate(PARTS) if (parts == number).any()}
    for path in files.values():
        refuse_existing(path, force)
    with ExitStack() as stack:
        write = {number: stack.enter_context(new_jsonl(path, force=force)) for number, path in files.items()}
        for part, (_, value) in zip(parts.tolist(), _values(opened, canonical, _LeftOut()), strict=True):
            write[part](value)
    left_out.say()
    if canonical:
        say(CANONICAL, err=True)
    for number, path in files.items():
        say(f"wrote {path}: {plural(int((parts == number).sum()))}", err=True)


@click.command(short_help="Rows of several sources by weight.")
@click.argument("sources", metavar="NAME[:WEIGHT]...", nargs=-1, required=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting: data.format=text.")
@_OUTPUT
@click.option("--rows", type=click.IntRange(1), help="Rows to write; default: as many as no row is needed twice for.")
@_SEED
@_FORCE
def mix(
    sources: tuple[str, ...], overrides: tuple[str, ...], output: Path, rows: int | None, seed: int, force: bool
) -> None:
    """Rows of several sources, in proportion to their weights.

    For replay: to keep a model from forgetting what it could, mix some general data, such as a tenth, into your own.
    """
    refuse_existing(output, force)
    parsed = [_existing_or_weighted(source) for source in sources]
    left_out = _LeftOut()
    opened = [asked(name, None, overrides).train() for name, _ in parsed]
    _refuse_mixture(opened)
    counts = [sum(1 for _ in _usable(one, left_out)) for one in opened]
    for (name, _), count in zip(parsed, counts, strict=True):
        if not count:
            raise InputError(Problem("data.empty", "has no row that can be used", name))
    taken = quotas(counts, [weight for _, weight in parsed], rows)
    streams = [
        _drawn(one, count, quota, seed, number)
        for number, (one, count, quota) in enumerate(zip(opened, counts, taken, strict=True))
    ]
    with new_jsonl(output, force=force) as write:
        for value in alternated(streams, taken):
            write(value)
    left_out.say()
    for (name, _), count, quota in zip(parsed, counts, taken, strict=True):
        times = f", each {quota / count:.2g} times" if quota > count else ""
        say(f"{safe(name, 200)}: {quota:,} of {plural(count)}{times}", err=True)
    say(f"wrote {output}: {plural(sum(taken))}", err=True)


class _LeftOut:
    """Rows that could not be used: the first are named, all are counted."""

    def __init__(self) -> None:
        self.first: list[Problem] = []
        self.count = 0

    def add(self, problem: Problem) -> None:
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(problem)

    def say(self) -> None:
        """Tell of them on stderr."""
        if self.count:
            say(f"warning[data.left-out]: {plural(self.count)} left out, the first:", err=True)
            for problem in self.first:
                say(f"  {safe(problem.where)}  {safe(problem.what, 300)}", err=True)


def _refuse_mixture(opened: list[Opened]) -> None:
    """Raise `InputError` for sources that do not go into one file: conversations beside text, say."""
    for one in opened[1:]:
        first, other = (source.form.shape for source in (opened[0], one))
        if first != other and not {first, other} <= set(CHATS):
            what = f"{safe(opened[0].name, 200)} is {first}, {safe(one.name, 200)} is {other}: one file has one shape"
            raise InputError(Problem("data.mixed", what, fix="localtune data convert NAME --to text -o OUT.jsonl"))


def _values(opened: Opened, canonical: bool, left_out: _LeftOut) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Rows with what is written of them: what stands in the file, or the canonical form, which unusable rows lack."""
    for row, outcome in opened.rows(left_out.add):
        if not canonical:
            yield row, row.value
        elif isinstance(outcome, Problem):
            left_out.add(outcome)
        else:
            yield row, to_messages(outcome)


def _usable(opened: Opened, left_out: _LeftOut) -> Iterator[dict[str, Any]]:
    """Usable rows in canonical form, so that sources of different shapes go together."""
    for _, outcome in opened.rows(left_out.add):
        if isinstance(outcome, Problem):
            left_out.add(outcome)
        else:
            yield to_messages(outcome)


def _drawn(opened: Opened, count: int, quota: int, seed: int, number: int) -> Iterator[dict[str, Any]]:
    """The rows to take of one source: as many passes over it as that needs."""
    wanted = chosen(count, quota, seed, number)
    index = next(wanted, None)
    while index is not None:
        for at, value in enumerate(_usable(opened, _LeftOut())):
            if at == index:
                yield value
                index = next(wanted, None)
                if index is None or index <= at:
                    break


def _existing_or_weighted(source: str) -> tuple[str, float]:
    return (source, 1.0) if os.path.exists(source) else parse_source(source)


def _key_of(row: Row, column: str | None) -> int:
    """A hash of the row's key; 0 where it has none."""
    value = row.value.get(column) if column is not None else None
    if value is None:
        return 0
    return int.from_bytes(blake2b(line_of({"key": value}), digest_size=8).digest(), "little")
