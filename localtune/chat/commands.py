"""What can be typed in a chat besides questions: lines that begin with a slash. `//` begins a text with one slash."""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from localtune.chat.kept import keep
from localtune.chat.talk import Exchange, Talk, rated_row, text_of
from localtune.errors import InputError, Problem, safe
from localtune.typed import typed


@dataclass(frozen=True)
class Command:
    """One command."""

    takes: str
    """What follows its name."""
    does: str
    act: Callable[[Talk, str], None]
    """Raises `InputError` for what is typed wrongly, with nothing changed."""


def is_command(line: str) -> bool:
    """Whether `line` is meant for the chat, not for the model."""
    return line.lstrip().startswith("/") and not line.lstrip().startswith("//")


def obey(talk: Talk, line: str) -> bool:
    """Do what a command says; whether the conversation goes on. Raises `InputError` for what cannot be done."""
    name, _, rest = line.strip().partition(" ")
    if name == "/exit":
        return False
    command = COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, [*COMMANDS, "/exit"], 2, 0.6)
        what = f"there is no {safe(name, 60)}" + (f"; near it: {', '.join(near)}" if near else "")
        raise InputError(Problem("chat.command", what, fix="/help lists all; // begins a text with a slash"))
    command.act(talk, rest.strip())
    return True


def _help(talk: Talk, rest: str) -> None:
    width = max(len(f"{name} {command.takes}") for name, command in COMMANDS.items())
    for name, command in COMMANDS.items():
        talk.tell(f"{f'{name} {command.takes}':{width}}  {command.does}")
    talk.tell(f"{'/exit':{width}}  end, as Ctrl+D does")
    talk.tell("// begins a text with a slash; Ctrl+C ends an answer")


def _reset(talk: Talk, rest: str) -> None:
    talk.reset()
    talk.tell("forgotten")


def _again(talk: Talk, rest: str) -> None:
    talk.again()


def _system(talk: Talk, rest: str) -> None:
    if rest:
        talk.speak_as(None if rest == "off" else rest)
    if talk.system is None:
        talk.tell("no system turn")
    else:
        talk.tell(f"system: {safe(talk.system)}   (/system off  leaves it out)")


def _temperature(talk: Talk, rest: str) -> None:
    value = _number(rest, "/temp", talk.wishes.temperature, "a number from 0, which is greedy", float, least=0)
    talk.wishes = replace(talk.wishes, temperature=value)
    talk.tell(f"temperature {value:g}" + (", the likeliest word each time" if not value else ""))


def _top_p(talk: Talk, rest: str) -> None:
    value = _number(rest, "/top-p", talk.wishes.top_p, "a number above 0, at most 1", float, least=1e-9, most=1)
    talk.wishes = replace(talk.wishes, top_p=value)
    talk.tell(f"top-p {value:g}")


def _seed(talk: Talk, rest: str) -> None:
    value = _number(rest, "/seed", talk.wishes.seed, "a whole number from 0", int, least=0, most=2**63 - 1)
    talk.wishes = replace(talk.wishes, seed=int(value))
    talk.tell(f"seed {int(value)}")


def _most(talk: Talk, rest: str) -> None:
    value = _number(rest, "/max", talk.wishes.max_tokens, "a whole number from 1", int, least=1, most=2**31 - 1)
    talk.wishes = replace(talk.wishes, max_tokens=int(value))
    talk.tell(f"at most {int(value):,} tokens an answer")


def _compare(talk: Talk, rest: str) -> None:
    talk.compare(len(talk.voices) == 1)
    talk.tell("base and tuned answer" if len(talk.voices) > 1 else f"{talk.mine} answers alone")


def _lora(talk: Talk, rest: str) -> None:
    adapters = talk.opened.adapters
    if adapters is None:
        fix = "localtune chat BASE.gguf --lora A.gguf --lora B.gguf"
        raise InputError(Problem("chat.lora", "there is no adapter to choose", talk.opened.name, fix=fix))
    if rest:
        adapters.choose(rest)
    for line in adapters.lines():
        talk.tell(safe(line))


