"""What an example says, as text: all of it, what is asked, and keys by which equal examples are found.

Two examples are equal when their normal form is: roles, contents, reasoning, calls, answers and labels, after Unicode's
NFC. Keys are 64-bit BLAKE2b hashes: among five million rows two different ones meet with a chance below one in a
million.
"""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from localtune.data.conversations import (
    Conversation,
    Example,
    Infill,
    Labelled,
    Message,
    Pair,
    Passage,
    Preference,
)

_PART, _TURN = "\x1f", "\x1e"


def text_of(example: Example) -> str:
    """All text of `example`, its parts on lines of their own."""
    return "\n".join(_parts(example))


def answer_of(example: Example) -> str:
    """What is learned last: the last answer, the completion, the passage, the preferred answer, the middle."""
    match example:
        case Conversation(messages=messages):
            return next((m.content for m in reversed(messages) if m.role == "assistant"), "")
        case Pair(completion=completion):
            return completion
        case Passage(text=text):
            return text
        case Preference(chosen=chosen):
            return answer_of(chosen)
        case Labelled(example=inner):
            return answer_of(inner)
        case Infill(middle=middle):
            return middle


def keys_of(example: Example) -> tuple[int, int]:
    """Key of the whole example, and of what is asked before its last answer; 0 where nothing is asked."""
    asked, answered = _asked_and_answered(example)
    return _key(asked + answered), _key(asked) if asked else 0


def _asked_and_answered(example: Example) -> tuple[str, str]:
    match example:
        case Conversation(messages=messages):
            last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=len(messages))
            asked = _turns(messages[:last]) if any(m.role == "user" for m in messages[:last]) else ""
            return asked, _turns(messages[0 if not asked else last :])
        case Pair(prompt=prompt, completion=completion, system=system):
            before = f"system{_PART}{system}{_TURN}" if system else ""
            return f"{before}user{_PART}{prompt}{_TURN}", f"assistant{_PART}{completion}{_TURN}"
        case Passage(text=text):
            return "", text
        case Preference(chosen=chosen, rejected=rejected):
            asked, answered = _asked_and_answered(chosen)
            return asked, answered + _PART + "".join(_asked_and_answered(rejected))
        case Labelled(example=inner, wanted=wanted):
            asked, answered = _asked_and_answered(inner)
            return asked, f"{answered}{_PART}{wanted}"
        case Infill(prefix=prefix, suffix=suffix, middle=middle):
            return f"{prefix}{_PART}{suffix}{_TURN}", middle


def _turns(messages: Sequence[Message]) -> str:
    return "".join(map(_turn, messages))


def _turn(message: Message) -> str:
    more = ""
    if message.reasoning or message.calls:
        calls = [(call.name, call.arguments) for call in message.calls]
        more = _PART + message.reasoning + _PART + json.dumps(calls, sort_keys=True, default=str)
    return f"{message.role}{_PART}{message.content}{more}{_TURN}"


def _key(text: str) -> int:
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _parts(example: Example) -> Iterable[str]:
    match example:
        case Conversation(messages=messages):
            for message in messages:
                if message.reasoning:
                    yield message.reasoning
                yield message.content
                for call in message.calls:
                    yield json.dumps(call.arguments, ensure_ascii=False, default=str)
        case Pair(prompt=prompt, completion=completion, system=system):
            yield from (system, prompt, completion) if system else (prompt, completion)
        case Passage(text=text):
            yield text
        case Preference(chosen=chosen, rejected=rejected):
            yield from _parts(chosen)
            yield answer_of(rejected)
        case Labelled(example=inner):
            yield from _parts(inner)
        case Infill(prefix=prefix, suffix=suffix, middle=middle):
            yield from (prefix, middle, suffix)
