"""Bytes changed at places: what hypothesis, atheris and a seeded generator of our own all mutate seeds with."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

How = Literal["replace", "insert", "delete", "repeat", "cut", "swap"]
HOWS: tuple[How, ...] = get_args(How)
LONGEST = 1 << 14
"""Bytes of an input."""
PIECES = (
    *(b"", b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\n", b"\r", b"\r\n", b"\t", b" ", b"\x1b[2J", b"\x85"),
    *(b"[", b"]", b"{", b"}", b'"', b"'", b":", b",", b"\\", b"\\u0000", b"\\ud800", b"\\udc00", b"//", b"#", b"- "),
    *(b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"1e-5", b"9" * 40, b"9" * 4400, b"0x1f", b".5"),
    *(b"[" * 70, b'{"a":' * 70, b"[" * 1200, b"..", b"../../x", b"/etc/passwd", b"C:\\x", b"NUL", b"~", b"<|im_end|>"),
    *(b"&a [*a,*a]", b"*a", b"!!python/object/apply:os.system", b"<<:", b"|\n", b"%YAML 1.1\n", b"---\n", b"...\n"),
    *(b"{{", b"}}", b"{%", b"%}", b"{% for a in range(99999) %}", b"{% endfor %}", b"__class__", b"*10**9", b"|tojson"),
    *(b"\xff" * 8, b"\0" * 8, b"\x01\0\0\0\0\0\0\0", b"\xff\xff\xff\x7f", "안".encode(), "\u2028".encode(), b"{}"),
    *("\U0001f600".encode(), "\u202e".encode(), b"type", b"a", b"[]", b'["a"]', b'{"a":1}', b"4294967296", b'""'),
)  # fmt: skip
"""What parsers stumble over."""


@dataclass(frozen=True)
class Edit:
    """One change."""

    how: How
    at: float
    """Where, as a share of the length from 0 to 1."""
    size: int
    """Bytes that are changed, deleted or repeated."""
    piece: bytes
    """What is put there."""


def mutated(seed: bytes, edits: Iterable[Edit]) -> bytes:
    """`seed` after all `edits`, at most `LONGEST` bytes."""
    data = seed
    for edit in edits:
        start = int(edit.at * len(data))
        taken, rest = data[start : start + edit.size], data[start + edit.size :]
        changed = {
            "replace": edit.piece,
            "insert": edit.piece + taken,
            "delete": b"",
            "repeat": taken * 3,
            "cut": taken,
            "swap": taken[::-1],
        }[edit.how]
        data = (data[:start] + changed + (b"" if edit.how == "cut" else rest))[:LONGEST]
    return data


def random_input(seeds: Sequence[bytes], generator: random.Random) -> bytes:
    """A seed after a few random edits; sometimes one with the end of another."""
    data = generator.choice(seeds)
    if generator.random() < 0.1:
        other = generator.choice(seeds)
        data = data[: generator.randrange(len(data) + 1)] + other[generator.randrange(len(other) + 1) :]
    return mutated(data, [_edit(generator) for _ in range(generator.randint(1, 4))])


def _edit(generator: random.Random) -> Edit:
    piece = generator.choice(PIECES) if generator.random() < 0.6 else generator.randbytes(generator.randint(1, 4))
    return Edit(generator.choice(HOWS), generator.random(), min(int(generator.expovariate(0.2)), 60), piece)
