"""Rows of one prompt and one answer: prompt-completion, alpaca, and an answer with a label (kto).

Strings on both sides are a `Pair`; turns on either side, tools or a history make a `Conversation`. An alpaca prompt is
instruction, newline, input: the frame of the Alpaca paper ("Below is an instruction …") was written for models without
a chat template and is left out.
"""

from collections.abc import Mapping

from localtune.data.conversations import Conversation, Labelled, Message, Pair
from localtune.data.rows import Row
from localtune.data.shapes.conversation import Side, answered, conversation, side
from localtune.data.shapes.turns import turns
from localtune.data.shapes.values import Unusable, column, json_value, key, optional_text, shown, text

_TRUTH = {"true": True, "false": False}


def from_prompt(row: Row, columns: Mapping[str, str], system: str | None) -> Conversation | Pair:
    """A row of the shape prompt-completion. Raises `Unusable`."""
    prompt = side(row.value.get(columns["prompt"]), key(columns, "prompt"), learned=False)
    answer = side(row.value.get(columns["completion"]), key(columns, "completion"), learned=True)
    return answered(row, columns, prompt, answer, system)


def from_alpaca(row: Row, columns: Mapping[str, str], system: str | None) -> Conversation | Pair:
    """A row of the shape alpaca; earlier questions and answers of a history come first. Raises `Unusable`."""
    prompt = instructed(row, columns)
    answer = text(row.value.get(columns["completion"]), key(columns, "completion"), learned=True)
    earlier = _history(column(row, columns, "history"))
    if not earlier:
        return answered(row, columns, prompt, answer, system)
    messages = (*earlier, Message("user", prompt), Message("assistant", answer))
    return conversation(row, columns, messages, system)


def from_labelled(row: Row, columns: Mapping[str, str], system: str | None) -> Labelled:
    """A row of the shape kto: the last answer is what the label speaks of. Raises `Unusable`."""
    label = row.value.get(columns["label"])
    wanted = truth(label)
    if wanted is None:
        what = f"{key(columns, 'label')} must be true or false (or 1 or 0), not {shown(label)}"
        raise Unusable("data.label", what)
    example = answered(row, columns, *_judged(row, columns), system)
    return Labelled(row.place, example, wanted, example.group)


def truth(label: object) -> bool | None:
    """What a label says: true, false, 1, 0, "true" or "false"; None for anything else."""
    if isinstance(label, str):
        return _TRUTH.get(label.strip().casefold())
    return bool(label) if isinstance(label, int) and label in (0, 1) else None


def asked(row: Row, columns: Mapping[str, str]) -> Side:
    """The prompt beside an answer that is judged: with its input, where it is a string that has one."""
    prompt = row.value.get(columns["prompt"])
    if isinstance(prompt, str) and columns.get("input", columns["prompt"]) != columns["prompt"]:
        return instructed(row, columns)
    return side(prompt, key(columns, "prompt"), learned=False)


def instructed(row: Row, columns: Mapping[str, str]) -> str:
    """The instruction, and the input below it where there is one. Raises `Unusable` when both are empty."""
    instruction = optional_text(row.value.get(columns["prompt"]), key(columns, "prompt"))
    given = optional_text(column(row, columns, "input"), key(columns, "input"))
    return f"{instruction}\n{given}" if instruction and given else instruction or text(given, key(columns, "prompt"))


def _judged(row: Row, columns: Mapping[str, str]) -> tuple[Side, Side]:
    """Prompt and answer of a labelled row."""
    if "completion" not in columns:
        return _split(turns(row.value.get(columns["messages"]), key(columns, "messages")))
    answer = side(row.value.get(columns["completion"]), key(columns, "completion"), learned=True)
    if column(row, columns, "prompt") is not None:
        return asked(row, columns), answer
    if isinstance(answer, str):
        raise Unusable("data.columns", f"the answer {key(columns, 'completion')} has no prompt beside it")
    return _split(answer)


def _split(messages: tuple[Message, ...]) -> tuple[Side, Side]:
    last = max((i for i, message in enumerate(messages) if message.role == "assistant"), default=-1)
    if last < 0:
        raise Unusable("data.nothing-to-learn", "the conversation has no assistant turn, so nothing is learned")
    return messages[:last], messages[last:]


def _history(value: object) -> tuple[Message, ...]:
    if isinstance(value, str) and value.strip():
        value = json_value(value, '"history"')
    if value in (None, "", []) or (isinstance(value, str) and not value.strip()):
        return ()
    if not isinstance(value, list):
        raise Unusable("data.history", f'"history" must be a list of [question, answer], not {shown(value)}')
    earlier: list[Message] = []
    for number, pair in enumerate(value, start=1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise Unusable("data.history", f"item {number} of the history is no [question, answer]: {shown(pair)}")
        earlier.append(Message("user", text(pair[0], f"question {number} of the history")))
        earlier.append(Message("assistant", text(pair[1], f"answer {number} of the history", learned=True)))
    return tuple(earlier)
