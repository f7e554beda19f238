"""A conversation at the terminal: what is shown, what is remembered, and how Ctrl+C ends an answer."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from localtune.chat.answer import Answer, Speaker, Wishes
from localtune.chat.opening import Chat
from localtune.chat.talk import Talk
from localtune.cli.answers import measured, show_answers
from localtune.cli.chat import _converse, _heard, _opened, _tell
from localtune.data.conversations import Message
from localtune.errors import InputError, Problem
from localtune.llamacpp import Ended, LlamaServer
from tests.unit.chat.tiny_gguf import write_gguf


class Parrot:
    """Repeats, in two pieces, and remembers what it was shown; "too much" is refused.

    "stop" is interrupted after the first piece, "stop base" where the base says it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.shown: list[list[str]] = []

    def reply(self, messages: Sequence[Message], wishes: Wishes) -> Generator[str, None, Ended]:
        self.shown.append([message.content for message in messages])
        if messages[-1].content == "too much":
            raise InputError(Problem("chat.context", "too long", fix="shorten the conversation"))
        yield f"{self.name} "
        if messages[-1].content in ("stop", f"stop {self.name}"):
            raise KeyboardInterrupt
        yield messages[-1].content
        return Ended(2, True)


def _talk(*voices: str, template: bool = True, system: str | None = None) -> tuple[Talk, dict[str, Parrot]]:
    parrots = {who: Parrot(who) for who in ("tuned", "base")}

    def tuned(stack: ExitStack) -> Speaker:
        return parrots["tuned"]

    def base(stack: ExitStack) -> Speaker:
        return parrots["base"]

    chat = Chat("run", template, {"tuned": tuned, "base": base})
    talk = Talk(chat, voices or ("tuned",), Wishes(), system, show_answers, _tell)
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
    _heard(talk, "stop")
    talk.ask("on")
    assert parrots["tuned"].shown[1] == ["stop", "tuned ", "on"]
    said = capsys.readouterr()
    assert said.out == "tuned \ntuned on\n"
    assert "cut off" in said.err


def test_answers_keep_newlines_and_tabs_but_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    talk, _ = _talk()
    talk.ask("a\n\tb\x1b[31m\u202e\r" + "x" * 5000)
    assert capsys.readouterr().out == "tuned a\n\tb\\x1b[31m\\u202e\\r" + "x" * 5000 + "\n"


def test_what_joins_letters_and_emoji_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    talk, _ = _talk()
    talk.ask("می\u200cخواهم क\u094d\u200dष 👩\u200d🚀\u200b")
    assert capsys.readouterr().out == "tuned می\u200cخواهم क\u094d\u200dष 👩\u200d🚀\\u200b\n"


def _typed(talk: Talk, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    waiting = iter(lines)

    def typed(prompt: str) -> str:
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)
    _converse(talk)


def test_a_text_to_be_continued_stays_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ("  Once upon ", "   ", " /reset ", "a", "/exit", "never")
    for template, heard in ((False, "  Once upon "), (True, "Once upon")):
        talk, parrots = _talk(template=template)
        _typed(talk, monkeypatch, *lines)
        assert parrots["tuned"].shown == [[heard], ["a"]]
        talk.ask(lines[0])
        assert parrots["tuned"].shown[-1][-1] == lines[0]


def test_a_full_context_names_what_can_be_typed_against_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    talk, _ = _talk(system="be kind")
    _typed(talk, monkeypatch, "too much", "one", "too much", "/reset", "three")
    said = capsys.readouterr()
    fixes = [line.strip() for line in said.err.splitlines() if "fix:" in line]
    assert fixes == ["fix: shorten the text", "fix: /reset"]
    assert said.out.splitlines()[-1] == "tuned three"


class _Cut:
    """Draws five tokens and is cut."""

    def reply(self, messages: Sequence[Message], wishes: Wishes) -> Generator[str, None, Ended]:
        yield "a"
        return Ended(5, False)


def test_a_cut_answer_says_which_limit_it_met() -> None:
    for most, says in ((5, "cut at --max-tokens]"), (6, "cut where the model's context is full]")):
        answer = Answer(_Cut(), [Message("user", "a")], Wishes(max_tokens=most))
        list(answer)
        assert measured(answer).endswith(says)


@pytest.mark.parametrize("template", [None, ""])
def test_a_gguf_without_a_template_is_continued_where_llama_cpp_would_apply_chatml(
    template: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("xllamacpp")
    path = write_gguf(tmp_path / "base.gguf", template=template)
    with LlamaServer(path, exact=False) as server:
        ids = server.tokenize(" a b", special=True, parse=False)
        raw = server.complete(ids, tokens=9).text
        assert "<|im_start|>" in server.template([{"role": "user", "content": " a b"}])
    with _opened(str(path)) as opened:
        talk = Talk(opened, opened.who, Wishes(max_tokens=9), None, show_answers, _tell)
        talk.load()
        talk.ask(" a b")
    said = capsys.readouterr()
    assert said.out == raw + "\n"
    assert "no chat template: each text is continued as it is" in said.err


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


def test_ctrl_c_leaves_both_answers_on_the_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    talk, parrots = _talk("base", "tuned")
    _heard(talk, "stop tuned")
    _, erased, left = capsys.readouterr().out.rpartition("\x1b[2K")
    assert erased
    assert any("base stop tuned" in line and "tuned " in line.split("base stop tuned")[1] for line in left.splitlines())
    talk.ask("on")
    assert [parrots[who].shown[1][1] for who in ("base", "tuned")] == ["base stop tuned", "tuned "]


def test_a_refused_question_leaves_no_empty_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    talk, _ = _talk("base", "tuned")
    monkeypatch.setattr(Parrot, "reply", _refuses)
    _heard(talk, "x")
    assert "base" not in capsys.readouterr().out


def _refuses(parrot: Parrot, messages: Sequence[Message], wishes: Wishes) -> Generator[str, None, Ended]:
    raise InputError(Problem("chat.context", "too long"))
    yield ""
