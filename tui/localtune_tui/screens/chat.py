"""Chat: base and tuned model side by side, asked in turn with the same seed; the model is in a child process.

Nothing is loaded by opening this tab: the first question loads what it names, and so does who asks for a chat.
"""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Static

from localtune_tui.modals.chat_settings import ChatSettings
from localtune_tui.modals.pick_chat import PickChat
from localtune_tui.screens.loaded_chat import LoadedChat
from localtune_tui.talk import Wishes
from localtune_tui.text import plain, shown
from localtune_tui.widgets.chat_line import ChatLine
from localtune_tui.widgets.chat_pane import ChatPane


class ChatScreen(LoadedChat):
    """A conversation."""

    mode = "chat"
    AUTO_FOCUS = "ChatLine"
    HELP = (
        "Talk to what a run has trained, beside its base, or to a GGUF file or a model's folder. Both are asked in "
        "turn, with the same seed. + and - keep the last answer of the tuned model in feedback/good.jsonl or bad.jsonl "
        "of the run, rows that  localtune eval RUN --data FILE  tests with. The model is loaded with the first "
        "question and leaves memory with u, with another model, or with the app."
    )
    DEFAULT_CSS = """
    ChatScreen #head, ChatScreen #wishes { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    ChatScreen #panes { height: 1fr; }
    ChatScreen #said { height: auto; max-height: 6; padding: 0 1; }
    ChatScreen #ask { height: 1; padding: 0 1; }
    ChatScreen #ask Static { width: 2; }
    ChatScreen #pane-base { display: none; }
    ChatScreen.-compare #pane-base { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "type", "Type", id="chat.type", tooltip="Back to the line."),
        Binding("escape", "stop", "Stop", id="chat.stop", tooltip="End the answer."),
        Binding("ctrl+t", "settings", "Temperature…", id="chat.settings",
                tooltip="Temperature, seed, longest answer and system text."),
        Binding("ctrl+y", "copy", "Copy reply", id="chat.copy", tooltip="Copy the last answer."),
        Binding("ctrl+r", "retry", "Retry", id="chat.retry", tooltip="Ask the last question once more."),
        Binding("ctrl+n", "reset", "Forget", show=False, id="chat.reset", tooltip="Begin anew: nothing was said."),
        Binding("c", "compare", "Compare", show=False, id="chat.compare", tooltip="Base beside tuned, or tuned alone."),
        Binding("plus", "rate(True)", "Good", show=False, id="chat.good",
                tooltip="Keep the last answer as a good one: a row to test or train with."),
        Binding("minus", "rate(False)", "Bad", show=False, id="chat.bad", tooltip="Keep the last answer as a bad one."),
        Binding("o,f4", "pick", "Open…", show=False, id="chat.pick", tooltip="Another run, GGUF file or folder."),
        Binding("i", "type", "Type", show=False, id="chat.type", tooltip="Back to the line."),
        Binding("u", "unload", "Unload", show=False, id="chat.unload", tooltip="Take the model out of memory."),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._stoppable = False
        """Whether the keys below say that Escape ends an answer."""

    def body(self) -> ComposeResult:
        """Who, the panes, what is said of it, and the line."""
        yield Static(id="head")
        with Horizontal(id="panes"):
            yield ChatPane(id="pane-base")
            yield ChatPane(id="pane-tuned")
        yield Static(id="said")
        yield Static(id="wishes", classes="quiet")
        with Horizontal(id="ask"):
            yield Static(Content("> "))
            yield ChatLine(placeholder="ask something", compact=True)

    @property
    def line(self) -> ChatLine:
        """Where one types."""
        return self.query_one(ChatLine)

    # Who is talked to

    def on_mount(self) -> None:
        """Begin with who was asked for, else with the run that the app is about."""
        self.talk.compare = self.app.state.flag("chat.compare", True)
        self.watch(self.app, "chat_target", self.wanted)
        self.set_interval(self.app.refresh_rate / 2, self.drain)
        self.paint()

    def on_screen_resume(self) -> None:
        """Somebody else's run may be the one by now."""
        if not self.target and self.app.current_run:
            self.target = self.app.current_run
            self.paint()

    # What is painted

    def hand_back(self, text: str) -> None:
        """Put it before what has been typed since."""
        self.line.value = " ".join(filter(None, (text, self.line.value)))
        self.line.cursor_position = len(self.line.value)

    def paint(self) -> None:
        """Everything, as it is now."""
        compare = len(self.talk.voices) > 1 if self.talk.who else self.talk.compare
        self.set_class(compare, "-compare")
        mine = self.talk.voices[-1] if self.talk.voices else "tuned"
        replies = self.talk.exchanges[-1].replies if self.talk.exchanges else {}
        for who, pane in (("base", "#pane-base"), (mine, "#pane-tuned")):
            found = replies.get(who)
            name = self.base if who == "base" else self.name_shown
            self.query_one(pane, ChatPane).name_it(who, name, found.speed if found else None)
            self.query_one(pane, ChatPane).show(self.talk.exchanges, who)
        self.query_one("#head", Static).update(plain(self._head(), 300))
        self.query_one("#said", Static).update(plain(self.note, 2000, keep_lines=True))
        self.query_one("#wishes", Static).update(plain(self._wishes(), 300))
        self.title_text = self.name_shown
        if self._stoppable != bool(self.talk.pending):
            self._stoppable = not self._stoppable
            self.refresh_bindings()

    def _head(self) -> str:
        name = self.name_shown
        if not self.target:
            return "nobody to talk to yet: Escape, then o picks a run, a GGUF file or a model's folder"
        if self.state == "ready":
            answering = next((who for who in self.talk.voices if self._waits(who)), "")
            return f"{name}: {answering} answers …" if answering else f"{name}: ready"
        return {
            "": f"{name}: not in memory; the first question loads it",
            "checking": f"{name}: looking whether there is room …",
            "loading": f"{name}: loading …",
            "over": f"{name}: the chat has ended; ^r begins it again",
        }[self.state]

    def _waits(self, who: str) -> bool:
        replies = self.talk.exchanges[-1].replies if self.talk.exchanges else {}
        return who in replies and not replies[who].stopped

    def _wishes(self) -> str:
        wishes = self.talk.wishes
        system = f"system: {shown(wishes.system, 60)}" if wishes.system else "no system text"
        drawn = f"temperature {wishes.temperature:g} · seed {wishes.seed} · at most {wishes.max_tokens:,} tokens"
        one = "" if self.talk.template else " · no chat template: each text is continued alone"
        return f"{drawn} · {system}{one}"

    # Keys

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Ask, and load first what is not in memory."""
        text = event.value
        if not text.strip() or self.talk.pending or self.first:
            return
        if not self.target:
            self.app.say("pick who to talk to first: Escape, then o")
            return
        self.line.clear()
        if self.state == "ready":
            self.ask(text)
        else:
            self.first = text
            self.open(self.target)
        self.paint()

    def action_retry(self) -> None:
        """Ask the last question again; a chat that has ended begins again with it."""
        if self.talk.pending:
            return
        if self.state == "ready" and self.child is not None:
            self.child.send(*self.talk.again())
        elif self.target and self.state in ("", "over"):
            self.first = self.talk.exchanges.pop().asked if self.talk.exchanges else ""
            self.open(self.target)
        self.paint()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape ends an answer while there is one; else it leaves the line."""
        if action in ("stop", "panes"):
            return bool(self.talk.pending) == (action == "stop")
        return super().check_action(action, parameters)

    def action_stop(self) -> None:
        """End the answer."""
        if self.child is not None:
            self.child.send(*self.talk.cancel())
        self.paint()

    def action_panes(self) -> None:
        """Leave the line, so that letters are keys."""
        self.query_one("#pane-tuned").focus()

    def action_compare(self) -> None:
        """Base too, or no longer."""
        if self.talk.who and not self.talk.has_base:
            self.app.say(f"{self.name_shown} alone has no base to compare with")
            return
        self.talk.compare = not self.talk.compare
        self.app.state.put("chat.compare", self.talk.compare)
        self.paint()

    def action_rate(self, good: bool) -> None:
        """Keep the last answer."""
        reply = self.talk.last
        if reply is None or self.child is None or self.state != "ready":
            self.app.say("there is no answer to rate yet")
        else:
            self.child.send({"keep": reply.number, "good": good})

    def action_copy(self) -> None:
        """The last answer to the clipboard."""
        reply = self.talk.last
        if reply is None or not reply.text:
            self.app.say("there is no answer to copy yet")
        else:
            self.app.copy(reply.text)

    def action_reset(self) -> None:
        """Forget what was said."""
        if self.talk.pending and self.child is not None:
            self.child.send(*self.talk.cancel())
        self.talk.reset()
        self.paint()

    def action_settings(self) -> None:
        """Ask how answers are to be drawn."""
        self.app.push_screen(ChatSettings(self.talk.wishes, template=self.talk.template), self._set)

    def _set(self, wishes: Wishes | None) -> None:
        if wishes is not None:
            self.talk.wishes = wishes
            self.paint()

    def action_pick(self) -> None:
        """Somebody else."""
        self.app.push_screen(PickChat(), self.wanted)

    def action_type(self) -> None:
        """Back to the line."""
        self.line.focus()

    def action_unload(self) -> None:
        """Take the model out of memory."""
        self.unload()
        self.not_asked()
        self.paint()

    def action_page(self, way: int) -> None:
        """Scroll both panes."""
        for pane in self.query(ChatPane):
            pane.scroll_relative(y=way * pane.size.height, animate=False)

    def command_of(self, action_id: str) -> str:
        """What could be typed instead."""
        if not self.target:
            return ""
        compare = ("--compare",) if self.talk.compare and (self.talk.has_base or not self.talk.who) else ()
        typed = {"chat.send": (*compare, "-p", "TEXT"), "chat.compare": ("--compare",)}
        return self.app.cli("chat", self.target, *typed[action_id]) if action_id in typed else ""
