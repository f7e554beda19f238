"""`localtune chat`: talk to a run, a model's folder or a GGUF file.

Answers are on stdout, everything else on stderr.
"""

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TextIO

import click

from localtune.chat.answer import Wishes
from localtune.chat.commands import is_command, obey
from localtune.chat.opening import Chat, find, open_folder, open_gguf, open_run
from localtune.chat.pipe import Pipe
from localtune.chat.talk import Talk, base_and_tuned
from localtune.cli.answers import show_answers
from localtune.errors import InputError, Problem, safe
from localtune.job import read_job
from localtune.runs.folder import Run


def _finite(context: click.Context, option: click.Parameter, value: float) -> float:
    """What a range lets through: nan, and inf where it has no end."""
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is no number to draw with")
    return value


HELP = "/help lists what can be typed, /exit or Ctrl+D ends, Ctrl+C ends an answer"


@click.command()
@click.argument("name", metavar="RUN|GGUF|FOLDER", default="last")
@click.option("-p", "--prompt", help="Answer this text and end; - reads it from stdin.")
@click.option("--lora", "loras", multiple=True, metavar="FILE", help="LoRA beside a GGUF; may be given several times.")
@click.option("--compare", is_flag=True, help="The base model's answer beside the tuned one's.")
@click.option("--system", help="Text of a system turn before everything else.")
@click.option(
    *("--temp", "temperature"),
    type=click.FloatRange(0),
    callback=_finite,
    default=Wishes.temperature,
    help="0 = greedy (default).",
)
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    callback=_finite,
    default=Wishes.top_p,
    help="Nucleus; 1 = off.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=Wishes.seed, help="Of what is drawn; default 0.")
@click.option("--max-tokens", type=click.IntRange(1), default=Wishes.max_tokens, show_default=True, help="Per answer.")
@click.option("--json", "as_json", is_flag=True, help="Speak JSON lines over stdin and stdout, for another program.")
def chat(
    name: str,
    prompt: str | None,
    loras: tuple[str, ...],
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
    with _quiet_stdout() if as_json else contextlib.nullcontext(sys.stdout) as out, _opened(name, loras) as opened:
        if as_json:
            for note in opened.adapters.notes if opened.adapters else ():
                _tell(safe(note))
            lines = os.fdopen(os.dup(sys.stdin.fileno()), "rb")  # sys.stdin, still read at exit, would abort Python
            Pipe(lines, out).serve(opened)
            return
        wishes = Wishes(temperature, top_p, seed, max_tokens)
        voices = base_and_tuned(opened) if compare else opened.who[:1]
        talk = Talk(opened, voices, wishes, system, show_answers, _tell)
        talk.load()
        if prompt is None:
            _converse(talk)
        else:
            talk.ask(sys.stdin.read() if prompt == "-" else prompt)


def _opened(name: str, loras: tuple[str, ...] = ()) -> Chat:
    found = find(name)
    if not isinstance(found, Run) and not found.is_dir():
        return open_gguf(found, loras)
    if loras:
        fix = "name the GGUF file of the adapters' base"
        raise InputError(Problem("chat.lora", "--lora goes with a GGUF file", name, fix=fix))
    return open_run(read_job(found)) if isinstance(found, Run) else open_folder(found)


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
        if text.strip() and not _heard(talk, text):
            return


def _heard(talk: Talk, text: str) -> bool:
    """Answer a line, be it a question or a command; whether the conversation goes on."""
    try:
        if is_command(text):
            return obey(talk, text)
        said = text.strip() if talk.opened.template else text
        talk.ask(said.replace("//", "/", 1) if said.lstrip().startswith("//") else said)
    except InputError as error:
        for problem in error.problems:
            _tell(str(_to_be_typed(problem, "/reset" if talk.remembers else "shorten the text")))
    except KeyboardInterrupt:
        _tell("cut off")
    return True


def _to_be_typed(problem: Problem, shorter: str) -> Problem:
    """`problem` with what mends it here."""
    return replace(problem, fix=shorter) if problem.code in ("chat.context", "llamacpp.context") else problem


def _tell(text: str) -> None:
    click.echo(text, err=True)


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[TextIO]:
    """The real stdout as a stream; what libraries print from now on goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        yield out
