"""What one voice was asked and said: text as it is, never markup; the end stays in sight as it grows."""

from collections.abc import Iterator, Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from localtune_tui.talk import Exchange, Reply
from localtune_tui.text import shown

LONGEST = 20_000
"""Characters of one text that are shown."""
SHOWN = 50
"""Newest exchanges that are shown; all are remembered."""
ENDS = {
    "length": "cut: that was the longest answer that was wished for, or all that the model reads",
    "cancelled": "cut off",
    "lost": "cut off: the chat has ended",
}


class ChatPane(VerticalScroll, can_focus=True):
    """One side of the conversation."""

    HELP = (
        "One voice. Arrows scroll; + keeps the last answer of who is talked to as good, - as bad, beside the run or "
        "the file, as rows to test or train with. Enter goes back to the line."
    )
    DEFAULT_CSS = "ChatPane { width: 1fr; height: 1fr; scrollbar-size: 1 1; } ChatPane Static { width: 100%; }"

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, classes="box")
        self.text = ""
        """What is painted."""

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static("")

    def name_it(self, who: str, name: str, speed: float | None) -> None:
        """Say above who it is and how quick."""
        quick = f"  {speed:.1f} tok/s" if speed is not None else ""
        self.border_title = Content(shown(f"{who}  {name}{quick}", 120))

    def show(self, exchanges: Sequence[Exchange], who: str) -> None:
        """Paint what `who` was asked and said, if it has changed."""
        parts = [part for exchange in exchanges[-SHOWN:] for part in _parts(exchange, exchange.replies.get(who))]
        content = Content("\n").join(parts)
        if content.plain != self.text:
            at_end = self.scroll_offset.y >= self.max_scroll_y - 1
            self.text = content.plain
            self.query_one(Static).update(content)
            if at_end:
                self.scroll_end(animate=False)


def _parts(exchange: Exchange, reply: Reply | None) -> Iterator[Content]:
    """The lines of one question and its answer, and an empty one."""
    if reply is None:
        return
    yield Content.styled(f"> {shown(exchange.asked, LONGEST, keep_lines=True)}", "bold")
    if reply.text or not reply.stopped:
        cursor = "" if reply.stopped else "▌"
        yield Content(f"{shown(reply.text, LONGEST, keep_lines=True)}{cursor}")
    if reply.problem:
        yield Content.styled(shown(reply.problem, 2000, keep_lines=True), "$bad")
    if reply.stopped in ENDS:
        yield Content.styled(f"({ENDS[reply.stopped]})", "$caution")
    if reply.rated:
        yield Content.styled(f"(kept as {reply.rated})", "$good")
    yield Content("")
