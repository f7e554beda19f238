"""Colours: dark, light, and for each a set that stays apart for every kind of colour vision.

Meaning is never carried by colour alone: every state has its own sign as well. The clear sets use the eight colours of
Okabe and Ito (2008). A terminal that does not say it shows 24-bit colours gets one of its own 16 (Textual's ANSI
themes). `VARIABLES` may be used in style sheets under every theme: good, bad, caution, learned, base, tuned, curve-1
to curve-6.
"""

from collections.abc import Mapping

from textual.theme import Theme

DARK, LIGHT, CLEAR_DARK, CLEAR_LIGHT = "localtune-dark", "localtune-light", "clear-dark", "clear-light"
CHOICES = (DARK, LIGHT, CLEAR_DARK, CLEAR_LIGHT, "ansi-dark", "ansi-light")
"""In the order in which the key goes through them."""

VARIABLES = {
    "good": "ansi_green",
    "bad": "ansi_red",
    "caution": "ansi_yellow",
    "learned": "ansi_green",
    "base": "ansi_cyan",
    "tuned": "ansi_yellow",
    "curve-1": "ansi_cyan",
    "curve-2": "ansi_yellow",
    "curve-3": "ansi_green",
    "curve-4": "ansi_magenta",
    "curve-5": "ansi_blue",
    "curve-6": "ansi_red",
}
"""Our own names in style sheets, with what they are where a theme does not say."""


def _meanings(good: str, bad: str, caution: str, base: str, tuned: str, *curves: str) -> dict[str, str]:
    named = {f"curve-{number}": colour for number, colour in enumerate((base, tuned, *curves), 1)}
    return {"good": good, "bad": bad, "caution": caution, "learned": good, "base": base, "tuned": tuned, **named}


THEMES = (
    Theme(
        DARK,
        primary="#7aa2f7",
        secondary="#5a7bc0",
        accent="#e0af68",
        success="#9ece6a",
        warning="#e0af68",
        error="#f7768e",
        foreground="#d5d9e8",
        background="#16181f",
        surface="#1d2029",
        panel="#262a36",
        variables=_meanings(
            "#9ece6a", "#f7768e", "#e0af68", "#7dcfff", "#e0af68",
            "#9ece6a", "#bb9af7", "#7aa2f7", "#f7768e",
        ),
    ),
    Theme(
        LIGHT,
        primary="#2457b3",
        secondary="#41679f",
        accent="#8f5a00",
        success="#2f6f1f",
        warning="#8f5a00",
        error="#b3243f",
        foreground="#22252e",
        background="#fafafa",
        surface="#f1f2f5",
        panel="#e4e6ec",
        dark=False,
        variables=_meanings(
            "#2f6f1f", "#b3243f", "#8f5a00", "#00688b", "#8f5a00",
            "#2f6f1f", "#6b3fa0", "#2457b3", "#b3243f",
        ),
    ),
    Theme(
        CLEAR_DARK,
        primary="#56b4e9",
        secondary="#0072b2",
        accent="#e69f00",
        success="#56b4e9",
        warning="#f0e442",
        error="#e0762f",
        foreground="#f2f2f2",
        background="#000000",
        surface="#121212",
        panel="#222222",
        variables=_meanings(
            "#56b4e9", "#e0762f", "#f0e442", "#56b4e9", "#e69f00",
            "#009e73", "#f0e442", "#cc79a7", "#ffffff",
        ),
    ),
    Theme(
        CLEAR_LIGHT,
        primary="#005b8f",
        secondary="#0072b2",
        accent="#8a5f00",
        success="#005b8f",
        warning="#7a5c00",
        error="#a34400",
        foreground="#101010",
        background="#ffffff",
        surface="#f4f4f4",
        panel="#e6e6e6",
        dark=False,
        variables=_meanings(
            "#005b8f", "#a34400", "#7a5c00", "#005b8f", "#a34400",
            "#007a5a", "#8a4a72", "#5c5c00", "#101010",
        ),
    ),
)  # fmt: skip


def after(name: str) -> str:
    """The choice after the one called `name`."""
    place = CHOICES.index(name) if name in CHOICES else -1
    return CHOICES[(place + 1) % len(CHOICES)]


def fitting(wanted: str, environ: Mapping[str, str]) -> str:
    """The theme for this terminal: `wanted`, or its like among the terminal's own colours where it has no others."""
    name = wanted if wanted in CHOICES else DARK
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") or name.startswith("ansi"):
        return name
    return "ansi-light" if name.endswith("light") else "ansi-dark"
