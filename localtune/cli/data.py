"""`localtune data`: look at rows before they are trained on, and make better ones of them."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import cast

import click

from localtune.cli.data_options import CANONICAL, asked, data_arguments, placed, say, wrapped
from localtune.cli.options import to_json
from localtune.data.check import Checked, check, held_out_part
from localtune.data.check.finding import Finding, plural
from localtune.data.check.fix import KINDS, MENDED, Fixed, Kind, write_clean
from localtune.data.check.same import Keys
from localtune.data.jsonl import new_jsonl, refuse_existing
from localtune.data.opened import Opened, held_out_parts
from localtune.errors import InputError, Problem, safe
from localtune.typed import typed

COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
OTHERS = {
    "show": "data_show:show",
    "list": "data_rows:list_rows",
    "stats": "data_show:stats",
    "convert": "data_make:convert",
    "split": "data_make:split",
    "mix": "data_make:mix",
}
"""Verb -> module:function; imported when named."""


class _Verbs(click.Group):
    """Finds the verbs that live in other modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *OTHERS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in OTHERS:
            return super().get_command(ctx, cmd_name)
        module, _, function = OTHERS[cmd_name].partition(":")
        return cast(click.Command, getattr(importlib.import_module(f"localtune.cli.{module}"), function))


@click.group(cls=_Verbs)
def data() -> None:
    """Check, show, convert, split, mix and measure rows of data."""


