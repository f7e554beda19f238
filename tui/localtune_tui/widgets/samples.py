"""What base and tuned model say to a fixed prompt, one below the other."""

from collections.abc import Sequence
from typing import ClassVar

from textual.content import Content
from textual.widgets import Static

from localtune_tui.text import shown

STYLES = {"user": "bold", "base": "$base", "tuned": "$tuned"}


class SamplesPane(Static, can_focus=True):
    """Three short texts with who says them."""

    HELP: ClassVar[str | None] = (
        "What base and tuned model answer to a prompt of watch.samples, both without chance. n shows the next prompt."
    )

    def say(self, title: str, lines: Sequence[tuple[str, str]]) -> None:
        """Show `lines`: who, and what was said."""
        self.border_title = Content(shown(title, 80))
        rows = [
            Content.assemble((f"{who:<6} ", STYLES.get(who, "")), shown(text, 600))
            if who
            else Content(shown(text, 200))
            for who, text in lines
        ]
        self.update(Content("\n").join(rows), layout=False)  # its height is fixed
