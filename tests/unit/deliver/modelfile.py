"""Reads a Modelfile by Ollama's grammar (parser/parser.go), rune by rune, with its quirks."""

import unicodedata

COMMANDS = {"from", "license", "template", "system", "adapter", "draft", "renderer", "parser", "parameter", "message",
            "requires"}  # fmt: skip


class Unreadable(Exception):
    """Ollama would refuse it."""


def parse(text: str) -> list[tuple[str, str]]:
    """Commands and parameters with their values, in order."""
    found: list[tuple[str, str]] = []
    state, name, buffer = "nil", "", ""
    for char in text:
        if state == "nil":
            if char == "#":
                state = "comment"
            elif char not in " \t\r\n":
                state, buffer = "name", char
        elif state == "comment":
            state = "nil" if char in "\r\n" else state
        elif state in ("name", "parameter"):
            if char in " \t":
                state, name = _named(state, buffer)
                buffer = ""
            elif char.isascii() and (char.isalpha() or (state == "parameter" and (char.isdigit() or char == "_"))):
                buffer += char
            else:
                raise Unreadable(f"{buffer}{char!r}")
        else:
            value = _unquoted(buffer.strip())
            if char in "\r\n" and value is not None:
                found.append((name, value))
                state, buffer = "nil", ""
            elif char in " \t\r\n" or _is_printed(char):
                buffer += char
    if state == "value":
        value = _unquoted(buffer.strip())
        if value is None:
            raise Unreadable("a quote is open at the end")
        found.append((name, value))
    elif state not in ("nil", "comment"):
        raise Unreadable("ends in a command")
    if "from" not in dict(found):
        raise Unreadable("no FROM line")
    return found


def _named(state: str, buffer: str) -> tuple[str, str]:
    if state == "parameter":
        return "value", buffer
    if buffer.lower() not in COMMANDS:
        raise Unreadable(buffer)
    return ("parameter", "") if buffer.lower() == "parameter" else ("value", buffer.lower())


def _unquoted(text: str) -> str | None:
    if text.startswith('"""'):
        return text[3:-3] if len(text) >= 6 and text.endswith('"""') else None
    if text.startswith('"'):
        return text[1:-1] if len(text) >= 2 and text.endswith('"') else None
    return text


def _is_printed(char: str) -> bool:
    return char == " " or unicodedata.category(char)[0] in "LMNPS"
