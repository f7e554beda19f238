"""Welcome: what was found on this machine, and three ways to begin. Nothing starts unasked."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from localtune_tui import findings
from localtune_tui.asking import Asked, AskError
from localtune_tui.modals.confirm import Answer, Confirm
from localtune_tui.screens.base import AppScreen
from localtune_tui.text import plain

if TYPE_CHECKING:
    from localtune_tui.modals.pick import Entry

CHOICES = {
    "demo": ("Try the demo", "two minutes: a small model learns to answer requests by JSON; nothing is downloaded"),
    "data": ("My data file", "choose a file of examples: JSONL, JSON, CSV, TSV, Parquet or text"),
    "recipe": ("Open a recipe", "choose a recipe.yaml, or one of those that come with localtune"),
}
"""Value -> what it is called, and what it means."""
GROUPS = ("machine", "training", "hub", "chat")
"""What of the findings is of interest here."""


class Choices(OptionList):
    """The three ways."""

    HELP = "Arrows choose, Enter takes. The demo is trained on this machine; the other two fill the page New."


class FirstScreen(AppScreen):
    """The first thing that is seen where there are no runs."""

    mode = "first"
    TITLE = "Welcome"
    HELP = "Three ways to begin. Any of them can be left again; nothing is kept or sent."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "choose('demo')", "Demo", id="first.demo", tooltip="Train the demo, after asking."),
        Binding("f", "choose('data')", "My file", id="first.data", tooltip="Choose a file of examples."),
        Binding("o", "choose('recipe')", "Recipe", id="first.recipe", tooltip="Choose a recipe."),
    ]
    DEFAULT_CSS = """
    FirstScreen #hello { height: auto; padding: 1 2 0 2; }
    FirstScreen Choices { height: auto; max-height: 10; margin: 0 1; }
    FirstScreen #machine { height: 1fr; margin: 0 1; }
    FirstScreen #doing { height: auto; max-height: 6; padding: 0 2; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked = Asked()
        self._starting = False

    def body(self) -> ComposeResult:
        """A greeting, the choices, and the machine."""
        yield Static(Content("A model of your own, from a file of examples, on this machine."), id="hello")
        options = {
            value: Content.assemble((f"{name}\n", "bold"), f"  {what}") for value, (name, what) in CHOICES.items()
        }
        yield Choices(*(Option(text, id=value) for value, text in options.items()), classes="box")
        with VerticalScroll(classes="box", id="machine", can_focus=True) as machine:
            machine.border_title = Content("found here")
            yield findings.Findings()
        yield Static(id="doing")

    def on_mount(self) -> None:
        """Look at the machine meanwhile."""
        self.query_one(Choices).border_title = Content("how to begin")
        self._look()

    def on_unmount(self) -> None:
        """Nobody waits for the answers any more; a run that has started goes on."""
        self._asked.cancel()

    def command_of(self, action_id: str) -> str:
        """What could be typed instead."""
        typed = {
            "first.demo": self.app.cli("run", "quickstart"),
            "first.data": "localtune run FILE -m MODEL",
            "first.recipe": "localtune run recipe.yaml",
        }
        return typed.get(action_id, "")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter or a click on one of the ways."""
        self.action_choose(event.option_id or "data")

    def action_choose(self, value: str) -> None:
        """Go one of the ways."""
        if value == "demo":
            self._demo()
        else:
            self._pick(value)

    @work(thread=True, exit_on_error=False)
    def _look(self) -> None:
        try:
            machine = findings.ask(self._asked)
        except AskError as error:
            if not error.cancelled:
                said = plain(error.text, 2000, keep_lines=True)
                self.app.call_from_thread(self.query_one(findings.Findings).update, said)
            return
        found = [each for each in machine.found if each.group in GROUPS or (each.needed and each.status != "ok")]
        self.app.call_from_thread(self.query_one(findings.Findings).show, found)
        self.app.call_from_thread(self.app.knows, machine.device)

    @work(exit_on_error=False)
    async def _demo(self) -> None:
        if self._starting:
            self.app.say("the demo is being started")
            return
        detail = (
            "A model of 2.3 million parameters and a thousand requests, both part of localtune. It takes about two "
            "minutes and under 100 MB in the folder of runs. Then you can chat with it, beside the model as it was."
        )
        answers = (Answer("start", "Start"), Answer("back", "Not now"))
        if await self.app.push_screen_wait(Confirm("Train the demo?", detail, answers)) == "start":
            self._starting = True
            self.query_one("#doing", Static).update(plain(f"starting …   {self.app.cli('run', 'quickstart')}"))
            self._start_demo()

    @work(thread=True, exit_on_error=False)
    def _start_demo(self) -> None:
        try:
            run = Asked().run_json("run", "quickstart", "--detach", "--json")
            name, problem = str(run["run"]), ""
        except (AskError, KeyError, TypeError) as error:
            name, problem = "", error.text if isinstance(error, AskError) else "the command line did not name the run"
        self.app.call_from_thread(self._started, name, problem)

    def _started(self, name: str, problem: str) -> None:
        self._starting = False
        self.query_one("#doing", Static).update(plain(problem, 2000, keep_lines=True))
        if name:
            self.app.open_run(name)

    @work(exit_on_error=False)
    async def _pick(self, value: str) -> None:
        from localtune_tui.modals.pick_file import RECIPES, PickFile

        if value == "data":
            chosen = await self.app.push_screen_wait(PickFile(Path.cwd()))
            if chosen is not None:
                self.app.new_from(None, chosen)
            return
        first = await asyncio.to_thread(_shipped)
        chosen = await self.app.push_screen_wait(
            PickFile(Path.cwd(), RECIPES, question="Which recipe?", first=first),
        )
        if chosen is not None:
            self.app.new_from(Path(chosen))


def _shipped() -> "list[Entry]":
    """The recipes that come with localtune."""
    from localtune.recipe.shipped import shipped
    from localtune_tui.modals.pick import Entry

    return [Entry(str(one.path), one.name, one.title) for one in shipped().values()]
