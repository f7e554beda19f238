"""Events and times as a person reads them: said once, for the command line, its reports and the app."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localtune.errors import safe
from localtune.events import (
    Checkpoint,
    Done,
    Evaluation,
    Event,
    Failed,
    Match,
    Phase,
    Product,
    Proof,
    Replies,
    Sample,
    Step,
    Unknown,
    Warn,
)
from localtune.sizes import readable

VERDICTS = {True: "ok", False: "FAILED", None: "—"}
"""Of a check; None = there was nothing to compare."""


def duration(seconds: float) -> str:
    """`seconds` as a person says it: 9s, 14m36s, 2h05m, 3d04h."""
    whole = round(seconds) if math.isfinite(seconds) else 0
    for unit, part, names in ((86_400, 3600, "dh"), (3600, 60, "hm"), (60, 1, "ms")):
        if whole >= unit:
            return f"{whole // unit}{names[0]}{whole % unit // part:02d}{names[1]}"
    return f"{whole}s"


def event_lines(event: Event) -> Iterator[str]:
    """What is said of an event, but for updates; safe for a screen."""
    match event:
        case Phase(name=name, detail=detail):
            yield f"{safe(name)}  {safe(detail)}".rstrip()
        case Evaluation():
            yield _evaluation_line(event)
        case Match():
            yield _match_line(event)
        case Sample():
            yield f"sample at step {event.step}"
            sides = (("user", event.prompt), ("base", event.base), ("tuned", event.tuned))
            yield from (f"  {who:<6}{safe(text, 300)}" for who, text in sides)
        case Product():
            size, took = readable(event.size), duration(event.seconds)
            yield f"made {safe(event.name)}  {safe(event.path)}  {size} in {took}"
        case Proof():
            found = proof_lines(event.product, event.passed, event.checks, event.losses, event.seconds)
            yield from (line.text for line in found)
        case Replies():
            yield f"one prompt, answered by {len(event.texts)}: {safe(event.prompt, 300)}"
            width = max(map(len, event.texts), default=0)
            yield from (f"  {safe(who):<{width}}  {safe(text, 600)}" for who, text in event.texts.items())
        case Checkpoint():
            yield f"checkpoint {safe(event.folder)} saved ({readable(event.size)}, {event.seconds:.1f} s)"
        case Warn():
            code = safe(event.code)
            yield f"note     {safe(event.text)}" if code.endswith(".note") else f"warning[{code}]: {safe(event.text)}"
        case Done():
            yield from _done_lines(event)
        case Failed():
            yield from (safe(line) for line in event.text.splitlines())
        case Step() | Unknown():
            return


@dataclass(frozen=True)
class ProofLine:
    """A line of a proof's table."""

    text: str
    passed: bool | None = None
    """Of the proof, in its first line, or of the check; None for neither."""
    indent: int = 0
    """Blanks before what goes on in the next line."""


def proof_lines(
    product: str, passed: bool, checks: Sequence[Mapping[str, Any]], losses: Mapping[str, Any], seconds: float
) -> Iterator[ProofLine]:
    """A proof as a table: what was compared, ok or FAILED, figures; the losses beside each other below."""
    names = [safe(str(check.get("name", ""))) for check in checks]
    found = [check["passed"] if isinstance(check.get("passed"), bool) else None for check in checks]
    open_ = ", ".join(name for name, verdict in zip(names, found, strict=True) if verdict is None)
    verdict = "FAILED" if not passed else f"passed, but for {open_}" if open_ else "passed"
    yield ProofLine(f"proof of {safe(product)}: {verdict} in {duration(seconds)}", passed)
    width = max((len(name) for name in names), default=0)
    for name, each, check in zip(names, found, checks, strict=True):
        text = f"  {name:<{width}}  {VERDICTS[each]:<6}  {safe(str(check.get('text', '')), 400)}"
        yield ProofLine(text, each, width + 12)
    said = "   ".join(f"{safe(who)} {loss:.4f}" for who, loss in losses.items() if isinstance(loss, int | float))
    if said:
        yield ProofLine(f"  {'loss':<{width}}  {'':<6}  {said}", None, width + 12)


def _evaluation_line(event: Evaluation) -> str:
    best = "  best so far" if event.best else ""
    loss = f"{event.loss:.4f}  perplexity {event.perplexity:.4g}"
    where = f"{safe(event.who):<6} {safe(event.split)} loss at step {event.step}"
    return f"{where}: {loss}  accuracy {event.accuracy:.1%}{best}"


def _match_line(event: Match) -> str:
    group = f" ({safe(event.group)})" if event.group else ""
    share = f" = {event.exact / event.rows:.1%}" if event.rows else ""
    return f"{safe(event.who):<6} exact match{group} {event.exact}/{event.rows}{share}"


def _done_lines(event: Done) -> Iterator[str]:
    best = f", best at step {event.best_step}" if event.best_step else ""
    yield f"ended at step {event.step} ({safe(event.reason)}){best} after {duration(event.seconds)}"
    if event.peak_bytes:
        error = event.planned_bytes / event.peak_bytes - 1
        planned = readable(event.planned_bytes)
        yield f"memory  peak {readable(event.peak_bytes)}, planned {planned} ({error:+.0%})"
