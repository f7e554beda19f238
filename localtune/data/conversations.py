"""Rows in normal form: a conversation, a prompt with its completion, or a passage of text.

The shape of a file is decided by the keys of its first row and said in words; a row of another shape is an error that
names both rows. Nothing that would change what is trained is passed over in silence: tools, images, per-message
weights and reasoning fields are problems by name.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from localtune.data.rows import SKIP, BadRows, Place, Row
from localtune.errors import InputError, Problem, safe
from localtune.settings import DataSettings

Role = Literal["system", "user", "assistant", "tool"]
Shape = Literal["messages", "prompt-completion", "text"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
_REFUSED_ROW_KEYS = ("tools", "functions", "images")
_REFUSED_KEYS = (
    "tool_calls", "function_call", "tool_call_id", "weight", "reasoning_content", "thinking", "images", "audio",
)  # fmt: skip


@dataclass(frozen=True)
class ToolCall:
    """A function the answer calls."""

    name: str
    arguments: dict[str, Any]
    """A JSON object."""
    id: str = ""


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    content: str
    """ "" only beside tool calls."""
    reasoning: str = ""
    """What an answer thinks before it speaks, without its tags."""
    calls: tuple[ToolCall, ...] = ()
    name: str = ""
    """Of the tool that speaks, or of the speaker."""
    call_id: str = ""
    """Of the call that a tool answers."""
    weight: float = 1.0
    """0 to 1: how much an answer counts when it is learned."""


@dataclass(frozen=True)
class Conversation:
    """Turns, at least one of them an answer."""

    place: Place
    messages: tuple[Message, ...]
    group: str = ""
    """The row's key "group": test rows are also scored by group."""
    tools: tuple[dict[str, Any], ...] = ()
    """JSON schemas of the functions that may be called, as the template wants them."""


@dataclass(frozen=True)
class Pair:
    """A prompt and what follows it. Models with a chat template get it as two turns."""

    place: Place
    prompt: str
    completion: str
    system: str | None = None
    group: str = ""

    def as_conversation(self) -> Conversation:
        """The same as turns."""
        system = (Message("system", self.system),) if self.system else ()
        turns = (*system, Message("user", self.prompt), Message("assistant", self.completion))
        return Conversation(self.place, turns, self.group)


@dataclass(frozen=True)
class Passage:
    """Text as it is written; all of it is learned."""

    place: Place
    text: str
    group: str = ""


@dataclass(frozen=True)
class Preference:
    """Two answers to the same, the first preferred."""

    place: Place
    chosen: "Conversation | Pair"
    rejected: "Conversation | Pair"
    group: str = ""


@dataclass(frozen=True)
class Labelled:
    """An answer that was wanted, or not (KTO)."""

    place: Place
    example: "Conversation | Pair"
    wanted: bool
    group: str = ""


@dataclass(frozen=True)
class Infill:
    """Code with a hole; the middle is learned."""

    place: Place
    prefix: str
    suffix: str
    middle: str
    group: str = ""


Example = Conversation | Pair | Passage | Preference | Labelled | Infill


@dataclass(frozen=True)
class Format:
    """Shape of the rows of a file, where they keep what, and why it was chosen."""

    shape: Shape
    why: str
    keys: dict[str, str]
    """messages, prompt, completion, text, system -> key of a row."""
    first: Row
    """The row that decided."""
    given: bool
    """The recipe named the shape."""


def detect(row: Row, settings: DataSettings) -> Format:
    """The format of the file whose first usable row is `row`. Raises `InputError` listing the columns it has."""
    names = ("messages", "prompt", "completion", "text", "system")
    keys = {name: str(settings.columns.get(name, name)) for name in names}  # type: ignore[call-overload]
    given = settings.format != "auto"
    shapes = _shapes(row.value, keys)
    if settings.format != "auto":
        wanted: Shape = settings.format
        if wanted not in shapes:
            raise InputError(_columns_problem(row, keys, wanted))
        return Format(wanted, f"{wanted}, because data.format says so", keys, row, given)
    if not shapes:
        raise InputError(_columns_problem(row, keys, None))
    shape = next((s for s in shapes if _mapped(s, settings)), shapes[0])
    return Format(shape, f"{shape}, because every row has the {_wanted(shape, keys)}", keys, row, given)


def examples(rows: Iterator[Row], settings: DataSettings, bad: BadRows) -> tuple[Format, Iterator[Example]]:
    """Format and normal forms of `rows`, lazily; unusable rows go to `bad`. Raises `InputError` for no rows at all."""
    first = next(rows, None)
    if first is None:
        evidence = "\n".join(str(problem) for problem in bad.first)
        raise InputError(Problem("data.empty", "the file has no row that can be used", evidence=evidence))
    form = detect(first, settings)
    return form, _normal_forms(itertools.chain([first], rows), form, settings.system, bad)


def _normal_forms(rows: Iterator[Row], form: Format, system: str | None, bad: BadRows) -> Iterator[Example]:
    for row in rows:
        example = normal_form(row, form, system)
        if isinstance(example, Problem):
            bad.add(example)
        else:
            yield example


def normal_form(row: Row, form: Format, system: str | None) -> Example | Problem:
    """`row` as the format says, with `system` where it has no system turn; or why it cannot be used.

    Raises `InputError` when the row has another shape than the file.
    """
    shapes = _shapes(row.value, form.keys)
    if form.shape not in shapes:
        if shapes and not form.given:
            raise InputError(_mixed_problem(form, row, shapes[0]))
        return _columns_problem(row, form.keys, form.shape)
    refused = next((key for key in _REFUSED_ROW_KEYS if row.value.get(key)), None)
    if refused and form.shape != "text":
        return _bad(row, "data.unsupported", f'the key "{refused}" would change what is trained and is not supported')
    if form.shape == "messages":
        return _conversation(row, form.keys, system)
    return _pair(row, form.keys, system) if form.shape == "prompt-completion" else _passage(row, form.keys)


