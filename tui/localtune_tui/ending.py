"""How the app ends: by a key, by SIGTERM or SIGHUP at any moment, or by its own failure; the terminal is as it was.

Runs are processes of their own and go on.
"""

from rich.text import Text
from textual.app import App
from textual.widget import AwaitMount

from localtune_tui import state, terminal


class EndingApp(App[int]):
    """An app that can be told to leave while a screen is being opened."""

    def on_load(self) -> None:
        """Heed signals from here on, before anything of the terminal is changed."""
        self._forget_signals = terminal.leave_on_signals(self.leave)

    def leave(self, code: int = 0) -> None:
        """End with the exit code `code`."""
        self.exit(code, return_code=code)

    def on_unmount(self) -> None:
        """Leave signals to who had them."""
        self._forget_signals()

    def switch_mode(self, mode: str) -> AwaitMount:
        """As Textual's, but not while the app is leaving: it goes through its modes then, and closes them."""
        return AwaitMount(self.screen, ()) if self._exit else super().switch_mode(mode)

    def _handle_exception(self, error: Exception) -> None:
        """A failure, unless the app is leaving: what is opened at that moment misses its parts, and nobody sees it."""
        if not self._exit:
            super()._handle_exception(error)

    def _fatal_error(self) -> None:
        """A failure of the app itself: a sentence instead of a page with the values of variables."""
        from localtune_tui.crash import keep

        self.panic(Text(keep(state.folder())))
