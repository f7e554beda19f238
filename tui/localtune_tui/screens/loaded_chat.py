"""Who is talked to and the child that has the model: asked for, checked against memory, loaded, heard, unloaded."""

import re
from collections import deque
from functools import partial

from textual import work

from localtune.errors import LocaltuneError
from localtune.runs.store import find_run
from localtune_tui.beside import Beside, beside
from localtune_tui.chatting import ChatChild, Event
from localtune_tui.facts import short_model, source_of
from localtune_tui.modals.confirm import Answer, Confirm
from localtune_tui.screens.base import AppScreen
from localtune_tui.talk import Talk

ANYWAY = (Answer("no", "Not now"), Answer("yes", "Load it all the same", danger=True))
_STAMP = re.compile(r"-\d{8}-\d{6}(-\d+)?$")


class LoadedChat(AppScreen):
    """A screen with a conversation; who inherits paints it."""

    def __init__(self) -> None:
        super().__init__()
        self.talk = Talk()
        self.target = ""
        """Who is talked to, as the command line takes it; "" = nobody yet."""
        self.base = ""
        """Name of the base of a run, once it was looked up."""
        self.child: ChatChild | None = None
        self.state = ""
        """ "" nothing is loaded, "checking", "loading", "ready", "over" where the child has ended by itself."""
        self.first = ""
        """What is asked once the child is ready."""
        self.note = ""
        """What there is to say of the child."""
        self._turn = 0
        self._heard: deque[tuple[int, Event]] = deque()

    @property
    def name_shown(self) -> str:
        """Who is talked to, in short."""
        return _STAMP.sub("", short_model(self.target))

    def paint(self) -> None:
        """Show everything as it is now."""

    def hand_back(self, text: str) -> None:
        """Let one send `text` again: it was typed, and never asked."""

    def on_unmount(self) -> None:
        """The model leaves with the screen."""
        self.unload()

    def wanted(self, target: str | None) -> None:
        """Talk to `target`, if it is somebody."""
        if target:
            self.open(target)

    def open(self, target: str) -> None:
        """Load `target`, once it is known that there is room."""
        if target == self.target and self.state in ("checking", "loading", "ready"):
            return
        if target != self.target:
            self.talk.reset()
            self.base = ""
        self.unload()
        self.target, self.state, self.note = target, "checking", ""
        self.paint()
        self._check(target)

    def unload(self) -> None:
        """Take the model out of memory; what was under way is lost."""
        if self.child is not None:
            self.child.end()
        self._turn += 1
        self.child, self.state = None, ""
        self.talk.lose()

    def not_asked(self) -> None:
        """What waits for the child has nobody to wait for any more."""
        first, self.first = self.first, ""
        if first:
            self.hand_back(first)

    def ask(self, text: str) -> None:
        """Ask every voice."""
        if self.child is not None:
            self.child.send(*self.talk.ask(text))

    @work(thread=True, exit_on_error=False, exclusive=True, group="beside")
    def _check(self, target: str) -> None:
        self.app.call_from_thread(self._checked, target, _base_of(target), beside(target))

    @work(exit_on_error=False)
    async def _checked(self, target: str, base: str, found: Beside | None) -> None:
        if target != self.target or self.state != "checking":
            return
        self.base = base
        if found is not None and not found.fits:
            detail = f"{found.sentence}. The system may end the run, or the chat."
            if await self.app.push_screen_wait(Confirm("Load a second model?", detail, ANYWAY)) != "yes":
                self.state, self.note = "", f"not loaded: {found.sentence}"
                self.not_asked()
                self.paint()
                return
        self.note = found.sentence if found is not None else ""
        self.state = "loading"
        self.child = ChatChild(target, partial(self._hear, self._turn))
        self.paint()

    def _hear(self, turn: int, event: Event) -> None:
        """In the child's thread; `drain` takes it up."""
        self._heard.append((turn, event))

    def drain(self) -> None:
        """Take up what the child has said since, and paint it."""
        if not self._heard:
            return
        while self._heard:
            turn, event = self._heard.popleft()
            if turn == self._turn:
                self._take(event)
        self.paint()

    def _take(self, event: Event) -> None:
        kind = event.get("event")
        if kind == "ready":
            self.talk.begin(event)
            self.state = "ready"
            first, self.first = self.first, ""
            if first:
                self.ask(first)
        elif kind == "ended":
            self.talk.lose()
            self.child, self.state = None, "over"
            self.not_asked()
            self.note = str(event.get("text")) or f"the chat has ended (exit code {event.get('code')})"
        else:
            self.talk.take(event)
            if kind == "kept":
                self.app.say(f"kept as {'good' if event.get('good') else 'bad'} in {event.get('path')}")
            elif kind == "error" and event.get("code") in ("chat.rating", "chat.save"):
                self.app.say(event.get("text", ""), error=True)


def _base_of(target: str) -> str:
    try:
        return short_model(source_of(find_run(target))[0])
    except (LocaltuneError, OSError, ValueError):
        return ""