def _conversation(row: Row, keys: dict[str, str], system: str | None) -> Conversation | Problem:
    turns = row.value[keys["messages"]]
    if not isinstance(turns, list) or not turns:
        return _bad(row, "data.messages", f'"{keys["messages"]}" must be a list of turns')
    messages = []
    for number, turn in enumerate(turns, start=1):
        message = _message(row, number, turn)
        if isinstance(message, Problem):
            return message
        messages.append(message)
    if not any(message.role == "assistant" for message in messages):
        return _bad(row, "data.nothing-to-learn", "the conversation has no assistant turn, so nothing is learned")
    if system and all(message.role != "system" for message in messages):
        messages.insert(0, Message("system", system))
    return Conversation(row.place, tuple(messages), _group(row))


def _message(row: Row, number: int, turn: object) -> Message | Problem:
    if not isinstance(turn, dict):
        return _bad(row, "data.messages", f"turn {number} is no object with role and content")
    role = turn.get("role")
    if role not in ROLES:
        return _bad(row, "data.role", f"turn {number} has the role {_shown(role)}; known: {', '.join(ROLES)}")
    for key in _REFUSED_KEYS:
        if turn.get(key) not in (None, [], {}, ""):
            return _bad(row, "data.unsupported", f'turn {number}: the key "{key}" is not supported')
    content = _text(row, f"the content of turn {number} ({role})", turn.get("content"))
    return content if isinstance(content, Problem) else Message(role, content)


def _pair(row: Row, keys: dict[str, str], system: str | None) -> Pair | Problem:
    prompt = _text(row, f'"{keys["prompt"]}"', row.value[keys["prompt"]])
    if isinstance(prompt, Problem):
        return prompt
    answer = row.value[keys["completion"]]
    if answer is None or (isinstance(answer, str) and not answer.strip()):
        return _bad(row, "data.nothing-to-learn", f'"{keys["completion"]}" is empty, so nothing is learned')
    completion = _text(row, f'"{keys["completion"]}"', answer)
    if isinstance(completion, Problem):
        return completion
    own = row.value.get(keys["system"])
    if own is not None and not isinstance(own, str):
        return _bad(row, "data.type", f'"{keys["system"]}" must be a string, not {_shown(own)}')
    return Pair(row.place, prompt, completion, own if own and own.strip() else system, _group(row))


def _passage(row: Row, keys: dict[str, str]) -> Passage | Problem:
    text = row.value[keys["text"]]
    if isinstance(text, str) and not text.strip():
        return _bad(row, "data.nothing-to-learn", f'"{keys["text"]}" is empty, so nothing is learned')
    text = _text(row, f'"{keys["text"]}"', text)
    return text if isinstance(text, Problem) else Passage(row.place, text, _group(row))


def _text(row: Row, name: str, value: object) -> str | Problem:
    if not isinstance(value, str):
        return _bad(row, "data.type", f"{name} must be a string, not {_shown(value)}")
    return value if value.strip() else _bad(row, "data.empty-content", f"{name} is empty")


def _group(row: Row) -> str:
    group = row.value.get("group")
    return "" if group is None else str(group)


def _shapes(value: dict[str, Any], keys: dict[str, str]) -> list[Shape]:
    shapes: list[Shape] = ["messages"] if keys["messages"] in value else []
    if keys["prompt"] in value and keys["completion"] in value:
        shapes.append("prompt-completion")
    return [*shapes, "text"] if keys["text"] in value else shapes


def _mapped(shape: Shape, settings: DataSettings) -> bool:
    return bool({"prompt", "completion"} & set(settings.columns) if shape == "prompt-completion"
                else shape in settings.columns)  # fmt: skip


def _wanted(shape: Shape, keys: dict[str, str]) -> str:
    if shape == "prompt-completion":
        return f"keys {keys['prompt']} and {keys['completion']}"
    return f"key {keys[shape]}"


def _columns_problem(row: Row, keys: dict[str, str], shape: Shape | None) -> Problem:
    has = ", ".join(safe(key, 40) for key in list(row.value)[:20]) or "none"
    shapes: tuple[Shape, ...] = (shape,) if shape else ("messages", "prompt-completion", "text")
    what = f"the row has the columns {has}; needed: {' or '.join(f'the {_wanted(s, keys)}' for s in shapes)}"
    texts = [key for key, value in row.value.items() if isinstance(value, str)]
    names = (*texts, *("question", "answer")[len(texts) :]) if len(texts) < 2 else tuple(texts)
    fix = f"--set data.columns='{{prompt: {safe(names[0], 40)}, completion: {safe(names[1], 40)}}}'"
    return Problem("data.columns", what, str(row.place), _start(row), fix)


def _mixed_problem(form: Format, row: Row, shape: Shape) -> Problem:
    what = f"the file mixes shapes: row {form.first.place.line} is {form.shape}, row {row.place.line} is {shape}"
    evidence = f"{form.first.place}  {_start(form.first)}\n{row.place}  {_start(row)}"
    return Problem("data.mixed", what, str(row.place), evidence, "put each shape into a file of its own")


def _bad(row: Row, code: str, what: str) -> Problem:
    return Problem(code, what, str(row.place), _start(row), SKIP)


def _start(row: Row) -> str:
    return safe(repr(row.value), 100)


def _shown(value: object) -> str:
    return "missing" if value is None else safe(repr(value), 60)
