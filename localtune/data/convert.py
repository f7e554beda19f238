"""Rows of any kind in one of four plain forms, each of which is read back as what it says.

messages: turns, tools and labels, to the value (see `shapes.to_messages`). prompt-completion: one question and its
answer; longer conversations do not fit and are problems. text: what is said, prompt and answers on lines of their own
without any marks of roles, for training on plain text. chosen: the preferred answer of a pair, or a wanted one, as
messages for supervised training.
"""

from typing import Any, Literal, get_args

from localtune.data.check.written import text_of
from localtune.data.conversations import Conversation, Example, Infill, Labelled, Message, Pair, Passage, Preference
from localtune.data.shapes import to_messages
from localtune.errors import Problem

Form = Literal["messages", "prompt-completion", "text", "chosen"]
FORMS: tuple[Form, ...] = get_args(Form)


def converted(example: Example, form: Form) -> dict[str, Any] | Problem | None:
    """The row of `example` in `form`; a problem where it has none, None where it is to be left out (an unwanted
    answer among chosen ones)."""
    match form:
        case "messages":
            if isinstance(example, Passage | Infill):
                return _unfit(example, "is text without turns, so it cannot become messages", "--to text")
            return to_messages(example)
        case "prompt-completion":
            return _prompt_completion(example)
        case "text":
            return _grouped({"text": _text(example)}, example)
        case "chosen":
            return _chosen(example)


def _chosen(example: Example) -> dict[str, Any] | Problem | None:
    if isinstance(example, Preference):
        return to_messages(example.chosen)
    if isinstance(example, Labelled):
        return to_messages(example.example) if example.wanted else None
    return _unfit(example, "has no preferred answer", "--to messages")


def _prompt_completion(example: Example) -> dict[str, Any] | Problem:
    match example:
        case Pair(prompt=prompt, completion=completion, system=system):
            return _grouped(_sides(prompt, completion, system), example)
        case Conversation(messages=messages) if not example.tools and _is_pair(messages):
            *first, asked, answered = messages
            return _grouped(_sides(asked.content, answered.content, first[0].content if first else None), example)
        case Preference(chosen=chosen):
            return _prompt_completion(chosen)
        case Labelled(example=inner, wanted=wanted):
            made = _prompt_completion(inner)
            return made if isinstance(made, Problem) else made | {"label": wanted}
    what = "is not one question with one answer, so it has no prompt and completion"
    return _unfit(example, what, "--to messages")


def _sides(prompt: str, completion: str, system: str | None) -> dict[str, Any]:
    row = {"prompt": prompt, "completion": completion}
    return row | {"system": system} if system else row


def _is_pair(messages: tuple[Message, ...]) -> bool:
    roles = tuple(message.role for message in messages)
    plain = all(not message.calls and not message.reasoning and message.weight == 1.0 for message in messages)
    return plain and roles in (("user", "assistant"), ("system", "user", "assistant"))


def _text(example: Example) -> str:
    match example:
        case Preference(chosen=chosen):
            return _text(chosen)
        case Infill(prefix=prefix, suffix=suffix, middle=middle):
            return prefix + middle + suffix
    return text_of(example)


def _grouped(row: dict[str, Any], example: Example) -> dict[str, Any]:
    return row | {"group": example.group} if example.group else row


def _unfit(example: Example, what: str, fix: str) -> Problem:
    return Problem("data.convert", f"the row {what}", str(example.place), fix=fix)
