"""What shall be mended in the data, and the file the clean copy goes into. The data itself is never changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Button, Static

from localtune_tui.modals.confirm import Dialog
from localtune_tui.text import plain
from localtune_tui.widgets.field import Field

KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "bad": ("leave out rows that cannot be used", ("unusable", "mixed")),
    "empty": ("leave out rows with an empty turn or nothing to learn", ("empty", "no-target")),
    "leak": ("leave out training rows that validation or test rows repeat", ("leak",)),
    "dup": ("keep the first of rows that are the same", ("duplicate",)),
    "near": ("keep the first of rows that are nearly the same", ("near-duplicate",)),
    "nfc": ("write accents as one character (NFC)", ("not-nfc",)),
}
"""What `localtune data check --fix` can mend -> what it does, and the codes of the findings it ends."""


@dataclass(frozen=True)
class Fix:
    """What to do."""

    kinds: tuple[str, ...]
    output: str
    """The file of the clean copy."""


class FixData(Dialog[Fix]):
    """Comes back with a `Fix`, or None."""

    HELP = "Space switches what is mended, Enter on the last line types another file name. The data stays as it is."
    DEFAULT_CSS = "FixData #dropped { height: auto; }"

    def __init__(self, found: Mapping[str, int], output: str) -> None:
        """`found`: code of a finding -> rows; what was found is switched on."""
        super().__init__()
        self._found, self._output = found, output

    def body(self) -> ComposeResult:
        """A switch for each kind, the file, and the buttons."""
        yield Static(plain("Write a clean copy").stylize("bold"))
        for kind, (does, codes) in KINDS.items():
            rows = sum(self._found.get(code, 0) for code in codes)
            value = "true" if rows and kind != "near" else "false"
            field = Field(kind, f"{does} ({rows:,})" if rows else does, "switch", value=value, width=60)
            field.sentence = does
            yield field
        yield Field("output", "into", value=self._output, width=6, sentence="the file of the clean copy")
        yield Static(plain("Rows that are left out go into a file beside it, each with its reason."), id="dropped")
        with Horizontal(classes="choices"):
            yield Button("Cancel", id="cancel", compact=True)
            yield Button("Write", id="write", variant="primary", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Come back."""
        if event.button.id == "cancel":
            self.dismiss(None)
            return
        values = {field.key: field.value for field in self.query(Field)}
        kinds = tuple(kind for kind in KINDS if values[kind] == "true")
        output = values["output"].strip()
        if not kinds or not output:
            self.app.say("choose at least one thing to mend" if output else "name a file")
            return
        self.dismiss(Fix(kinds, output))


def clean_name(source: str) -> str:
    """A name for the clean copy of `source`: beside it, as JSONL."""
    path = Path(source)
    folder = path.parent if path.parent.is_dir() else Path()
    stem = path.name
    for suffix in (".gz", path.suffix if path.suffix != ".gz" else Path(path.stem).suffix):
        stem = stem.removesuffix(suffix) if suffix else stem
    return str(folder / f"{stem or 'data'}-clean.jsonl")
