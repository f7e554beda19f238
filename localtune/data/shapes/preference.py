"""Two answers to one prompt, the first preferred, in the forms preference data has.

The prompt stands beside the answers, as a string, as turns or as an Anthropic dialogue (blank line, "Human: …", blank
line, "Assistant: …"); or it is what both conversations begin with. They must part at an answer: all before is the
prompt, of which nothing is learned. Turns of a dialogue are taken without the blanks around them.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from localtune.data.conversations import Message, Preference
from localtune.data.rows import Row
from localtune.data.shapes.conversation import Side, answered, as_turns, conversation, side
from localtune.data.shapes.pairs import asked
from localtune.data.shapes.turns import turns, unlearned
from localtune.data.shapes.values import Unusable, column, key, shown, text

_SPEAKER = re.compile(r"\n\n(Human|Assistant):")
_OPENING = re.compile(r"\n\nHuman:")


def from_preference(row: Row, columns: Mapping[str, str], system: str | None) -> Preference:
    """A row of the shape preference. Raises `Unusable`, naming the turn where the prompts part."""
    row, columns = _opened(row, columns)
    prompt = _prompt(row, columns)
    chosen, rejected = (_answer(row, columns, name, prompt) for name in ("chosen", "rejected"))
    if isinstance(prompt, str) and isinstance(chosen, str) and isinstance(rejected, str):
        if chosen == rejected:
            raise _same()
        sides = [answered(row, columns, prompt, answer, system) for answer in (chosen, rejected)]
        return Preference(row.place, sides[0], sides[1], sides[0].group)
    whole = [_whole(prompt, answer, name) for answer, name in ((chosen, "chosen"), (rejected, "rejected"))]
    at = _parting(whole[0], whole[1])
    both = [conversation(row, columns, (*unlearned(m[:at]), *m[at:]), system) for m in whole]
    return Preference(row.place, both[0], both[1], both[0].group)


def dialogue(written: str, *, answered: bool) -> tuple[Message, ...] | None:
    """The turns of "\\n\\nHuman: …\\n\\nAssistant: …"; None for other text.

    Not `answered`: it is a prompt, and may end where the answer begins. Raises `Unusable` for an empty turn.
    """
    if not _OPENING.match(written):
        return None
    parts = _SPEAKER.split(written)[1:]
    said = [(speaker, words.strip()) for speaker, words in zip(parts[::2], parts[1::2], strict=True)]
    if said[-1] == ("Assistant", "") and not answered:
        said.pop()
    for number, (speaker, words) in enumerate(said, start=1):
        text(words, f"turn {number} of the dialogue ({speaker})", learned=speaker == "Assistant")
    return tuple(Message("user" if speaker == "Human" else "assistant", words) for speaker, words in said)


def _prompt(row: Row, columns: Mapping[str, str]) -> Side | None:
    name = "prompt" if column(row, columns, "prompt") is not None else "messages"
    given = column(row, columns, name)
    if given is None:
        return None
    if isinstance(given, str) and (found := dialogue(given, answered=False)):
        return found
    return asked(row, columns) if name == "prompt" else turns(given, key(columns, name))


def _opened(row: Row, columns: Mapping[str, str]) -> tuple[Row, Mapping[str, str]]:
    """The row with messages and tools of its own: OpenAI keeps those of the prompt in an object."""
    given = column(row, columns, "prompt")
    if not isinstance(given, dict) or "messages" not in given:
        return row, columns
    value = {**row.value, columns["prompt"]: given["messages"]}
    return Row(row.place, {**value, "tools": given.get("tools")}), {**columns, "tools": "tools"}


def _answer(row: Row, columns: Mapping[str, str], name: str, prompt: Side | None) -> Side:
    value = row.value.get(columns[name])
    if isinstance(value, str) and (found := dialogue(value, answered=True)):
        return found
    answer = side(value, key(columns, name), learned=True)
    if prompt is None and isinstance(answer, str):
        what = f"{key(columns, name)} is an answer without a prompt: {shown(answer)}"
        raise Unusable("data.columns", f"{what}; needed: a column prompt, or whole conversations")
    return answer


def _whole(prompt: Side | None, answer: Side, name: str) -> tuple[Message, ...]:
    """Prompt and answer as one conversation. Raises `Unusable` when the answer brings another prompt of its own."""
    said = as_turns(answer, "assistant")
    if prompt is None:
        return said
    before = as_turns(prompt, "user")
    if said[0].role in ("assistant", "tool"):
        return (*before, *said)
    if isinstance(prompt, str):
        holds = any(turn.role == "user" and turn.content.strip() == prompt.strip() for turn in said)
    else:
        holds = _plain(said)[: len(before)] == _plain(before) or _plain(said)[1 : len(before) + 1] == _plain(before)
    if not holds:
        raise Unusable("data.preference", f"{name} is a conversation, and the prompt beside it is not in it")
    return said


def _parting(chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> int:
    """The turn, from 0, at which they differ: an answer in both. Raises `Unusable` otherwise."""
    one, two = _plain(chosen), _plain(rejected)
    at = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    if at == len(one) == len(two):
        raise _same()
    if at == min(len(one), len(two)):
        shorter = "chosen" if at == len(one) else "rejected"
        raise Unusable("data.preference", f"{shorter} ends before turn {at + 1}, where the other goes on")
    if not one[at].role == two[at].role == "assistant":
        what = f"the prompts of chosen and rejected part at turn {at + 1}"
        what += f": {shown(one[at].content, 50)} ({one[at].role}) and {shown(two[at].content, 50)} ({two[at].role})"
        raise Unusable("data.preference", what)
    if at == 0:
        raise Unusable("data.columns", "chosen and rejected have no prompt; needed: a column prompt, or turns before")
    return at


def _plain(messages: tuple[Message, ...]) -> list[Message]:
    """Without what does not tell two turns apart."""
    return [message if message.weight == 1.0 else replace(message, weight=1.0) for message in messages]


def _same() -> Unusable:
    return Unusable("data.preference", "chosen and rejected are the same, so there is nothing to prefer")
