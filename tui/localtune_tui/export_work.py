"""An export under way or over, from its command's events: what it does now, the proofs as tables, what was made."""

import textwrap
from dataclasses import dataclass, field

from textual.content import Content

from localtune.events import Event, Phase, Product, Proof, Replies, Warn, from_json
from localtune.words import ProofLine, event_lines, proof_lines
from localtune_tui.exporting import Exportable
from localtune_tui.text import shown


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

    wanted: tuple[str, ...] = ()
    """Names of what it is asked to make."""
    now: str = ""
    """The phase, and what of."""
    finished: int = 0
    """Of `wanted`."""
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
            case Phase():
                self.now = " ".join(event_lines(event))
            case Product(name=name, path=path):
                self.made.append(path)
                self.finished += name in self.wanted
                self.lines += [Line(line, "$good") for line in event_lines(event)]
            case Proof():
                found = proof_lines(event.product, event.passed, event.checks, event.losses, event.seconds)
                self.lines += map(_proof_line, found)
            case Replies(texts=texts):
                indent = max(map(len, texts), default=0) + 4
                self.lines += [
                    Line(line, "" if number else "bold", indent if number else 2)
                    for number, line in enumerate(event_lines(event))
                ]
            case Warn(code=code):
                style = "" if code.endswith(".note") else "$caution"
                self.lines += [Line(line, style) for line in event_lines(event)]

    @property
    def progress(self) -> str:
        """How many of several are made: "2 of 4"; "" where only one is."""
        return f"{self.finished} of {len(self.wanted)}" if len(self.wanted) > 1 else ""

    @property
    def outcome(self) -> str:
        """How it ended, for who looks at something else."""
        made = ", ".join(path.rpartition("/")[2] for path in self.made)
        return f"failed: {self.problem.splitlines()[0]}" if self.problem else f"is done: {made}"

    def end(self, problem: str = "") -> None:
        """It is over; `problem` is why it made less than it was asked for."""
        self.over, self.problem, self.now = True, problem, ""
        self.lines += [Line(line, "$bad") for line in problem.splitlines()]


def _proof_line(line: ProofLine) -> Line:
    """Green is for a proof that passed, as a whole; a check that did needs no colour."""
    whole = line.indent == 0
    style = "$bad" if line.passed is False else "$good" if whole and line.passed else ""
    return Line(line.text, style, line.indent or 2)


def earlier(exported: Exportable) -> list[Line]:
    """What is known of the files that are there, from the last export."""
    lines: list[Line] = []
    for each in exported.record:
        listed, losses, seconds = each.get("checks"), each.get("losses"), each.get("seconds")
        checks = [check for check in listed if isinstance(check, dict)] if isinstance(listed, list) else []
        found = proof_lines(
            str(each.get("product", "")),
            each.get("passed") is True,
            checks,
            losses if isinstance(losses, dict) else {},
            float(seconds) if isinstance(seconds, int | float) else 0.0,
        )
        lines += map(_proof_line, found)
    return lines


def painted(line: Line, width: int) -> Content:
    """`line` wrapped to `width` cells, what goes on below indented; safe for a screen."""
    indent = line.indent if line.indent < width // 2 else 2
    text = shown(line.text, 600)
    wrapped = textwrap.wrap(text, max(20, width), subsequent_indent=" " * indent, drop_whitespace=True)
    return Content.styled("\n".join(wrapped or [""]), line.style)
