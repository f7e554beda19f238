"""The app's screens, each imported when it is first opened."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localtune_tui.screens.base import AppScreen

SCREENS = {
    "runs": "runs:RunsScreen",
    "new": "new:NewScreen",
    "live": "live:LiveScreen",
    "chat": "chat:ChatScreen",
    "export": "export:ExportScreen",
    "system": "system:SystemScreen",
    "first": "first:FirstScreen",
}
"""Mode -> module:class in `localtune_tui.screens`."""


def screen_class(mode: str) -> "type[AppScreen]":
    """The class of the screen called `mode`, imported when it is first asked for."""
    module, _, name = SCREENS[mode].partition(":")
    found: type[AppScreen] = getattr(importlib.import_module(f"localtune_tui.screens.{module}"), name)
    return found
