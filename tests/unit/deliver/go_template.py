"""Executes the part of Go's text/template that is written here, as Ollama does with a chat (template/template.go)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_WORD = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[()]|[^\s()"]+)')
_FUNCTIONS = {
    "eq": lambda a, b: a == b,
    "le": lambda a, b: a <= b,
    "len": len,
    "slice": lambda values, start: values[start:],
}


def prompt_of(template: str, messages: Sequence[Mapping[str, str]]) -> str:
    """What Ollama would send for `messages`: those of one role in a row are joined, system texts are also .System."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    joined: list[dict[str, str]] = []
    for message in messages:
        if joined and joined[-1]["Role"] == message["role"]:
            joined[-1]["Content"] += "\n\n" + message["content"]
        else:
            joined.append({"Role": message["role"], "Content": message["content"]})
    root = {"System": system, "Messages": joined}
    return _execute(_parse(template), root, {"$": root})


def _parse(template: str) -> list[Any]:
    """Texts, actions, and (kind, condition, body, otherwise)."""
    parts = re.split(r"\{\{(.*?)\}\}", template, flags=re.DOTALL)
    tokens = [(part.strip() if number % 2 else part, bool(number % 2)) for number, part in enumerate(parts)]
    assert not any(text.startswith("-") or text.endswith("-") for text, action in tokens if action)
    nodes, end = _block(tokens, 0)
    assert end == len(tokens), "an {{ end }} too many"
    return nodes


def _block(tokens: Sequence[tuple[str, bool]], at: int) -> tuple[list[Any], int]:
    nodes: list[Any] = []
    while at < len(tokens):
        text, action = tokens[at]
        if action and (text == "end" or text.startswith("else")):
            return nodes, at
        if action and text.split()[0] in ("if", "range"):
            node, at = _branch(tokens, at, text)
            nodes.append(node)
            continue
        nodes.append(("do" if action else "text", text))
        at += 1
    return nodes, at


def _branch(tokens: Sequence[tuple[str, bool]], at: int, opening: str) -> tuple[Any, int]:
    kind, _, condition = opening.partition(" ")
    body, at = _block(tokens, at + 1)
    text, otherwise = tokens[at][0], list[Any]()
    if text.startswith("else if"):
        node, at = _branch(tokens, at, text.removeprefix("else "))
        return (kind, condition, body, [node]), at
    if text == "else":
        otherwise, at = _block(tokens, at + 1)
    assert tokens[at][0] == "end"
    return (kind, condition, body, otherwise), at + 1


def _execute(nodes: Sequence[Any], dot: Any, names: dict[str, Any]) -> str:
    return "".join(_one(node, dot, names) for node in nodes)


def _one(node: Any, dot: Any, names: dict[str, Any]) -> str:
    if node[0] == "text":
        return str(node[1])
    if node[0] == "do":
        return str(_value(node[1], dot, names))
    kind, condition, body, otherwise = node
    if kind == "if":
        return _execute(body if _value(condition, dot, names) else otherwise, dot, names)
    left, _, right = condition.partition(":=")
    index, element = (name.strip() for name in left.split(","))
    values = _value(right, dot, names)
    return "".join(_execute(body, one, names | {index: number, element: one}) for number, one in enumerate(values))


def _value(text: str, dot: Any, names: dict[str, Any]) -> Any:
    words = _WORD.findall(text)
    value, rest = _call(words, dot, names)
    assert not rest
    return value


def _call(words: Sequence[str], dot: Any, names: dict[str, Any]) -> tuple[Any, Sequence[str]]:
    values = []
    while words and words[0] != ")":
        word, words = words[0], words[1:]
        if word == "(":
            value, words = _call(words, dot, names)
            words = words[1:]
        else:
            value = _term(word, dot, names)
        values.append(value)
    return (values[0](*values[1:]) if callable(values[0]) else values[0]), words


def _term(word: str, dot: Any, names: dict[str, Any]) -> Any:
    if word in _FUNCTIONS:
        return _FUNCTIONS[word]
    if word.startswith('"'):
        return word[1:-1]
    if word.isdecimal():
        return int(word)
    head, _, fields = word.partition(".")
    value = names[head] if head else dot
    for field in filter(None, fields.split(".")):
        value = value[field]
    return value
