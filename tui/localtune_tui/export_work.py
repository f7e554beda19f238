"""An export under way or over, from its command's events: what it does now, the proofs as tables, what was made."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from localtune.events import Event, Phase, Product, Proof, Replies, Warn, from_json
from localtune.memory import readable
from localtune_tui.amounts import duration
from localtune_tui.exporting import Exportable

VERDICTS = {True: "passed", False: "FAILED", None: "—"}
Line = tuple[str, str]
"""Text, and the name of its colour or ""."""


@dataclass
class Work:
    """What the commands have said so far."""

    began: float = field(default_factory=time.time)
    now: str = ""
    """The phase, and what of."""
    lines: list[Line] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    """Paths and names, as the command line gives them."""
    problem: str = ""
    over: bool = False

    def hear(self, line: str) -> None:
        """Take a line of the command's stdout."""
        try:
            event = from_json(line)
        except ValueError:
            return
        self.take(event)

    def take(self, event: Event) -> None:
        """Take an event."""
        match event:
            case Phase(name=name, detail=detail):
                self.now = f"{name}  {detail}"
            case Product(name=name, path=path, size=size, seconds=seconds):
                self.made.append(path)
                self.lines.append((f"made {name}  {path}  {readable(size)} in {duration(seconds)}", "good"))
            case Proof():
                self.lines += proof_lines(event.product, event.passed, event.checks, event.losses, event.seconds)
            case Replies(prompt=prompt, texts=texts):
                width = max(map(len, texts), default=0)
                self.lines.append((f"one prompt, answered by {len(texts)}: {prompt}", "bold"))
                self.lines += [(f"  {who:<{width}}  {text}", "") for who, text in texts.items()]
            case Warn(code=code, text=text):
                note = code.endswith(".note")
                self.lines.append((f"note: {text}" if note else f"! {text}", "" if note else "caution"))

    def end(self, problem: str = "") -> None:
        """It is over."""
        self.over, self.problem, self.now = True, problem, ""
        self.lines += [(line, "bad") for line in problem.splitlines()]


def proof_lines(
    product: str, passed: bool, checks: Sequence[dict[str, Any]], losses: dict[str, Any], seconds: float
) -> list[Line]:
    """A proof as a table: check, passed or not, figures; the losses beside each other below."""
    verdict = "passed" if passed else "FAILED"
    lines = [(f"proof of {product}: {verdict} in {duration(seconds)}", "good" if passed else "bad")]
    width = max((len(str(check.get("name", ""))) for check in checks), default=0)
    for check in checks:
        fit = VERDICTS.get(check.get("passed"), "?")
        name, text = str(check.get("name", "")), str(check.get("text", ""))
        lines.append((f"  {name:<{width}}  {fit:<6}  {text}", "bad" if check.get("passed") is False else ""))
    said = "   ".join(f"{who} {loss:.4f}" for who, loss in losses.items() if isinstance(loss, int | float))
    return [*lines, (f"  {'loss':<{width}}  {'':<6}  {said}", "")] if said else lines


def earlier(found: Exportable) -> list[Line]:
    """What is known of the files that are there, from the last export."""
    lines: list[Line] = []
    for each in found.record:
        checks = [check for check in each.get("checks") or () if isinstance(check, dict)]
        losses = each.get("losses") if isinstance(each.get("losses"), dict) else {}
        seconds = each.get("seconds")
        lines += proof_lines(
            str(each.get("product", "")),
            each.get("passed") is True,
            checks,
            losses or {},
            float(seconds) if isinstance(seconds, int | float) else 0.0,
        )
    return lines
