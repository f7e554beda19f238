"""The command palette: every action that is possible here, with its key and what could be typed instead."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from localtune_tui.keys import Action, actions
from localtune_tui.screens.base import AppScreen
from localtune_tui.text import shown

if TYPE_CHECKING:
    from localtune_tui.app import LocaltuneApp


class Commands(Provider):
    """Everything that can be done, found by any letters of it."""

    async def discover(self) -> Hits:
        """All of it, in the order of help."""
        for action in self._actions():
            yield DiscoveryHit(
                Content(_title(action)), self._call(action), text=_title(action), help=self._help(action)
            )

    async def search(self, query: str) -> Hits:
        """What fits `query`, by description, sentence, id or command."""
        matcher = self.matcher(query)
        for action in self._actions():
            title, said = _title(action), self._help(action)
            score = max(matcher.match(title), 0.8 * matcher.match(f"{action.id} {said}"))
            if score > 0:
                yield Hit(score, Content(title), self._call(action), text=title, help=said)

    def _actions(self) -> Iterator[Action]:
        return (action for action in actions(self.screen) if action.id != "app.palette")

    def _call(self, action: Action) -> "partial[None]":
        return partial(cast("LocaltuneApp", self.app).perform, action)

    def _help(self, action: Action) -> str:
        typed = self.screen.command_of(action.id) if isinstance(self.screen, AppScreen) else ""
        typed = typed or cast("LocaltuneApp", self.app).command_of(action.id)
        return shown(f"{action.help}   $ {typed}" if typed else action.help, 200)


def _title(action: Action) -> str:
    keys = " ".join(action.keys)
    off = "" if action.enabled else "  (not now)"
    return shown(f"{action.description}  {keys}{off}", 80)
