"""An export under way or over, from its command's events: what it does now, the proofs as tables, what was made."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from textual.content import Content

from localtune.events import Event, Phase, Product, Proof, Replies, Warn, from_json
from localtune.sizes import readable
from localtune_tui.amounts import duration
from localtune_tui.exporting import Exportable
from localtune_tui.text import shown

VERDICTS = {True: "passed", False: "FAILED", None: "—"}
"""Of a check; None = there was nothing to compare."""


@dataclass(frozen=True)
class Line:
    """One line, however many it takes on the screen."""

    text: str
    style: str = ""
    """Style or name of a colour; "" for neither."""
    indent: int = 2
    """Blanks before what goes on below."""


@dataclass
class Work:
    """What the commands have said so far."""

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
                self.lines.append(Line(f"made {name}  {path}  {readable(size)} in {duration(seconds)}", "$good"))
            case Proof():
                self.lines += proof_lines(event.product, event.passed, event.checks, event.losses, event.seconds)
            case Replies(prompt=prompt, texts=texts):
                width = max(map(len, texts), default=0)
                self.lines.append(Line(f"one prompt, answered by {len(texts)}: {prompt}", "bold"))
                self.lines += [Line(f"  {who:<{width}}  {text}", indent=width + 4) for who, text in texts.items()]
            case Warn(code=code, text=text):
                note = code.endswith(".note")
                self.lines.append(Line(f"note: {text}" if note else f"! {text}", "" if note else "$caution"))

    def end(self, problem: str = "") -> None:
        """It is over; `problem` is why it made less than it was asked for."""
        self.over, self.problem, self.now = True, problem, ""
        self.lines += [Line(line, "$bad") for line in problem.splitlines()]


def proof_lines(
    product: str, passed: bool, checks: Sequence[Mapping[str, Any]], losses: Mapping[str, Any], seconds: float
) -> list[Line]:
    """A proof as a table: check, passed or not, figures; the losses beside each other below."""
    verdict = "passed" if passed else "FAILED"
    lines = [Line(f"proof of {product}: {verdict} in {duration(seconds)}", "$good" if passed else "$bad")]
    width = max((len(str(check.get("name", ""))) for check in checks), default=0)
    for check in checks:
        found = check.get("passed")
        fit = VERDICTS[found] if found is None or isinstance(found, bool) else "?"
        text = f"  {check.get('name', '')!s:<{width}}  {fit:<6}  {check.get('text', '')}"
        lines.append(Line(text, "$bad" if found is False else "", width + 12))
    said = "   ".join(f"{who} {loss:.4f}" for who, loss in losses.items() if isinstance(loss, int | float))
    return [*lines, Line(f"  {'loss':<{width}}  {'':<6}  {said}", indent=width + 12)] if said else lines


def earlier(found: Exportable) -> list[Line]:
    """What is known of the files that are there, from the last export."""
    lines: list[Line] = []
    for each in found.record:
        listed, losses, seconds = each.get("checks"), each.get("losses"), each.get("seconds")
        checks = [check for check in listed if isinstance(check, dict)] if isinstance(listed, list) else []
        lines += proof_lines(
            str(each.get("product", "")),
            each.get("passed") is True,
            checks,
            losses if isinstance(losses, dict) else {},
            float(seconds) if isinstance(seconds, int | float) else 0.0,
        )
    return lines


def painted(line: Line, width: int) -> Content:
    """`line` wrapped to `width` cells, what goes on below indented; safe for a screen."""
    indent = line.indent if line.indent < width // 2 else 2
    text = shown(line.text, 600)
    wrapped = textwrap.wrap(text, max(20, width), subsequent_indent=" " * indent, drop_whitespace=True)
    return Content.styled("\n".join(wrapped or [""]), line.style)