def _save(talk: Talk, rest: str) -> None:
    if not rest:
        raise InputError(Problem("chat.save", "where to?", fix="/save chat.jsonl"))
    row, path = talk.row(), Path(os.path.expanduser(text_of(rest)))
    keep(row, path)
    talk.tell(f"{len(row['messages'])} turns appended to {safe(str(path.resolve()))}")


def _good(talk: Talk, rest: str) -> None:
    if rest:
        raise InputError(Problem("chat.rating", "/good takes no text", fix="/bad THE BETTER ANSWER  keeps that one"))
    exchange = _to_rate(talk)
    answer = exchange.answers[talk.mine]
    if answer.ended is None or answer.cut:
        what = "the answer was cut off, and would teach to stop there"
        raise InputError(Problem("chat.rating", what, fix="/retry, or  /bad THE WHOLE ANSWER"))
    _rate(talk, exchange, "good", answer.text)
    exchange.rated = "good"


def _bad(talk: Talk, rest: str) -> None:
    exchange, better = _to_rate(talk), text_of(rest)
    _rate(talk, exchange, "bad", exchange.answers[talk.mine].text)
    exchange.rated = "bad"
    if better:
        _rate(talk, exchange, "good", better)


def _to_rate(talk: Talk) -> Exchange:
    """The last exchange, which has an answer of the voice that is talked to and is not rated yet."""
    exchange = talk.last
    if exchange is None or talk.mine not in exchange.answers or not exchange.answers[talk.mine].text:
        raise InputError(Problem("chat.rating", "there is no answer to rate yet"))
    if exchange.rated:
        raise InputError(Problem("chat.rating", f"this answer is noted as {exchange.rated} already"))
    return exchange


def _rate(talk: Talk, exchange: Exchange, kind: Literal["good", "bad"], answer: str) -> None:
    path = talk.opened.feedback / f"{kind}.jsonl"
    keep(rated_row(exchange, talk.mine, answer, template=talk.opened.template), path)
    if path in talk.told:
        talk.tell(f"noted as {kind}")
        return
    talk.told.add(path)
    talk.tell(f"noted as {kind} in {safe(str(path.resolve()))}")
    if kind == "good" and (talk.opened.feedback.parent / "plan.json").is_file():
        talk.tell(f"localtune eval {safe(talk.opened.name)} --data {safe(typed(path))}  tests with it")


def _number(
    text: str, name: str, now: float, expected: str, kind: type[int] | type[float], *, least: float,
    most: float = float("inf"),
) -> float:  # fmt: skip
    """The number in `text`, `now` where there is none. Raises `InputError`."""
    try:
        value = kind(text) if text else kind(now)
        if least <= value <= most and value < float("inf"):
            return value
    except ValueError:
        pass
    raise InputError(Problem("chat.command", f"{text!r:.60} is not {expected}", fix=f"{name} {now:g}"))


COMMANDS = {
    "/help": Command("", "this list", _help),
    "/reset": Command("", "forget what was said", _reset),
    "/retry": Command("", "ask the last question again", _again),
    "/system": Command("[TEXT|off]", "the system turn from now on", _system),
    "/temp": Command("N", "0 = the likeliest word each time", _temperature),
    "/top-p": Command("N", "draw among the likeliest words only; 1 = off", _top_p),
    "/seed": Command("N", "of what is drawn", _seed),
    "/max": Command("N", "tokens of an answer", _most),
    "/compare": Command("", "the base's answer beside the tuned one's, or no longer", _compare),
    "/lora": Command("[NAME|off|A=0.7,B=0.3]", "list adapters, or choose which count", _lora),
    "/save": Command("FILE", "append the conversation to a JSONL file", _save),
    "/good": Command("", "keep the last answer as a row to test or train with", _good),
    "/bad": Command("[BETTER ANSWER]", "note the last answer as bad, keep the better one", _bad),
}
"""In the order in which help shows them."""
