"""Chat templates, rendered as transformers does, in jinja2's immutable sandbox.

The text is exactly that of `apply_chat_template` of transformers 5 (trim_blocks, lstrip_blocks, loop controls, tojson
without HTML escapes, raise_exception, strftime_now, `{% generation %}`). The sandbox stops a template from reaching
Python; it does not bound time or memory. Some templates write the date: `today` fixes it.
"""

import datetime
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from localtune.errors import InputError, Problem, safe

RESERVED = re.compile("[\U0010fff0-\U0010fffd]")
"""Private-use characters that mark places in a text while it is rendered; no conversation may hold one."""
_OF_DICT = frozenset(dir(dict))
_ESCAPED = re.compile(r"\\udbff\\udff([0-9a-d])")
"""A reserved character as JSON writes it in ASCII: it must still be found."""
_OPEN, _CLOSE = "\U0010fff8", "\U0010fff9"


@dataclass(frozen=True)
class Rendered:
    """Text of a conversation."""

    text: str
    marks: tuple[tuple[int, int], ...]
    """Character spans [start, end) that the template put between generation tags."""


class Refused(Exception):
    """The template does not render these messages; the text says why."""


class Starved(Refused):
    """Rendering them takes more memory than there is."""


class ChatTemplate:
    """One template with the special tokens it may write."""

    def __init__(self, source: str, tokens: Mapping[str, str], today: datetime.date | None = None) -> None:
        """`tokens`: bos_token, eos_token, …. Raises `InputError` for a template that is not valid."""
        environment = _Environment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals.update(raise_exception=_raise, strftime_now=_clock(today))
        self.source = source
        self.names = dict(tokens)
        """bos_token, eos_token, … -> string."""
        try:
            self._template = environment.from_string(source)
        except MemoryError:
            what = "the constants of the chat template take more memory than they may"
            raise InputError(Problem("template.memory", what, fix="use the model's original chat template")) from None
        except Exception as error:  # a template is a program, and constants are computed here: whatever it raises
            line = f" in line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
            what = f"the chat template is not valid: {safe(str(error) or type(error).__name__, 200)}{line}"
            raise InputError(Problem("template.syntax", what, fix="use the model's original chat template")) from None

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, prompt: bool = False, tools: list[Any] | None = None
    ) -> Rendered:
        """The text of `messages`; with `prompt` it ends where an answer begins. Raises `Refused`."""
        try:
            text = self._template.render(
                messages=list(messages), tools=tools, documents=None, add_generation_prompt=prompt, **self.names
            )
        except MemoryError:
            raise Starved("it needs more memory than it may take") from None
        except Exception as error:  # a template is a program: whatever it raises is its own
            raise Refused(safe(f"{error}" or type(error).__name__, 300)) from None
        return _collect_marks(text) if _OPEN in text else Rendered(text, ())


def _collect_marks(text: str) -> Rendered:
    plain, spans, length, start = [], [], 0, 0
    for piece in re.split(f"([{_OPEN}{_CLOSE}])", text):
        if piece == _OPEN:
            start = length
        elif piece == _CLOSE:
            spans.append((start, length))
        else:
            plain.append(piece)
            length += len(piece)
    return Rendered("".join(plain), tuple(span for span in spans if span[0] < span[1]))


class _Environment(ImmutableSandboxedEnvironment):
    def getattr(self, obj: Any, attribute: str) -> Any:
        """The same, without the exception that a key of a dict costs otherwise."""
        if type(obj) is dict and attribute in obj and attribute not in _OF_DICT:
            return obj[attribute]
        return super().getattr(obj, attribute)


class _Generation(Extension):
    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        return f"{_OPEN}{caller()}{_CLOSE}"


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return _ESCAPED.sub(lambda found: chr(0x10FFF0 + int(found[1], 16)), text) if ensure_ascii else text


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _clock(today: datetime.date | None) -> Callable[[str], str]:
    def strftime_now(form: str) -> str:
        now = datetime.datetime.now()
        return (now if today is None else datetime.datetime.combine(today, datetime.time())).strftime(form)

    return strftime_now
