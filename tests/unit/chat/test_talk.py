"""A conversation at the terminal: what is shown, what is remembered, and how Ctrl+C ends an answer."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack

import pytest

from localtune.chat.answer import Speaker, Wishes
from localtune.chat.opening import Chat
from localtune.cli.chat import Talk, _asked
from localtune.data.conversations import Message
from localtune.errors import InputError
from localtune.llamacpp import Ended


class Parrot:
    """Repeats, in two pieces, and remembers what it was shown; "stop" is interrupted after the first."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shown: list[list[str]] = []

    def reply(self, messages: Sequence[Message], wishes: Wishes) -> Generator[str, None, Ended]:
        self.shown.append([message.content for message in messages])
        yield f"{self.name} "
        if messages[-1].content == "stop":
            raise KeyboardInterrupt
        yield messages[-1].content
        return Ended(2, True)


def _talk(*voices: str, template: bool = True, system: str | None = None) -> tuple[Talk, dict[str, Parrot]]:
    parrots = {who: Parrot(who) for who in ("tuned", "base")}

    def tuned(stack: ExitStack) -> Speaker:
        return parrots["tuned"]

    def base(stack: ExitStack) -> Speaker:
        return parrots["base"]

    talk = Talk(Chat("run", template, {"tuned": tuned, "base": base}), voices or ("tuned",), Wishes(), system)
    talk.load()
    return talk, parrots


def test_the_model_sees_what_was_said_until_a_reset() -> None:
    talk, parrots = _talk(system="be kind")
    talk.ask("one")
    talk.ask("two")
    talk.reset()
    talk.ask("three")
    first = ["be kind", "one"]
    assert parrots["tuned"].shown == [first, [*first, "tuned one", "two"], ["be kind", "three"]]


def test_each_voice_remembers_its_own_answers() -> None:
    talk, parrots = _talk("base", "tuned")
    talk.ask("one")
    talk.ask("two")
    assert parrots["base"].shown[1] == ["one", "base one", "two"]
    assert parrots["tuned"].shown[1] == ["one", "tuned one", "two"]


def test_without_a_template_nothing_is_remembered_and_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    talk, parrots = _talk(template=False)
    talk.ask("one")
    talk.ask("two")
    assert parrots["tuned"].shown == [["one"], ["two"]]
    assert "nothing is remembered" in capsys.readouterr().err


def test_ctrl_c_ends_the_answer_and_what_was_said_stands(capsys: pytest.CaptureFixture[str]) -> None:
    talk, parrots = _talk()
    _asked(talk, "stop")
    talk.ask("on")
    assert parrots["tuned"].shown[1] == ["stop", "tuned ", "on"]
    said = capsys.readouterr()
    assert said.out == "tuned \ntuned on\n"
    assert "cut off" in said.err


def test_answers_keep_newlines_and_tabs_but_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    talk, _ = _talk()
    talk.ask("a\n\tb\x1b[31m\u202e\r" + "x" * 5000)
    assert capsys.readouterr().out == "tuned a\n\tb\\x1b[31m\\u202e\\r" + "x" * 5000 + "\n"


def test_bytes_that_are_no_text_are_refused() -> None:
    talk, parrots = _talk()
    with pytest.raises(InputError, match="not UTF-8"):
        talk.ask("a\udcff")
    assert not parrots["tuned"].shown


@pytest.mark.parametrize(("columns", "beside"), [("120", True), ("80", False)])
def test_answers_stand_side_by_side_where_there_is_room(
    columns: str, beside: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    talk, _ = _talk("base", "tuned")
    talk.ask("[bold]hi")
    lines = capsys.readouterr().out.splitlines()
    assert any("base [bold]hi" in line and "tuned [bold]hi" in line for line in lines) is beside
    assert ("── base" in lines) is not beside
