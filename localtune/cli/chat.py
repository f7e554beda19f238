"""`localtune chat`: talk to a run, a model's folder or a GGUF file.

Answers are on stdout, everything else on stderr. What a model says is shown with its newlines and tabs; every other
control character is written as an escape, so that no answer can steer the terminal.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TextIO

import click

from localtune.chat.answer import Answer, Wishes
from localtune.chat.opening import Chat, find, open_folder, open_gguf, open_run
from localtune.chat.pipe import Pipe
from localtune.chat.terminal import unechoed
from localtune.data.conversations import Message
from localtune.errors import InputError, Problem, safe
from localtune.export.read import read_gguf
from localtune.job import read_job
from localtune.runs.folder import Run

WIDE = 100
"""Columns from which two answers stand side by side."""
JOINERS = "\u200c\u200d"
"""Written inside words of Persian and Hindi, and inside emoji; they steer no terminal."""
CUT = {None: "", "max_tokens": ", cut at --max-tokens", "context": ", cut where the model's context is full"}
HELP = "/reset forgets what was said, /exit or Ctrl+D ends, Ctrl+C ends an answer"


@click.command()
@click.argument("name", metavar="RUN|GGUF|FOLDER", default="last")
@click.option("-p", "--prompt", help="Answer this text and end; - reads it from stdin.")
@click.option("--compare", is_flag=True, help="The base model's answer beside the tuned one's.")
@click.option("--system", help="Text of a system turn before everything else.")
@click.option(
    "--temp", "temperature", type=click.FloatRange(0), default=Wishes.temperature, help="0 = greedy (default)."
)
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=Wishes.top_p, help="Nucleus; 1 = off.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=Wishes.seed, help="Of what is drawn; default 0.")
@click.option("--max-tokens", type=click.IntRange(1), default=Wishes.max_tokens, show_default=True, help="Per answer.")
@click.option("--json", "as_json", is_flag=True, help="Speak JSON lines over stdin and stdout, for another program.")
def chat(
    name: str,
    prompt: str | None,
    compare: bool,
    system: str | None,
    temperature: float,
    top_p: float,
    seed: int,
    max_tokens: int,
    as_json: bool,
) -> None:
    """Talk to what a run made, to a model's folder, or to a GGUF file."""
    if as_json and (prompt is not None or compare or system is not None):
        what = "--json takes prompt, system turn and who answers from its requests"
        raise InputError(Problem("chat.json", what, fix="leave out -p, --compare and --system"))
    with _quiet_stdout() if as_json else contextlib.nullcontext(sys.stdout) as out, _opened(name) as opened:
        if as_json:
            lines = os.fdopen(os.dup(sys.stdin.fileno()), "rb")  # sys.stdin, still read at exit, would abort Python
            Pipe(lines, out).serve(opened)
            return
        talk = Talk(opened, _voices(opened, compare), Wishes(temperature, top_p, seed, max_tokens), system)
        talk.load()
        if prompt is None:
            _converse(talk)
        else:
            talk.ask(sys.stdin.read() if prompt == "-" else prompt)


def _opened(name: str) -> Chat:
    found = find(name)
    if isinstance(found, Run):
        return open_run(read_job(found))
    if found.is_dir():
        return open_folder(found)
    stated = read_gguf(found).metadata
    if stated.get("general.type") == "adapter":
        what = "is an adapter, and answers only together with its base"
        raise InputError(Problem("chat.adapter", what, name, fix="localtune export RUN  writes a model that answers"))
    return open_gguf(found, template=bool(stated.get("tokenizer.chat_template")))  # ChatML stands in for an empty one


def _voices(opened: Chat, compare: bool) -> Sequence[str]:
    if not compare:
        return opened.who[:1]
    if "base" not in opened.who:
        what = f"{opened.name} alone has no base to compare with"
        raise InputError(Problem("chat.compare", what, fix="localtune chat RUN --compare"))
    return ("base", "tuned")


