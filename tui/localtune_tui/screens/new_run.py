"""What can be done with a run that is put together: start it, write it as a recipe, edit that, copy the command."""

from pathlib import Path
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from localtune_tui.asking import Asked, AskError
from localtune_tui.draft import Draft
from localtune_tui.editing import edit, file_for, write
from localtune_tui.modals.confirm import Answer, Confirm
from localtune_tui.planning import Outcome
from localtune_tui.screens.divided import DividedScreen


class NewRun(DividedScreen):
    """A screen with a draft; who inherits shows it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "start", "Start", id="new.start", priority=True, tooltip="Start the run as it is planned."),
        Binding("e", "edit", "Edit", id="new.edit", tooltip="Open the recipe in your editor; it is written first."),
        Binding("w", "write", "Write recipe", id="new.write", tooltip="Write the recipe to a file."),
        Binding("y", "copy", "Copy command", id="new.copy", tooltip="Copy the command that does the same."),
        Binding("escape", "stop_waiting", "Stop waiting", show=False, id="new.wait",
                tooltip="While a run is being started or a model downloaded: leave it."),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.draft = Draft()
        self.outcome: Outcome | None = None
        """Of the draft as it stands; None while it is being asked for."""
        self.starting: Asked | None = None
        """The child that starts the run, while there is one."""

    def change(self, draft: Draft, *, at_once: bool = False) -> None:
        """Take `draft`."""
        self.draft = draft

    def say_ready(self) -> None:
        """Say whether a run could begin."""

    @work
    async def begin(self, draft: Draft, question: str = "") -> None:
        """Put `draft` in the place of this one, after `question` if there is one, or another where work would be lost.

        Every way to a new draft leads through here.
        """
        lost = self.draft.would_be_lost
        if lost or question:
            detail = "w writes it as a recipe first." if lost else ""
            answers = (Answer("no", "Keep it"), Answer("yes", "Replace it", danger=True))
            asked = Confirm("Replace the unsaved draft?" if lost else question, detail, answers)
            if await self.app.push_screen_wait(asked) != "yes":
                return
        self.change(draft, at_once=True)

    def action_copy(self) -> None:
        """The command to the clipboard."""
        self.app.copy(self.draft.command())

    @work
    async def action_write(self) -> None:
        """Write the recipe."""
        await self._write()

    @work
    async def action_edit(self) -> None:
        """Write the recipe where it is not yet or may not be changed, then lend the terminal to the editor."""
        draft = self.draft
        is_there = not draft.unsaved and file_for(draft, Path.cwd()) == draft.file
        path = draft.file if is_there else await self._write()
        if path is not None:
            problem = edit(self.app, path)
            if problem:
                self.app.say(problem, error=True)
            self.change(Draft.of(path), at_once=True)

    async def _write(self) -> Path | None:
        """Where the recipe now is; None where it was not written."""
        if self.draft.missing:
            self.app.say(f"{self.draft.missing} first")
            return None
        path, draft = file_for(self.draft, Path.cwd()), self.draft
        if path.exists():
            answers = (Answer("no", "Leave it"), Answer("yes", "Write over it", danger=True))
            detail = "Its comments are kept." if path == draft.file else ""
            if await self.app.push_screen_wait(Confirm(f"{path} is there already.", detail, answers)) != "yes":
                return None
        problem = await self._written(draft, path).wait()
        if problem:
            self.app.say(problem, error=True)
            return None
        self.app.say(f"wrote {path}")
        self.change(Draft.of(path), at_once=True)
        return path

    @work(thread=True, exit_on_error=False)
    def _written(self, draft: Draft, path: Path) -> str:
        return write(draft, path)

    @work
    async def action_start(self) -> None:
        """Start the run, once nothing is in the way; a download is asked for."""
        outcome = self.outcome
        if self.starting is not None or self.draft.missing or outcome is None:
            self.app.say(self.draft.missing or ("it is being started" if self.starting else "still planning: a moment"))
            return
        if not outcome.ready and not outcome.absent:
            self.app.say(outcome.problem, error=True)
            return
        if outcome.absent:
            answers = (Answer("no", "Not now"), Answer("yes", "Download and start"))
            detail = f"{outcome.problem}\n\nThe files go into the cache that all tools share."
            if await self.app.push_screen_wait(Confirm("Download the model?", detail, answers)) != "yes":
                return
        self.starting = Asked()
        self.say_ready()
        self._start(self.starting, self.draft)

    def action_stop_waiting(self) -> None:
        """Leave a run that is still being started."""
        if self.starting is not None:
            self.starting.cancel()

    @work(thread=True, exit_on_error=False, group="start")
    def _start(self, asked: Asked, draft: Draft) -> None:
        try:
            run = str(asked.run_json("run", *draft.arguments(), "--detach", "--json")["run"])
            self.app.call_from_thread(self._started, run, "")
        except AskError as error:
            self.app.call_from_thread(self._started, "", "left" if error.cancelled else error.text)

    def _started(self, run: str, problem: str) -> None:
        self.starting = None
        self.say_ready()
        if problem:
            self.app.say("nothing was started" if problem == "left" else problem, error=problem != "left")
        else:
            self.app.open_run(run)

    def command_of(self, action_id: str) -> str:
        """What could be typed instead."""
        if self.draft.missing:
            return ""
        verbs = {"new.start": "run", "new.copy": "run", "new.rows": "data show"}
        return self.draft.command(verbs[action_id]) if action_id in verbs else ""
