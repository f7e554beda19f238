"""What may be asked of a run that is watched: to stop, to save, to go on; each left out where it cannot be, greyed
where another app steers.

Requests are files in the run's `control/`; to go on is the command line's work.
"""

from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from localtune.runs.folder import Request
from localtune_tui.asking import Asked, AskError
from localtune_tui.modals.confirm import Answer, Confirm
from localtune_tui.run_view import RunView
from localtune_tui.screens.divided import DividedScreen
from localtune_tui.watching import Watched

RESUMABLE = ("stopped", "failed", "crashed", "created")
STOP_ANSWERS = (
    Answer("stop", "Save and stop"),
    Answer("stop-now", "Stop now", danger=True),
    Answer("keep", "Keep going"),
)
STOP_DETAIL = (
    "Save and stop writes a checkpoint first; r goes on from it. Stop now ends at once: what came after the last "
    "checkpoint is trained again on a resume."
)
PAUSE_DETAIL = (
    "A run cannot wait in memory. To pause, it saves a checkpoint and stops; r goes on from there at any time, as if "
    "it had not stopped."
)


class SteeringScreen(DividedScreen):
    """A screen that is about one run."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop", "Stop…", id="live.stop", tooltip="Ask the run to end: with a checkpoint, or at once."),
        Binding("p", "pause", "Pause…", id="live.pause", tooltip="Save and stop; r goes on from there."),
        Binding("w", "save", "Save", id="live.save", tooltip="Ask for a checkpoint at the next update."),
        Binding("r", "resume", "Resume", id="live.resume", tooltip="Go on with a run that stopped, failed or crashed."),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.watched: Watched | None = None

    @property
    def view(self) -> RunView:
        """The run as it was last seen."""
        return self.watched.follower.view if self.watched else RunView("")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave out what cannot be asked of this run, grey what another app has to ask."""
        if (action == "stop" and not self.view.alive) or (action in ("pause", "save") and not self.view.works):
            return False
        if action == "resume" and (self.watched is None or self.view.state not in RESUMABLE):
            return False
        if action in ("stop", "pause", "save", "resume") and not self.app.in_control:
            return None
        return super().check_action(action, parameters)

    @work
    async def action_stop(self) -> None:
        """Ask how to stop."""
        await self._ask_to_stop(f"Stop {self.view.name}?", STOP_DETAIL, STOP_ANSWERS)

    @work
    async def action_pause(self) -> None:
        """Say what a pause is, and ask."""
        await self._ask_to_stop(f"Pause {self.view.name}?", PAUSE_DETAIL, (STOP_ANSWERS[0], STOP_ANSWERS[2]))

    async def _ask_to_stop(self, question: str, detail: str, answers: tuple[Answer, ...]) -> None:
        answer = await self.app.push_screen_wait(Confirm(question, detail, answers))
        if answer == "stop":
            self._request("stop")
        elif answer == "stop-now":
            self._request("stop-now")

    def action_save(self) -> None:
        """Ask for a checkpoint."""
        self._request("save")

    @work(thread=True, exit_on_error=False)
    def _request(self, what: Request) -> None:
        if self.watched is None:
            return
        run = self.watched.follower.run
        try:
            if not run.folder.is_dir():
                raise FileNotFoundError(2, "the folder is gone")
            run.request(what)
        except OSError as error:
            said = f"not asked: {run.control} cannot be written ({error.strerror or error})"
            self.app.call_from_thread(self.app.say, said, error=True)

    def action_resume(self) -> None:
        """Go on with the run."""
        self.app.say(f"resuming {self.view.name} …")
        self._resume(self.view.name if self.watched is None else str(self.watched.follower.run.folder))

    @work(thread=True, exit_on_error=False)
    def _resume(self, name: str) -> None:
        try:
            Asked().run_json("run", "--resume", name, "--detach", "--json")
        except AskError as error:
            if not error.cancelled:
                self.app.call_from_thread(self.app.say, error.text, error=True)