@data.command("check", short_help="What is wrong with rows, and what mends it.")
@data_arguments(several=True)
@click.option("--valid", help="Validation rows, to find those that are trained on.")
@click.option("--test", help="Test rows, to find those that are trained on.")
@click.option("--fix", help=f"Leave out or mend, any of {','.join(KINDS)}; needs -o.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File for the clean copy.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON.")
def check_command(
    names: tuple[str, ...],
    model: str | None,
    overrides: tuple[str, ...],
    valid: str | None,
    test: str | None,
    fix: str | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Say what is wrong with rows and what mends it; exit 2 if a run would stop or measure something wrong."""
    kinds = _kinds(fix, output)
    beside = {"valid": valid, "test": test}
    data_asked = asked(names, model, overrides, beside)
    dropped = _dropped_file(output) if output else None
    for path in (output, dropped) if output and dropped else ():
        refuse_existing(path, force)
    train = data_asked.train()
    parts = held_out_parts(train, data_asked.loaded.base)
    held_out = {part: held_out_part(part, opened, data_asked.flags) for part, opened in parts.items()}
    if "leak" in kinds and not held_out:
        raise InputError(Problem("data.leak", "there is nothing to compare with", fix="--valid NAME or --test NAME"))
    with data_asked.rendering() as rendering:
        result = check(train, held_out, rendering, shown=data_asked.shown, beside=_flags(beside))
    keys = {part: looked.keys for part, looked in held_out.items()}
    fixed = _fix(train, kinds, result.keys, keys, output, dropped, force) if output and dropped else None
    if as_json:
        click.echo(to_json(result.to_json() | ({"fixed": asdict(fixed)} if fixed else {})))
    else:
        for line in checked_lines(result):
            say(line)
        for line in _fixed_lines(fixed, output, dropped) if fixed and output and dropped else ():
            say(line, err=True)
    mended = {code for kind in kinds for code in MENDED[kind]} | ({"unreadable"} if fixed else set())
    sys.exit(2 if any(f.severity == "error" and f.code not in mended for f in result.findings) else 0)


def checked_lines(result: Checked) -> Iterator[str]:
    """What was looked at and what was found, for a person; sentences fit the terminal."""
    yield from wrapped(f"{safe(result.name, 200)}: {plural(result.rows)}, {safe(result.why)}", "")
    for sentence in result.said:
        yield from wrapped(safe(sentence), "  ")
    if result.held_out:
        parts = " and ".join(f"{plural(count, part + ' row')}" for part, count in result.held_out.items())
        yield from wrapped(f"compared with {parts}", "  ")
    if tokens := result.tokens:
        share = tokens["learned"] / max(tokens["total"], 1)
        lengths = f"p50 {tokens['p50']:,}  p95 {tokens['p95']:,}  max {tokens['max']:,}"
        learned = f"{tokens['total']:,} tokens, {tokens['learned']:,} learned ({share:.0%})"
        yield from wrapped(f"{learned}; per row {lengths}", "  ")
    for finding in result.findings:
        yield from _finding_lines(finding)
    found = {finding.code for finding in result.findings}
    clean = [code for code in result.looked_for if code not in found]
    counts = {word: sum(f.severity == word for f in result.findings) for word in ("error", "warning", "note")}
    said = ", ".join(plural(count, word) for word, count in counts.items() if count) or "no findings"
    yield ""
    yield from wrapped(f"{said} in {len(result.looked_for)} checks; nothing found of: {', '.join(clean)}", "")
    if result.mend:
        yield f"mend all of these:  {safe(result.mend)}"


def _finding_lines(finding: Finding) -> Iterator[str]:
    head = click.style(f"{finding.severity:<8}", fg=COLOURS[finding.severity], bold=True)
    yield ""
    yield f"{head} {finding.code}" + (f"  {finding.count:,}" if finding.count else "")
    yield from wrapped(safe(finding.what), "  ")
    for place in finding.first:
        where, _, evidence = place.partition("  ")
        yield from placed(where, evidence, "    ")
    if finding.fix:
        yield f"  fix: {safe(finding.fix)}"  # in one line, so that it can be copied


def _kinds(fix: str | None, output: Path | None) -> frozenset[Kind]:
    if (fix is None) != (output is None):
        missing = "-o OUT says where the clean copy goes" if output is None else "--fix LIST says what is to be mended"
        fixes = "--fix dup,empty -o clean.jsonl"
        raise InputError(Problem("data.fix", f"--fix and -o go together: {missing}", fix=fixes))
    named = [kind.strip() for kind in (fix or "").split(",") if kind.strip()]
    unknown = [kind for kind in named if kind not in KINDS]
    if unknown or (fix is not None and not named):
        what = (
            f"{safe(repr(unknown[0] if unknown else fix), 40)} is nothing that can be mended; known: {', '.join(KINDS)}"
        )
        raise InputError(Problem("data.fix", what, fix="--fix dup,empty"))
    return frozenset(kind for kind in KINDS if kind in named)


def _flags(beside: dict[str, str | None]) -> str:
    return "".join(f" --{part} {typed(name)}" for part, name in beside.items() if name)


def _fix(
    train: Opened,
    kinds: frozenset[Kind],
    keys: Keys,
    held_out: dict[str, Keys],
    output: Path,
    dropped: Path,
    force: bool,
) -> Fixed:
    with ExitStack() as stack:
        drop = stack.enter_context(new_jsonl(dropped, force=force))
        write = stack.enter_context(new_jsonl(output, force=force))
        fixed = write_clean(train, kinds, keys, held_out, write, drop)
        if not fixed.kept:
            raise InputError(Problem("data.empty", "no row would be left, so nothing was written", fix="fix less"))
    return fixed


def _fixed_lines(fixed: Fixed, output: Path, dropped: Path) -> Iterator[str]:
    total = sum(fixed.dropped.values())
    by = ", ".join(f"{reason} {count:,}" for reason, count in fixed.dropped.items())
    yield f"wrote {output}: {plural(fixed.kept)}" + (f", {fixed.changed:,} brought into NFC" if fixed.changed else "")
    if fixed.canonical:
        yield CANONICAL
    yield f"wrote {dropped}: {plural(total)} left out" + (f" ({by})" if by else "")


def _dropped_file(output: Path) -> Path:
    return output.with_name(output.name.removesuffix(".jsonl") + ".dropped.jsonl")
