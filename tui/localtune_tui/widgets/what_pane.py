"""The upper left of the New screen: data, model, name, preset, what is learned, and the file to chat with."""

from collections.abc import Mapping
from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from localtune import recipe
from localtune_tui.draft import Draft
from localtune_tui.forms import field_of
from localtune_tui.planned import data_said, model_said
from localtune_tui.presets import DEFAULT, PRESETS
from localtune_tui.text import plain
from localtune_tui.widgets.field import Field

NONE = "none"
"""No GGUF file."""
_WIDTH = 8


class WhatPane(Vertical):
    """What most runs differ in."""

    DEFAULT_CSS = """
    WhatPane { height: auto; }
    WhatPane .fact { height: 1; text-style: dim; padding: 0 0 0 9; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def compose(self) -> ComposeResult:
        """The lines, two of them with what is known of their value below."""
        settings = {setting.key: setting for setting in recipe.fields()}
        learn, gguf = field_of(settings["train.learn"]), settings["export.gguf"]
        yield Field("data", "Data", "pick", width=_WIDTH, sentence="data: Enter finds a file of examples (data.train)")
        yield Static(id="data-fact", classes="fact")
        yield Field(
            "model", "Model", "pick", width=_WIDTH, sentence="model: Enter finds one, here or on the hub (model)"
        )
        yield Static(id="model-fact", classes="fact")
        yield Field("name", "Name", width=_WIDTH, sentence=field_of(settings["name"]).help)
        yield Field("preset", "Preset", "choice", choices=tuple(PRESETS), value=DEFAULT, width=_WIDTH)
        yield Static(id="preset-fact", classes="fact")
        yield Field(learn.key, "Learn", "choice", choices=learn.choices, width=_WIDTH, sentence=learn.help)
        kinds = (NONE, *gguf.schema["items"]["enum"])
        yield Field(gguf.key, "GGUF", "choice", choices=kinds, width=_WIDTH, sentence=field_of(gguf).help)

    def on_mount(self) -> None:
        """Name it."""
        self.border_title = "what"

    def put(self, draft: Draft, values: Mapping[str, str]) -> None:
        """Show `draft`; `values`: what its run would have, as far as it is known."""
        shown = {
            "data": draft.data or values.get("data.train", ""),
            "model": draft.model or values.get("model", ""),
            "name": values.get("name", ""),
            "preset": draft.preset,
            "train.learn": values.get("train.learn", "answers"),
            "export.gguf": _kind(values.get("export.gguf", "[]")),
        }
        for field in self.query(Field):
            field.put(shown[field.key])
        preset = PRESETS.get(draft.preset)
        said = f"{preset.sentence}: {preset.shown}" if preset else "as the recipe says"
        self.query_one("#preset-fact", Static).update(plain(said), layout=False)
        self.query_one("#field-preset", Field).sentence = said

    def tell(self, plan: Mapping[str, Any] | None, tick: str) -> None:
        """What the plan knows of data and model; None where there is no plan."""
        known = plan if plan is not None and "report" in plan else None
        self.query_one("#data-fact", Static).update(plain(data_said(known) if known else ""), layout=False)
        self.query_one("#model-fact", Static).update(plain(model_said(known) if known else ""), layout=False)
        for name in ("data", "model"):
            self.query_one(f"#field-{name}", Field).note = tick if known else ""


def gguf_text(kind: str) -> str:
    """The setting for a chosen kind of file."""
    return "[]" if kind == NONE else f"[{kind}]"


def _kind(text: str) -> str:
    """The choice that the setting `text` shows as; several kinds as they are written."""
    return text.strip("[]") or NONE
