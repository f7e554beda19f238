"""What `localtune doctor` found on this machine, as the app shows it. It is asked in a child process: seconds."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, fields

from textual.content import Content
from textual.widgets import Static

from localtune_tui.asking import Asked, AskError
from localtune_tui.text import shown

SIGNS = {"ok": ("✓", "good"), "warning": ("!", "caution"), "missing": ("✗", "bad")}
"""Status -> sign and class; a thing that nothing needs is a quiet dash."""


@dataclass(frozen=True)
class Found:
    """One thing that was looked at."""

    group: str = ""
    name: str = ""
    status: str = ""
    """ok, warning, missing."""
    text: str = ""
    fix: str = ""
    """A command to type or a change to make."""
    needed: bool = False
    """Without it nothing can be trained."""

    @property
    def optional(self) -> bool:
        """Not there, and nothing needs it."""
        return self.status == "missing" and not self.needed and not self.fix


@dataclass(frozen=True)
class Machine:
    """All findings, and what follows from them."""

    found: tuple[Found, ...]
    can_train: bool

    @property
    def device(self) -> str:
        """What a run would use, in a few words: "torch · RTX 4090 · 24 GB"; "" where nothing can train."""
        able = [
            each
            for each in self.found
            if each.group == "training" and each.status == "ok" and " for a run" in each.text
        ]
        if not able:
            return ""
        chip, _, rest = able[0].text.partition(", ")
        return f"{able[0].name} · {chip} · {rest.partition(' for a run')[0]}"


def ask(asked: Asked) -> Machine:
    """Look at this machine. Blocks; raises `AskError` where the command line gives no answer at all."""
    try:
        value = asked.run_json("doctor", "--json")
    except AskError as error:
        if not isinstance(error.value, dict):
            raise
        value = error.value
    return read(value)


def read(value: object) -> Machine:
    """The answer of `localtune doctor --json`; what is not as expected is left out."""
    listed = value.get("findings", []) if isinstance(value, dict) else []
    found = tuple(_one(each) for each in listed if isinstance(each, dict)) if isinstance(listed, list) else ()
    return Machine(found, bool(isinstance(value, dict) and value.get("can_train")))


class Findings(Static):
    """The findings under their groups, packages as one line, each with what mends it, wrapped to the pane."""

    DEFAULT_CSS = "Findings { width: 100%; height: auto; }"

    def __init__(self) -> None:
        super().__init__(Content("asking this machine …"))
        self._found: tuple[Found, ...] = ()

    def show(self, found: Sequence[Found]) -> None:
        """Show these instead of what is there."""
        self._found = tuple(found)
        self.update(lines(self._found, self.size.width))

    def on_resize(self) -> None:
        """Wrap again."""
        if self._found:
            self.update(lines(self._found, self.size.width))


def lines(found: Sequence[Found], width: int) -> Content:
    """`found` as lines of at most `width` cells, as far as its letters are one cell wide."""
    folded = _folded(found)
    left = min(40, max((len(each.name) for each in folded), default=0))
    parts: list[Content] = []
    group = ""
    for each in folded:
        if each.group != group:
            group = each.group
            parts.append(Content.styled(shown(group, 40), "bold"))
        status = "warning" if each.status == "missing" and not each.needed else each.status
        sign, colour = ("-", "") if each.optional else SIGNS.get(status, ("?", ""))
        said = _wrapped(each, max(20, width - left - 5))
        first = f"{shown(each.name, 40):<{left}}  {said[0]}"
        parts.append(Content.assemble((f" {sign} ", f"${colour}" if colour else ""), first))
        parts += [Content(f"{'':{left + 5}}{line}") for line in said[1:]]
    return Content("\n").join(parts)


def _wrapped(found: Found, width: int) -> list[str]:
    """What was found and what mends it, in lines; one at least."""
    said = textwrap.wrap(shown(found.text), width)
    return (said + textwrap.wrap(f"fix: {shown(found.fix)}", width) if found.fix else said) or [""]


def _folded(found: Sequence[Found]) -> list[Found]:
    good = [each for each in found if each.group == "packages" and each.status == "ok"]
    count = sum(each.group == "packages" for each in found)
    rest = [each for each in found if each not in good[1:]]
    sum_ = Found("packages", "required", "ok", f"{len(good)} of {count} as required")
    return [sum_ if good and each is good[0] else each for each in rest]


def _one(value: dict[object, object]) -> Found:
    texts = {field.name: str(value.get(field.name, "")) for field in fields(Found) if field.name != "needed"}
    return Found(**texts, needed=value.get("needed") is True)
