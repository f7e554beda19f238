"""Rows as a model sees them: what is learned is painted, and stands between two marks where there is no colour."""

from collections.abc import Mapping, Sequence
from typing import Any

from textual.content import Content

from localtune_tui.text import shown

MARK = "▒"
ASCII_MARK = "|"
LEARNED = "$learned bold"
LONGEST = 40_000
"""Characters of a row that are shown."""


def painted(row: Mapping[str, Any], *, mask: bool = True, ascii_only: bool = False) -> Content:
    """A row of `localtune data show --json` as text, over as many lines as it has."""
    parts: list[Content] = []
    several = len(row.get("segments", ())) > 1
    for number, segment in enumerate(row.get("segments", ()), start=1):
        if several:
            parts.append(Content.styled(f"{'' if number == 1 else chr(10)}-- segment {number}\n", "bold"))
        parts += [_run(run, mask=mask, ascii_only=ascii_only) for run in segment["text"]]
    if not row.get("segments"):
        parts.append(Content(shown(_normal_form(row.get("row", {})), LONGEST, keep_lines=True)))
    return Content("").join(parts)


def on_a_line(row: Mapping[str, Any], width: int, *, ascii_only: bool = False) -> Content:
    """The beginning of a row on one line of `width` cells, with its tokens at the end."""
    note = f"{row['tokens']:,} tok" if "tokens" in row else ""
    runs = [run for segment in row.get("segments", ()) for run in segment["text"]]
    if runs:
        parts = [_run(run | {"text": " ".join(run["text"].split())[:400]}, ascii_only=ascii_only) for run in runs]
        text = Content(" ").join(parts)
    else:
        text = Content(shown(_normal_form(row.get("row", {})), 400))
    room = max(10, width - len(note) - 1)
    left = text.truncate(room, ellipsis=True)
    return Content("").join([left, Content(" " * max(1, width - left.cell_length - len(note))), Content(note)])


def token_lines(row: Mapping[str, Any]) -> Content:
    """A line a token: place, id, weight, text; of a row that was asked for with --ids."""
    lines: list[Content] = []
    for segment in row.get("segments", ()):
        at = 0
        for piece in segment.get("pieces", ()):
            for number, token in enumerate(piece["ids"], start=1):
                text = shown(repr(piece["text"]), 60) if number == len(piece["ids"]) else "…"
                weight = segment["weights"][at]
                line = f"{at:>6} {token:>7} {weight:>5g}  {text}"
                lines.append(Content.styled(line, LEARNED) if weight else Content(line))
                at += 1
    return Content("\n").join(lines)


def _run(run: Mapping[str, Any], *, mask: bool = True, ascii_only: bool = False) -> Content:
    text = shown(run["text"], LONGEST, keep_lines=True)
    if not (mask and run["learned"]):
        return Content(text)
    mark = ASCII_MARK if ascii_only else MARK
    return Content.styled(f"{mark}{text}{mark}", LEARNED)


def _normal_form(row: Mapping[str, Any]) -> str:
    """What a row says where no model has rendered it."""
    messages: Sequence[Any] = row.get("messages", ())
    if messages:
        return "\n".join(f"{message.get('role')}: {message.get('content')}" for message in messages)
    return "\n".join(f"{key}: {value}" for key, value in row.items())
