"""The part of a line that shows what is wrong with it."""

import unicodedata

from localtune.errors import safe

_WIDTH = 40
"""Characters on either side."""


def window(text: str, at: int | None = None) -> str:
    """`text` around `at`, shortened and safe for a screen, with a caret below; its beginning when there is no place."""
    if at is None:
        return safe(text[: 2 * _WIDTH]) + ("…" if len(text) > 2 * _WIDTH else "")
    start = max(0, at - _WIDTH)
    before = ("…" if start else "") + safe(text[start:at])
    after = safe(text[at : at + _WIDTH].split("\n")[0]) + ("…" if len(text) > at + _WIDTH else "")
    before = before.rpartition("\n")[2]
    width = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in before)
    return f"{before}{after}\n{' ' * width}^"