@dataclass
class Talk:
    """One conversation, with each voice remembering its own answers."""

    opened: Chat
    voices: Sequence[str]
    wishes: Wishes
    system: str | None = None
    turns: dict[str, list[Message]] = field(default_factory=dict)

    def load(self) -> None:
        """Bring every voice into memory. Raises `InputError` for a system turn without a template."""
        if self.system is not None and not self.opened.template:
            what = "the model has no chat template, so it cannot read a system turn"
            raise InputError(Problem("template.missing", what, self.opened.name, fix="leave out --system"))
        _tell(f"loading {safe(self.opened.name)}")
        for who in self.voices:
            self.opened.speaker(who)
        if not self.opened.template:
            _tell("no chat template: each text is continued as it is, and nothing is remembered")
        self.reset()

    def reset(self) -> None:
        """Forget what was said."""
        first = [] if self.system is None else [Message("system", _text(self.system))]
        self.turns = {who: list(first) for who in self.voices}

    @property
    def remembers(self) -> bool:
        """Whether the next question follows another."""
        return any(message.role == "user" for turns in self.turns.values() for message in turns)

    def ask(self, text: str) -> None:
        """Show what every voice answers, and remember it. Raises `InputError` for what cannot be read."""
        asked = Message("user", _text(text))
        answers = {who: self._answer(who, asked) for who in self.voices}
        try:
            if len(answers) > 1 and sys.stdout.isatty() and shutil.get_terminal_size().columns >= WIDE:
                _side_by_side(answers)
            else:
                _in_turn(answers)
        finally:  # what was said stands, also where it was cut off
            for who, answer in answers.items():
                if self.opened.template and answer.text:
                    self.turns[who] += [asked, Message("assistant", answer.text)]

    def _answer(self, who: str, asked: Message) -> Answer:
        return Answer(self.opened.speaker(who), [*self.turns[who], asked], self.wishes)


def _converse(talk: Talk) -> None:
    """Lines from stdin until it ends."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives `input` its editing and history
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal:
        _tell(HELP)
    while True:
        try:
            text = input("> " if terminal else "")
        except EOFError:
            if terminal:
                _tell("")  # the shell's prompt begins on a line of its own
            return
        except KeyboardInterrupt:
            _tell("")
            continue
        said = text.strip()
        if said == "/exit":
            return
        if said == "/reset":
            talk.reset()
            _tell("forgotten")
        elif said == "/help":
            _tell(HELP)
        elif said:
            _asked(talk, said if talk.opened.template else text)


def _asked(talk: Talk, text: str) -> None:
    try:
        talk.ask(text)
    except InputError as error:
        for problem in error.problems:
            _tell(str(_to_be_typed(problem, "/reset" if talk.remembers else "shorten the text")))
    except KeyboardInterrupt:
        _tell("cut off")


def _to_be_typed(problem: Problem, shorter: str) -> Problem:
    """`problem` with what mends it here."""
    return replace(problem, fix=shorter) if problem.code in ("chat.context", "llamacpp.context") else problem


def _in_turn(answers: dict[str, Answer]) -> None:
    for who, answer in answers.items():
        if len(answers) > 1:
            click.echo(f"── {who}")
        try:
            _heard(answer, lambda piece: click.echo(_shown(piece), nl=False))
        finally:
            if answer.text:
                click.echo()
        _tell(_measured(answer))


def _side_by_side(answers: dict[str, Answer]) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def table() -> Table:
        columns = Table(expand=True, box=None, padding=(0, 2, 0, 0))
        for who in answers:
            columns.add_column(who, ratio=1)
        columns.add_row(*(Text(_shown(answer.text)) for answer in answers.values()))
        columns.add_row(*(Text(_measured(answer), "dim") for answer in answers.values()))
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


def _measured(answer: Answer) -> str:
    if answer.ended is None:
        return ""
    return f"[{answer.ended.tokens:,} tokens, {answer.speed:.1f} tokens/s{CUT[answer.cut]}]"


def _shown(text: str) -> str:
    return safe(text, limit=max(1, len(text) * 12), keep=JOINERS)


def _text(text: str) -> str:
    """What was typed. Raises `InputError` for bytes that are no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(Problem("chat.encoding", "the text is not UTF-8", evidence=safe(text, 200))) from None
    return text


def _tell(text: str) -> None:
    click.echo(text, err=True)


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[TextIO]:
    """The real stdout as a stream; what libraries print from now on goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        yield out
