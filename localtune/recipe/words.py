"""Every setting as people read it: key, type and bounds in words, default, one sentence.

All of it comes from the declarations in `settings.py`; the JSON Schema, the README's table, the comments of a starter
recipe and the words of an error message are four views of the same list.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from localtune.recipe.yaml import write_value
from localtune.settings import Recipe

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """One setting of a recipe."""

    key: str
    """Dotted, such as "train.epochs"."""
    kind: str
    """Type and bounds in words: "a number above 0 and at most 1000"."""
    required: bool
    default: Any
    """None where required."""
    sentence: str
    schema: Schema
    """Its JSON Schema, with choices and bounds, for forms."""

    @property
    def expected(self) -> str:
        """`kind` with an example, where the default is one."""
        numeric = isinstance(self.default, int | float) and not isinstance(self.default, bool)
        return f"{self.kind}, such as {self.default:g}" if numeric and self.schema.get("const") is None else self.kind


@cache
def fields() -> tuple[Setting, ...]:
    """Every setting in the order of the declarations."""
    return tuple(_settings(Recipe, schema()["$defs"], schema()["properties"], ""))


@cache
def sections() -> Mapping[str, str]:
    """Dotted name -> sentence of every group of settings."""
    return dict(_sections(Recipe, ""))


@cache
def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a recipe file, for editors. Treat it as read-only."""
    found = Recipe.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"], found["description"] = "localtune recipe", "One fine-tune, from data to adapter."
    for group in (found, *found["$defs"].values()):
        for key, declared in group["properties"].items():
            declared["title"] = key.replace("_", " ")
    return found


def settings_table() -> str:
    """A Markdown table of every setting: key, type, default, meaning."""
    rows = ["| setting | type | default | meaning |", "| --- | --- | --- | --- |"]
    for setting in fields():
        default = "required" if setting.required else f"`{write_value(setting.default)}`"
        cells = (f"`{setting.key}`", setting.kind, default, setting.sentence)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def words(declared: Schema) -> str:
    """A JSON Schema in words: "a whole number from 8 to 1048576"."""
    if "enum" in declared:
        return "one of " + ", ".join(map(str, declared["enum"]))
    if "const" in declared:
        return str(declared["const"])
    if "anyOf" in declared:
        return " or ".join(branch.get("description") or " or ".join(_choices(branch)) for branch in declared["anyOf"])
    plain = {"boolean": "true or false", "null": "null"}
    kind = declared.get("type", "")
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _bounds(declared)
    if kind == "array":
        return f"a list of {words(declared['items'])}" + _most(declared, "maxItems", " entries")
    if kind == "object":
        names = ", ".join(declared.get("propertyNames", {}).get("enum", ()))
        return f"a mapping from any of {names} to {words(declared['additionalProperties'])}"
    return plain.get(kind, "text on one line, not empty" if "pattern" in declared else "text")


def _choices(declared: Schema) -> list[str]:
    return declared.get("enum") or [words(declared)]


def _bounds(declared: Schema) -> str:
    least, most = declared.get("minimum"), declared.get("maximum")
    above, below = declared.get("exclusiveMinimum"), declared.get("exclusiveMaximum")
    low = f" above {above}" if above is not None else ""
    if least is not None:
        low = f" of at least {least}" if most is None and below is None else f" from {least}"
    high = f"to below {below}" if below is not None else f"to {most}" if least is not None else f"and at most {most}"
    return f"{low} {high}" if (most, below) != (None, None) else low


def _most(declared: Schema, key: str, unit: str) -> str:
    return f", at most {declared[key]}{unit}" if key in declared else ""


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _settings(model: type[BaseModel], defs: Schema, declared: Schema, prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        group = _section(field)
        if group is not None:
            yield from _settings(group, defs, defs[group.__name__]["properties"], f"{prefix}{name}.")
            continue
        required = field.is_required()
        default = None if required else field.get_default(call_default_factory=True, validated_data={})
        kind = words(declared[name])
        yield Setting(prefix + name, kind, required, default, field.description or "", declared[name])


def _sections(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        group = _section(field)
        if group is not None:
            yield prefix + name, field.description or group.__doc__ or ""
            yield from _sections(group, f"{prefix}{name}.")
