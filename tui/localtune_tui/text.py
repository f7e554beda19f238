"""The one way of foreign text onto the screen: no markup, no control, bidirectional or invisible character, ever.

Everything that comes from data, models, file names, exceptions and child processes passes `shown` first; in a line that
is edited, `sign_for_sign`.
"""

import unicodedata

from textual.content import Content

from localtune.errors import safe

_UNSEEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
"""Unicode's categories of what is not seen: controls, formats, unassigned, private, surrogates, separators."""
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters that are drawn as nothing."""
HIDDEN = "·"
"""Stands for a character that is not painted."""
_PILE = 4
"""Marks on one letter; a pile of them would be drawn over other lines."""


def shown(text: object, limit: int = 300, *, keep_lines: bool = False) -> str:
    """`text` as it may stand on the screen, at most `limit` characters; on one line unless `keep_lines`."""
    cut = str(text)[: limit + 1].expandtabs(4)
    cut = cut.replace("\r\n", "\n")
    lines = cut if keep_lines else " ".join(cut.split("\n"))
    seen = safe(lines, limit=8 * limit + 8)
    visible = seen if seen.isascii() else _visible(seen)
    return visible if len(visible) <= limit else visible[: limit - 1] + "…"


def plain(text: object, limit: int = 300, *, keep_lines: bool = False) -> Content:
    """`shown` as content that is painted as it is: square brackets mean nothing in it."""
    return Content(shown(text, limit, keep_lines=keep_lines))


def sign_for_sign(text: str) -> str:
    """`text` of the same length, with `HIDDEN` for each character that may not stand on the screen: for editing."""
    if text.isascii() and text.isprintable():
        return text
    signs, marks = [], 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        hidden = category in _UNSEEN or character in _BLANK or marks > _PILE
        signs.append(HIDDEN if hidden else character)
    return "".join(signs)


def _visible(text: str) -> str:
    characters, marks = [], 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if character != "\n" and (category in _UNSEEN or character in _BLANK):
            characters.append(character.encode("unicode_escape", "surrogatepass").decode())
        elif marks <= _PILE:
            characters.append(character)
    return "".join(characters)
