"""The form of a recipe's settings, made of their declarations: none is written down a second time.

A field knows its recipe key, the words people read, the kind of line it is, its default and its sentence. Its value is
text in YAML, exactly what `--set KEY=` takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from localtune import recipe
from localtune.recipe.words import Setting
from localtune.recipe.yaml import write_value

Kind = Literal["text", "choice", "switch"]
ELSEWHERE = ("version", "name", "model", "data.train", "train.learn", "export.gguf")
"""Settings that the page shows above the form."""


@dataclass(frozen=True)
class FormField:
    """One setting as a line of a form."""

    key: str
    """Dotted, such as "train.learning_rate"."""
    label: str
    """The key's own part in words: "learning rate"."""
    kind: Kind
    choices: tuple[str, ...]
    """What a choice chooses from, else empty."""
    default: str
    """As YAML text."""
    sentence: str
    expected: str
    """Type and bounds in words."""

    @property
    def help(self) -> str:
        """The line below the form while this field has the focus."""
        return f"{self.label}: {self.sentence}  ({self.key}; default {self.default}; {self.expected})"


@cache
def form() -> Mapping[str, tuple[FormField, ...]]:
    """Section -> its fields, in the order of the declarations; settings without a section come as "run"."""
    sections: dict[str, list[FormField]] = {}
    for setting in recipe.fields():
        if setting.key not in ELSEWHERE:
            section = setting.key.partition(".")[0] if "." in setting.key else "run"
            sections.setdefault(section, []).append(field_of(setting))
    order = sorted(sections, key=lambda name: name == "run")  # what everybody has one of comes last
    return {name: tuple(sections[name]) for name in order}


def field_of(setting: Setting) -> FormField:
    """The line of one setting."""
    choices = tuple(map(str, setting.schema.get("enum", ())))
    kind: Kind = "switch" if setting.schema.get("type") == "boolean" else "choice" if choices else "text"
    label = setting.key.rpartition(".")[2].replace("_", " ")
    default = "" if setting.required else write_value(setting.default)
    return FormField(setting.key, label, kind, choices, default, setting.sentence, setting.kind)


def values_of(loaded: recipe.Loaded) -> dict[str, str]:
    """Dotted key -> the value a run would have, as YAML text."""
    return {setting.key: write_value(_value(loaded.recipe, setting.key)) for setting in recipe.fields()}


def summary(fields: tuple[FormField, ...], values: Mapping[str, str], most: int = 4) -> str:
    """A closed section on one line: what is not at its default first, then the rest."""
    changed = [field for field in fields if values.get(field.key, field.default) != field.default]
    rest = [field for field in fields if field not in changed]
    shown = [f"{field.label} {values.get(field.key, field.default)}" for field in [*changed, *rest][:most]]
    return " · ".join(shown) + (" · …" if len(fields) > most else "")


def _value(found: Any, key: str) -> Any:
    for part in key.split("."):
        found = getattr(found, part)
    return found
