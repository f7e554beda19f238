"""How examples and segments cross a pipe: a JSON text and raw arrays, each with its length before it. No pickle.

Exact: what is read back equals what was written, to the value.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO, Any

import numpy as np

from localtune.batch import Segment
from localtune.data.conversations import (
    Conversation,
    Example,
    Infill,
    Labelled,
    Message,
    Pair,
    Passage,
    Preference,
    Role,
    ToolCall,
)
from localtune.data.messages import is_text
from localtune.data.parts import Tokenised
from localtune.data.rows import Place
from localtune.errors import Problem

_LENGTHS = struct.Struct("<QQ")


def send(pipe: IO[bytes], value: Any, raw: bytes = b"") -> None:
    """Write one message. Raises `OSError` when nobody reads."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    pipe.write(_LENGTHS.pack(len(text), len(raw)))
    pipe.write(text)
    pipe.write(raw)
    pipe.flush()


def receive(pipe: IO[bytes]) -> tuple[Any, bytes] | None:
    """The next message; None where the pipe ends."""
    lengths = pipe.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    of_text, of_raw = _LENGTHS.unpack(lengths)
    text, raw = pipe.read(of_text), pipe.read(of_raw)
    return (json.loads(text.decode("utf-8", "surrogatepass")), raw) if len(raw) == of_raw else None


def packed(example: Example) -> list[Any]:
    """`example` as a JSON value."""
    place = example.place
    head = [place.file, place.line, place.number, example.group]
    if isinstance(example, Conversation):
        return ["c", *head, packed_turns(example.messages), example.tools]
    if isinstance(example, Pair):
        return ["p", *head, example.prompt, example.completion, example.system]
    if isinstance(example, Passage):
        return ["t", *head, example.text]
    if isinstance(example, Infill):
        return ["i", *head, example.prefix, example.suffix, example.middle]
    if isinstance(example, Preference):
        return ["f", *head, packed(example.chosen), packed(example.rejected)]
    return ["l", *head, packed(example.example), example.wanted]


def unpacked(value: list[Any]) -> Example:
    """The example that was packed."""
    kind, file, line, number, group, *rest = value
    place = Place(file, line, number)
    if kind == "c":
        return Conversation(place, unpacked_turns(rest[0]), group, tuple(rest[1]))
    if kind == "p":
        return Pair(place, rest[0], rest[1], rest[2], group)
    if kind == "t":
        return Passage(place, rest[0], group)
    if kind == "i":
        return Infill(place, rest[0], rest[1], rest[2], group)
    if kind == "f":
        return Preference(place, unpacked(rest[0]), unpacked(rest[1]), group)  # type: ignore[arg-type]
    return Labelled(place, unpacked(rest[0]), rest[1], group)  # type: ignore[arg-type]


def packed_turns(messages: Sequence[Message]) -> list[Any]:
    """Turns as a JSON value."""
    return [[m.role, m.content] if m.weight == 1 and is_text(m) else _packed_turn(m) for m in messages]


def _packed_turn(m: Message) -> list[Any]:
    calls = [[call.name, call.arguments, call.id] for call in m.calls]
    return [m.role, m.content, m.reasoning, calls, m.name, m.call_id, m.weight]


def unpacked_turns(value: list[Any]) -> tuple[Message, ...]:
    """The turns that were packed."""
    return tuple(Message(turn[0], turn[1]) if len(turn) == 2 else _unpacked_turn(*turn) for turn in value)


def _unpacked_turn(
    role: Role, content: str, reasoning: str, calls: list[Any], name: str, call_id: str, weight: float
) -> Message:
    called = tuple(ToolCall(call[0], call[1], call[2]) for call in calls)
    return Message(role, content, reasoning, called, name, call_id, weight)


def packed_results(results: Sequence[Tokenised | Problem]) -> tuple[list[Any], bytes]:
    """What became of rows: a JSON value, and the tokens and then the weights of all their segments."""
    rows = [
        asdict(result) if isinstance(result, Problem) else [result.held, [len(s.tokens) for s in result.segments]]
        for result in results
    ]
    segments = [segment for result in results if isinstance(result, Tokenised) for segment in result.segments]
    arrays = [*(segment.tokens for segment in segments), *(segment.weights for segment in segments)]
    return rows, b"".join(array.data for array in arrays)


def unpacked_results(examples: Sequence[Example], rows: list[Any], raw: bytes) -> list[Tokenised | Problem]:
    """The same for `examples`. Segments are views of one block of memory, writable."""
    half = len(raw) // 2
    tokens = np.frombuffer(bytearray(raw[:half]), np.int32)
    weights = np.frombuffer(bytearray(raw[half:]), np.float32)
    results: list[Tokenised | Problem] = []
    start = 0
    for example, row in zip(examples, rows, strict=True):
        if isinstance(row, dict):
            results.append(Problem(**row))
            continue
        segments = []
        for length in row[1]:
            end = start + length
            segments.append(Segment(tokens[start:end], weights[start:end], example.place.id))
            start = end
        results.append(Tokenised(example.place, tuple(segments), row[0]))
    return results
