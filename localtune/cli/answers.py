"""Answers on the screen as they come: one after the other, or side by side where there is room.

What a model says is shown with its newlines and tabs; every other control character is written as an escape, so that no
answer can steer the terminal.
"""

import contextlib
import shutil
import sys
from collections.abc import Callable, Mapping

import click

from localtune.chat.answer import Answer
from localtune.chat.terminal import unechoed
from localtune.errors import escaped

WIDE = 100
"""Columns from which two answers stand side by side."""
JOINERS = "\u200c\u200d"
"""Written inside words of Persian and Hindi, and inside emoji; they steer no terminal."""
CUT = {None: "", "max_tokens": ", cut at --max-tokens", "context": ", cut where the model's context is full"}


def show_answers(answers: Mapping[str, Answer]) -> None:
    """Hear every answer and show it on stdout, what was measured on stderr."""
    if len(answers) > 1 and sys.stdout.isatty() and shutil.get_terminal_size().columns >= WIDE:
        _side_by_side(answers)
    else:
        _in_turn(answers)


def measured(answer: Answer) -> str:
    """Length and speed of an answer, and which limit cut it; "" where it was cut off."""
    if answer.ended is None:
        return ""
    return f"[{answer.ended.tokens:,} tokens, {answer.speed:.1f} tokens/s{CUT[answer.cut]}]"


def _in_turn(answers: Mapping[str, Answer]) -> None:
    for who, answer in answers.items():
        if len(answers) > 1:
            click.echo(f"── {who}")
        try:
            _heard(answer, lambda piece: click.echo(_shown(piece), nl=False))
        finally:
            if answer.text:
                click.echo()
        click.echo(measured(answer), err=True)


def _side_by_side(answers: Mapping[str, Answer]) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def table() -> Table:
        columns = Table(expand=True, box=None, padding=(0, 2, 0, 0))
        for who in answers:
            columns.add_column(who, ratio=1)
        columns.add_row(*(Text(_shown(answer.text)) for answer in answers.values()))
        columns.add_row(*(Text(measured(answer), "dim") for answer in answers.values()))
        return columns

    console = Console()
    with unechoed():  # a key that the terminal shows would move what is drawn
        try:
            with Live(console=console, transient=True) as live:
                for answer in answers.values():
                    _heard(answer, lambda _: live.update(table()))
        finally:
            if any(answer.text for answer in answers.values()):
                console.print(table())


def _heard(answer: Answer, show: Callable[[str], None]) -> None:
    with contextlib.closing(iter(answer)) as pieces:
        for piece in pieces:
            show(piece)


def _shown(text: str) -> str:
    return escaped(text, limit=max(1, len(text) * 12), keep=JOINERS)
