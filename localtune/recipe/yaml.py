"""YAML 1.2 as a recipe may use it: mappings, lists and scalars, every key and value with its line and column.

ruamel.yaml tokenises; nothing is ever constructed by it. Refused: aliases, anchors, tags, directives, duplicate keys,
several documents, more than 256 KB, nesting deeper than 16, bytes that are not UTF-8, control characters. Scalars
resolve by the core schema of YAML 1.2.2 (section 10.3.2): `1e-4` is a number, `no` is text, `010` is ten. Lines and
columns count from 1.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from localtune.errors import InputError, Problem

LIMIT = 256 * 1024
"""Bytes of a document."""
DEPTH = 16
"""Mappings and lists inside each other."""
VALUES = 10_000
"""Values in a document; a recipe has about fifty."""

Path = tuple[str | int, ...]
"""Keys and list positions from the root."""
Place = tuple[int, int]
"""Line and column."""


@dataclass(frozen=True)
class Document:
    """What a text says, and where."""

    name: str
    """Of the file, for messages."""
    value: Any
    """dict, list, str, int, float, bool or None; keys are text as written."""
    keys: Mapping[Path, Place] = field(default_factory=dict)
    """Where each key of a mapping stands."""
    values: Mapping[Path, Place] = field(default_factory=dict)
    """Where each value starts."""
    problems: tuple[Problem, ...] = ()
    """Duplicate keys: the first value counts."""

    def where(self, path: Path, *, key: bool = False) -> str:
        """`file:line:column` of the value (or key) at `path`, or of the nearest thing around it."""
        places = self.keys if key else self.values
        while path and path not in places:
            path = path[:-1]
        place = places.get(path)
        return f"{self.name}:{place[0]}:{place[1]}" if place else self.name


def read(data: bytes, name: str) -> Document:
    """The document in `data`. Raises `InputError` (codes recipe.size, .encoding, .control-character, .yaml)."""
    text = _decode(data, name)
    try:
        return _Builder(text, name).document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        _refuse(text, name, place, f"not valid YAML: {error.problem or error.context or 'cannot be read'}")
    except (YAMLError, ValueError, OverflowError) as error:
        _refuse(text, name, (1, 1), f"not valid YAML: {error}")


def read_value(text: str, name: str) -> Document:
    """One value as a command line gives it: a flow list or mapping, a quoted text, or a plain scalar.

    Anything that does not start with `[`, `{` or a quote is one scalar as it stands, so `Answer: #1` needs no quotes.
    """
    data = text.strip().encode("utf-8", "surrogatepass")  # bytes that are no UTF-8, as those of the shell were not
    try:
        value = read(data, name).value if data[:1] in (b"[", b"{", b'"', b"'") else resolve(_decode(data, name))
    except InputError as error:
        raise InputError(*(replace(problem, where=name, evidence="") for problem in error.problems)) from None
    return Document(name, value)


_NULL = ("", "~", "null", "Null", "NULL")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,30}")
_OCTAL, _HEXADECIMAL = re.compile(r"0o[0-7]{1,30}"), re.compile(r"0x[0-9a-fA-F]{1,30}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,400}|[0-9]{1,400}(\.[0-9]{0,400})?)([eE][-+]?[0-9]{1,9})?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def resolve(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar by the core schema. Integers beyond 30 digits stay text."""
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        return int(text[2:], 8 if text[1] == "o" else 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _INFINITE.fullmatch(text) else text


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")


def _decode(data: bytes, name: str) -> str:
    if len(data) > LIMIT:
        raise InputError(Problem("recipe.size", f"is larger than 256 KB ({len(data):,} bytes)", name))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"not UTF-8: byte 0x{data[error.start]:02x} cannot stand here"
        raise InputError(Problem("recipe.encoding", what, f"{name}:{line}", fix="save the file as UTF-8")) from None
    match = _CONTROL.search(text)
    if match:
        line = text.count("\n", 0, match.start()) + 1
        column = match.start() - text.rfind("\n", 0, match.start())
        what = f"control character U+{ord(match.group()):04X}"
        fix = "remove it, or write it as an escape in a double-quoted text"
        raise InputError(Problem("recipe.control-character", what, f"{name}:{line}:{column}", fix=fix))
    return text


def _refuse(text: str, name: str, place: Place, what: str) -> NoReturn:
    lines = text.splitlines()
    line = lines[place[0] - 1] if place[0] <= len(lines) else ""
    evidence = f"{place[0]} | {line[:160]}" if line.strip() and place[1] <= 160 else ""
    raise InputError(Problem("recipe.yaml", what, f"{name}:{place[0]}:{place[1]}", evidence)) from None


class _Builder:
    """Reads the events of one document into values and places, refusing what a recipe may not use."""

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name
        self.events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}
        self.problems: list[Problem] = []

    def document(self) -> Document:
        self._next(StreamStartEvent)
        event = next(self.events)
        if isinstance(event, StreamEndEvent):
            return Document(self.name, None)
        if event.version or event.tags:
            self._refuse(event, "a recipe may hold no % directives")
        value = self._value(next(self.events), ())
        self._next(DocumentEndEvent)
        after = next(self.events)
        if isinstance(after, DocumentStartEvent):
            self._refuse(after, "a second document starts here; a recipe is one")
        return Document(self.name, value, self.keys, self.values, tuple(self.problems))

    def _next(self, kind: type) -> None:
        event = next(self.events)
        if not isinstance(event, kind):
            self._refuse(event, "not valid YAML here")

    def _value(self, event: Any, path: Path) -> Any:
        if isinstance(event, AliasEvent) or event.anchor is not None:
            self._refuse(event, "anchors (&) and aliases (*) are not allowed; write the value out, or quote the text")
        if event.tag is not None:
            self._refuse(event, "tags (!) are not allowed; remove it, or quote the text")
        self.values[path] = _place(event)
        if len(self.values) > VALUES:
            self._refuse(event, f"more than {VALUES:,} values")
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        if len(path) >= DEPTH:
            self._refuse(event, f"nested deeper than {DEPTH}")
        return self._mapping(path) if isinstance(event, MappingStartEvent) else self._sequence(path)

    def _scalar(self, event: Any) -> str | int | float | bool | None:
        return resolve(event.value) if event.implicit[0] else self._text(event)

    def _text(self, event: Any) -> str:
        """Escapes may spell one character as two halves, as JSON does; a half alone is none."""
        try:
            return str(event.value.encode("utf-16", "surrogatepass").decode("utf-16"))
        except UnicodeDecodeError:
            self._refuse(event, "half a character: \\ud800 to \\udfff come in pairs")

    def _mapping(self, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            key = self._key(event)
            where = (*path, key)
            if key in found:
                self._note_duplicate(event, where)
                self._value(next(self.events), (*where, "duplicate"))
            else:
                self.keys[where] = _place(event)
                found[key] = self._value(next(self.events), where)
        return found

    def _sequence(self, path: Path) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(self.events), SequenceEndEvent):
            found.append(self._value(event, (*path, len(found))))
        return found

    def _key(self, event: Any) -> str:
        if not isinstance(event, ScalarEvent) or event.anchor is not None or event.tag is not None:
            self._refuse(event, "a key must be a plain word")
        return self._text(event)

    def _note_duplicate(self, event: Any, path: Path) -> None:
        first = self.keys[path][0]
        what = f"{'.'.join(map(str, path))} is given twice; the first is on line {first}"
        line, column = _place(event)
        where = f"{self.name}:{line}:{column}"
        self.problems.append(Problem("recipe.duplicate-key", what, where, fix="keep one of them"))

    def _refuse(self, event: Any, what: str) -> NoReturn:
        _refuse(self.text, self.name, _place(event), what)


def _place(event: Any) -> Place:
    return event.start_mark.line + 1, event.start_mark.column + 1


_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./@%+-]*(?: [A-Za-z0-9_./@%+-]+)*")


def write_value(value: object) -> str:
    """One line of flow YAML that `read` reads back as `value`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{write_value(str(key))}: {write_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(write_value(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    return text if _PLAIN.fullmatch(text) and isinstance(resolve(text), str) else _quoted(text)


def _quoted(text: str) -> str:
    return '"' + "".join(_escape(character) for character in text) + '"'


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character == " " or character.isprintable():
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
