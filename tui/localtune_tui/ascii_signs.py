"""Every line, box, bar and sign drawn of ASCII, for consoles whose font has nothing else; letters stay as they are.

It works on what is about to be painted, so that no screen has to know of it. One cell stays one cell.
"""

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

ASCII = str.maketrans(
    {
        **dict.fromkeys(map(chr, range(0x2500, 0x2580)), "+"),
        **dict.fromkeys("─━┄┅┈┉╌╍═╴╶╸╺╼╾", "-"),
        **dict.fromkeys("│┃┆┇┊┋╎╏║╵╷╹╻╽╿", "|"),
        **dict.fromkeys(map(chr, range(0x2580, 0x25A0)), "#"),
        **dict.fromkeys("▁▂▔▏▕", " "),
        **dict.fromkeys("▒░", ":"),
        **dict.fromkeys(map(chr, range(0x2801, 0x2900)), "*"),
        "\u2800": " ", "✓": "+", "✗": "x", "●": "*", "○": "o", "◌": "o", "•": "*", "·": "-", "…": ".", "▸": ">",
        "▾": "v", "▼": "v", "▲": "^", "►": ">", "→": ">", "⏎": "<", "←": "<", "↑": "^", "↓": "v", "×": "x", "±": "~",
        "‖": "=", "—": "-", "–": "-", "∞": "8", "²": "2",
    }
)  # fmt: skip
"""Each sign -> the one of ASCII that takes its cell."""


class AsciiSigns(LineFilter):
    """Puts an ASCII sign in the place of each sign that is none."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same line, of the same width."""
        return [segment if segment.text.isascii() else _ascii(segment) for segment in segments]


def _ascii(segment: Segment) -> Segment:
    return Segment(segment.text.translate(ASCII), segment.style, segment.control)
