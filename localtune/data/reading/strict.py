"""JSON read strictly, and nothing else than what the text says.

NaN, Infinity, numbers that overflow, keys given twice, NUL characters and lone surrogates are faults, as are numbers
beyond what Python reads, nesting beyond `DEPTH` and more than `VALUES` values, which would take a hundred times the
memory of their text. The decoder is made once: making one for each row costs more than reading it.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Never

from localtune.model.json_object import is_deeper, unique

DEPTH = 64
"""Objects and lists inside each other; what rows honestly nest is a dozen deep."""
VALUES = 1_000_000
"""Values and keys of one row, counted generously: by separators outside of text, and brackets."""
TOO_DEEP, TOO_MANY = "nested too deeply", f"more than {VALUES:,} values in one row"
_FEW = 2**18
"""Characters, in which there is no room for too many values."""
_DIGITS = 4300
"""Of a number that Python reads."""
_STRING = re.compile(r'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
"""A string, or what of one there is: looking for the end of one that has none must not begin again at each quote."""
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|(-?Infinity|NaN)|(-?[0-9]++)', re.DOTALL)


@dataclass(frozen=True)
class Fault:
    """Why a text is not the JSON that is read."""

    what: str
    at: int | None = None
    """Index into the text."""


def parse(text: str) -> Any | Fault:
    """The value of the whole of `text`."""
    if too_many(text):
        return Fault(TOO_MANY)
    try:
        value = _whole(text)
    except json.JSONDecodeError as error:
        return Fault(f"not JSON: {error.msg.lower().removesuffix(' at')}", error.pos)
    except RecursionError:
        return Fault(TOO_DEEP)
    except ValueError as error:
        return explained(error, text)
    if too_deep(text, value):
        return Fault(TOO_DEEP)
    escaped = "\\" in text and "\\u" in text  # one character is found many times faster than two
    return Fault(fault) if escaped and (fault := bad_text(value)) else value


def too_many(text: str) -> bool:
    """Whether `text` may hold more than `VALUES` values; strings, which cost time to find, are left out if need be."""
    return len(text) > _FEW and _separators(text) > VALUES and _separators(_STRING.sub("", text)) > VALUES


def _separators(text: str) -> int:
    return sum(map(text.count, ",:[{"))


def too_deep(text: str, value: Any) -> bool:
    """Whether `value`, which `text` writes, is nested deeper than `DEPTH`; most rows have fewer brackets at all."""
    return text.count("[") + text.count("{") > DEPTH and is_deeper(value, DEPTH)


def _whole(text: str) -> Any:
    """As `STRICT.decode`, without its two searches for blanks where there are none."""
    try:
        value, end = STRICT.raw_decode(text)
    except json.JSONDecodeError:
        return STRICT.decode(text)
    return value if end == len(text) else STRICT.decode(text)


def explained(error: ValueError, text: str) -> Fault:
    """What `STRICT` refused in `text`, which is JSON otherwise."""
    if "digits" in str(error) or "is no JSON number" in str(error):
        found = next((match for match in _TOKEN.finditer(text) if match[1] or len(match[2] or "") > _DIGITS), None)
        if found and found[2]:
            return Fault(f"a number with {len(found[2].lstrip('-')):,} digits", found.start())
        return Fault(f"not JSON: {error}", found.start() if found else None)
    return Fault(f"not JSON that can be read: {error}")


def bad_text(value: Any) -> str:
    """What is wrong with a string anywhere in `value`, or ""."""
    if isinstance(value, str):
        if "\0" in value:
            return "a string holds the NUL character \\u0000"
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return "a string holds half a surrogate pair"
        return ""
    if isinstance(value, dict):
        for key, inner in value.items():
            if fault := bad_text(key) or bad_text(inner):
                return fault
    elif isinstance(value, list):
        for inner in value:
            if fault := bad_text(inner):
                return fault
    return ""


def not_an_object(value: Any) -> str:
    """The sentence for a row that is JSON but no object."""
    kind = {list: "a list", str: "a string", type(None): "null"}.get(type(value), "a number or truth value")
    return f"a row is a JSON object such as {{…}}, this is {kind}"


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is no JSON number")


def _finite(number: str) -> float:
    value = float(number)
    if math.isinf(value):
        raise ValueError(f"{number[:40]} is larger than a number can be")
    return value


STRICT = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=unique)
LENIENT = json.JSONDecoder(parse_int=str, parse_float=str)
"""For where a value ends whose content `STRICT` refuses."""
