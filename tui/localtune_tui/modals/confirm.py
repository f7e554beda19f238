"""A question with two or three answers; the careful one is first, has the focus, and is what escape means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, Literal, TypeVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static
from textual.worker import Worker

from localtune_tui.screens.base import TOO_SMALL
from localtune_tui.text import plain, shown

if TYPE_CHECKING:
    from localtune_tui.app import LocaltuneApp

Result = TypeVar("Result")


@dataclass(frozen=True)
class Answer:
    """One button."""

    value: str
    """What the question comes back with."""
    label: str
    danger: bool = False
    """It takes something away."""


class Dialog(ModalScreen[Result], Generic[Result]):
    """What all dialogs share: escape leaves them without an answer."""

    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; color: $foreground; }
    Dialog:ansi { background: ansi_default; }
    Dialog .dialog {
        width: 72; max-width: 96%; height: auto; max-height: 94%;
        border: round $accent; background: $surface; padding: 0 1;
    }
    Dialog:ansi .dialog { background: ansi_default; }
    Dialog Button { margin: 0 1 0 0; min-width: 12; }
    Dialog .choices { height: auto; padding: 1 0 0 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="dialog.leave", tooltip="Close the dialog; nothing changes."),
        Binding("question_mark,f1", "app.help", "Help", id="dialog.help", tooltip="Help for this dialog."),
    ]

    @property
    def app(self) -> "LocaltuneApp":  # type: ignore[override]
        """The app, with its own type."""
        return cast("LocaltuneApp", super().app)

    def compose(self) -> ComposeResult:
        """The dialog's box, and the sentence for a terminal too small for it."""
        with Vertical(classes="dialog"):
            yield from self.body()
        yield Static(Content(TOO_SMALL), id="too-small")

    def body(self) -> ComposeResult:
        """What stands in the box."""
        yield from ()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Say what went wrong in the background."""
        self.app.say_failure(event)

    def action_leave(self) -> None:
        """Close it without an answer."""
        self.dismiss(None)


class Confirm(Dialog[str]):
    """Asks `question`; comes back with the `value` of the answer, or None for escape."""

    HELP = "Tab or the arrows go to an answer, Enter takes it, Escape closes the dialog and changes nothing."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "app.focus_next", "Next answer", show=False, id="confirm.next", tooltip="The next answer."),
        Binding("left,h", "app.focus_previous", "Answer before", show=False, id="confirm.previous",
                tooltip="The answer before."),
    ]  # fmt: skip

    def __init__(self, question: str, detail: str = "", answers: Sequence[Answer] = ()) -> None:
        super().__init__()
        self.question, self.detail = question, detail
        self.answers = tuple(answers) or (Answer("no", "No"), Answer("yes", "Yes", danger=True))

    def body(self) -> ComposeResult:
        """Question, what follows from it, and the answers."""
        yield Static(plain(self.question, 400, keep_lines=True).stylize("bold"), id="question")
        if self.detail:
            yield Static(plain(self.detail, 2000, keep_lines=True), id="detail")
        with Horizontal(classes="choices"):
            for number, answer in enumerate(self.answers):
                yield Button(
                    Content(shown(answer.label, 40)),
                    variant=_variant(answer, number),
                    id=f"answer-{number}",
                    compact=True,
                )

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Hand back what was chosen."""
        number = int((event.button.id or "answer-0").removeprefix("answer-"))
        self.dismiss(self.answers[number].value)


def _variant(answer: Answer, number: int) -> Literal["error", "primary", "default"]:
    return "error" if answer.danger else "primary" if number == 0 else "default"
