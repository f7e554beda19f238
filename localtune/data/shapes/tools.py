"""Functions that may be called, calls of them, and the forms these are written in.

A schema is kept to the value as chat templates want it, {"type": "function", "function": {"name": …}}; a bare
{"name": …, "parameters": …} is wrapped. A call is {"function": {"name", "arguments"}} as OpenAI writes it, or plain
{"name", "arguments"}; arguments are an object, or a string that writes one ("" and null are no arguments).
"""

from typing import Any

from localtune.data.conversations import ToolCall
from localtune.data.shapes.values import Unusable, json_value, optional_text, shown

_ARGUMENTS = ("arguments", "parameters")


def schemas(value: object, name: str) -> tuple[dict[str, Any], ...]:
    """Schemas in the column `name` (a quoted key): a list, or a string that writes one. Raises `Unusable`."""
    if isinstance(value, str):
        value = json_value(value, name) if value.strip() else None
    if value is None:
        return ()
    if isinstance(value, dict):
        value = [value] if value else []
    if not isinstance(value, list):
        raise Unusable("data.tools", f"{name} must be a list of functions, not {shown(value)}")
    return tuple(_schema(number, item) for number, item in enumerate(value, start=1))


def calls(value: object, where: str) -> tuple[ToolCall, ...]:
    """Calls in `tool_calls`, or in a turn that is a call: one or a list. Raises `Unusable`."""
    if isinstance(value, str):
        value = json_value(value, f"the call of {where}")
    items = value if isinstance(value, list) else [value]
    if not items:
        raise Unusable("data.tool-call", f"{where} calls nothing")
    return tuple(_call(item, where) for item in items)


def _schema(number: int, item: object) -> dict[str, Any]:
    if isinstance(item, str):
        item = json_value(item, f"tool {number}")
    if not isinstance(item, dict):
        raise Unusable("data.tools", f"tool {number} is no object with a name: {shown(item)}")
    wrapped = isinstance(item.get("function"), dict)
    name = (item["function"] if wrapped else item).get("name")
    if not isinstance(name, str) or not name.strip():
        raise Unusable("data.tools", f"tool {number} has no name: {shown(item)}")
    if wrapped:
        return item if "type" in item else {"type": "function", **item}
    return {"type": "function", "function": {key: part for key, part in item.items() if (key, part) != _KIND}}


_KIND = ("type", "function")
"""What some bare schemas say of themselves, as the wrapping says it."""


def _call(item: object, where: str) -> ToolCall:
    if not isinstance(item, dict):
        raise Unusable("data.tool-call", f"{where} calls {shown(item)}, which is no object with a name and arguments")
    kind = item.get("type")
    if kind not in (None, "function"):
        raise Unusable("data.unsupported", f"{where} makes a call of type {shown(kind)}; known: function")
    inner = item["function"] if isinstance(item.get("function"), dict) else item
    name = inner.get("name")
    if not isinstance(name, str) or not name.strip():
        raise Unusable("data.tool-call", f"{where} makes a call without a name: {shown(item)}")
    key = next((key for key in _ARGUMENTS if inner.get(key) is not None), "arguments")
    called_by = optional_text(item.get("id"), f"the id of a call in {where}")
    return ToolCall(name, _arguments(inner.get(key), f"{where}, call of {shown(name)}"), called_by)


def _arguments(value: object, where: str) -> dict[str, Any]:
    if value is None or (isinstance(value, str) and not value.strip()):
        return {}
    if isinstance(value, str):
        value = json_value(value, f"the arguments in {where}")
    if not isinstance(value, dict):
        raise Unusable("data.tool-call", f"{where}: arguments must be an object, not {shown(value)}")
    return value
