"""What is typed with a slash: it changes what it says and nothing else, and a mistake is answered with the way out."""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localtune.chat.adapters import Adapters
from localtune.chat.answer import Answer, Speaker, Wishes
from localtune.chat.commands import COMMANDS, is_command, obey
from localtune.chat.opening import Chat
from localtune.chat.talk import Talk
from localtune.cli.chat import _heard
from localtune.data.conversations import Conversation, Message, Pair
from localtune.data.reading import find
from localtune.data.rows import BadRows
from localtune.data.shapes import examples
from localtune.errors import InputError
from localtune.llamacpp import Ended
from localtune.settings import DataSettings


class Counter:
    """Answers with its name, the seed and how many messages it was shown; "cut" is cut, "stop" interrupted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shown: list[list[tuple[str, str]]] = []
        self.wishes: list[Wishes] = []

    def reply(self, messages: Sequence[Message], wishes: Wishes) -> Generator[str, None, Ended]:
        self.shown.append([(message.role, message.content) for message in messages])
        self.wishes.append(wishes)
        yield f"{self.name} {len(self.shown)}"
        if messages[-1].content == "stop":
            raise KeyboardInterrupt
        return Ended(2, messages[-1].content != "cut")


class Room:
    """A talk whose answers are heard and not shown, and what it was told."""

    def __init__(self, folder: Path, *, template: bool = True, adapters: Adapters | None = None) -> None:
        self.voices = {who: Counter(who) for who in ("tuned", "base")}
        self.told: list[str] = []

        def opener(who: str) -> Any:
            def opened(stack: ExitStack) -> Speaker:
                return self.voices[who]

            return opened

        chat = Chat("run", template, {who: opener(who) for who in self.voices}, feedback=folder, adapters=adapters)
        self.talk = Talk(chat, ("tuned",), Wishes(), None, self._hear, self.told.append)
        self.talk.load()
        self.told.clear()

    def _hear(self, answers: Mapping[str, Answer]) -> None:
        for answer in answers.values():
            list(answer)

    def type(self, *lines: str) -> None:
        for line in lines:
            assert _heard(self.talk, line)

    def refused(self, line: str) -> str:
        with pytest.raises(InputError) as caught:
            obey(self.talk, line)
        return str(caught.value)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "feedback")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def as_data(path: Path) -> list[Any]:
    """What training and tests read of the file; no row may be bad."""
    settings = DataSettings(train=str(path))
    bad = BadRows("stop")
    _, found = examples(find(path.name, path.parent).rows(bad), settings, bad)
    return list(found)


def test_sampling_is_changed_from_the_next_answer_on(room: Room) -> None:
    room.type("/temp 0.7", "/top-p 0.9", "/seed 5", "/max 12", "hi", "/temp", "/temp 0")
    assert room.voices["tuned"].wishes == [Wishes(0.7, 0.9, 5, 12)]
    assert room.told[-2:] == ["temperature 0.7", "temperature 0, the likeliest word each time"]


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("/temp -1", "/temp 0"),
        ("/temp warm", "/temp 0"),
        ("/temp nan", "/temp 0"),
        ("/temp inf", "/temp 0"),
        ("/top-p 0", "/top-p 1"),
        ("/top-p 1.5", "/top-p 1"),
        ("/seed 1.5", "/seed 0"),
        ("/seed -1", "/seed 0"),
        ("/max 0", "/max 1024"),
        ("/max 99999999999", "/max 1024"),
    ],
)
def test_a_number_out_of_range_changes_nothing(room: Room, line: str, fix: str) -> None:
    assert f"fix: {fix}" in room.refused(line)
    assert room.talk.wishes == Wishes()


def test_a_mistyped_command_is_not_sent_and_near_ones_are_named(room: Room) -> None:
    said = room.refused("/hlep me")
    assert "there is no /hlep; near it: /help" in said
    assert "// begins a text with a slash" in said
    assert "/exit" in room.refused("/exti")
    assert room.voices["tuned"].shown == []


def test_two_slashes_send_one(room: Room) -> None:
    room.type("//etc/hosts // what?", "  //x")
    assert [shown[-1][1] for shown in room.voices["tuned"].shown] == ["/etc/hosts // what?", "/x"]
    assert is_command("  /x")
    assert not is_command("a /x")


def test_help_names_every_command(room: Room) -> None:
    room.type("/help")
    assert [line.split()[0] for line in room.told[:-2]] == list(COMMANDS)


def test_a_system_turn_holds_from_the_next_question_on(room: Room) -> None:
    room.type("one", "/system be kind", "two", "/system", "/system off", "three")
    first, second, third = room.voices["tuned"].shown
    assert first == [("user", "one")]
    assert second == [("system", "be kind"), ("user", "one"), ("assistant", "tuned 1"), ("user", "two")]
    assert third[0] == ("user", "one")
    assert "system: be kind   (/system off  leaves it out)" in room.told


def test_without_a_template_a_system_turn_is_refused(tmp_path: Path) -> None:
    assert "no chat template" in Room(tmp_path, template=False).refused("/system x")


def test_the_base_joins_with_the_same_conversation_and_leaves_again(room: Room) -> None:
    room.type("one", "/compare", "two", "/compare", "three")
    base, tuned = room.voices["base"].shown, room.voices["tuned"].shown
    assert base == [[("user", "one"), ("assistant", "tuned 1"), ("user", "two")]]
    assert len(tuned) == 3
    assert tuned[2][3] == ("assistant", "tuned 2")
    assert room.told == ["base and tuned answer", "tuned answers alone"]


def test_where_there_is_no_base_comparing_is_refused() -> None:
    talk = Talk(Chat("m.gguf", True, {"model": lambda stack: Counter("m")}), ("model",), Wishes(), None, print, print)
    with pytest.raises(InputError, match="no base to compare with"):
        obey(talk, "/compare")


def test_a_retry_asks_the_same_again_without_the_answer(room: Room) -> None:
    room.type("one", "two", "/retry")
    _, second, third = room.voices["tuned"].shown
    assert second == third
    assert room.talk.turns["tuned"][-1].content == "tuned 3"
    room.type("/temp 1", "/retry", "/retry")
    assert [wishes.seed for wishes in room.voices["tuned"].wishes] == [0, 0, 0, 1, 2]
    assert len(room.talk.turns["tuned"]) == 4


def test_a_retry_of_nothing_is_refused_and_a_reset_forgets(room: Room) -> None:
    assert "nothing was asked yet" in room.refused("/retry")
    room.type("one", "/reset")
    assert "nothing was asked yet" in room.refused("/retry")
    assert room.talk.turns == {"tuned": []}


def test_after_an_interrupted_answer_the_question_can_be_asked_again(room: Room) -> None:
    room.type("stop", "/retry")
    first, second = room.voices["tuned"].shown
    assert first == second == [("user", "stop")]


def test_saving_appends_rows_that_training_reads(room: Room, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "chat.jsonl"
    room.type("/system be kind", "zwei Wörter\u2028", f"/save {path}", "more", f"/save {path}")
    first, second = as_data(path)
    assert [message.content for message in first.messages] == ["be kind", "zwei Wörter", "tuned 1"]
    assert len(second.messages) == 5
    assert "5 turns appended" in room.told[-1]


def test_a_last_line_without_its_end_is_not_run_into(room: Room, tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text('{"messages": []}')
    room.type("a", f"/save {path}")
    assert len(rows(path)) == 2


@pytest.mark.parametrize("content", ["notes of mine\n", "[\n {}\n]", '{\n "a": 1\n}\n', "\x00\x01", "\n\n x"])
def test_a_file_of_something_else_is_left_as_it_is(room: Room, tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    room.type("a")
    assert "is left as it is" in room.refused(f"/save {path}")
    assert path.read_text() == content


def test_what_cannot_be_saved_is_one_line(room: Room, tmp_path: Path) -> None:
    assert "no conversation yet" in room.refused(f"/save {tmp_path / 'a.jsonl'}")
    room.type("a")
    assert "where to?" in room.refused("/save")
    assert "cannot be written" in room.refused(f"/save {tmp_path}")
    assert "cannot be written" in room.refused("/save a\0b")
    assert "not UTF-8" in room.refused("/save a\udcff")
    assert "is left as it is" in room.refused(f"/save {Path(__file__)}")
    assert "cannot be written" in room.refused(f"/save {tmp_path / ('n' * 300)}")


def test_a_good_answer_is_a_row_that_only_it_is_learned_from(room: Room) -> None:
    room.type("/system be kind", "one", "two", "/good", "/reset", "three", "/good")
    path = room.talk.opened.feedback / "good.jsonl"
    first, second = as_data(path)
    assert isinstance(first, Conversation)
    assert [(m.role, m.content, m.weight) for m in first.messages] == [
        ("system", "be kind", 1.0),
        ("user", "one", 1.0),
        ("assistant", "tuned 1", 0.0),
        ("user", "two", 1.0),
        ("assistant", "tuned 2", 1.0),
    ]
    assert len(second.messages) == 3
    assert f"noted as good in {path.resolve()}" in room.told
    assert room.told[-1] == "noted as good"


def test_a_bad_answer_goes_to_one_file_and_the_better_one_to_the_other(room: Room) -> None:
    room.type("one", "/bad the better answer", "/reset", "cut", "/bad")
    folder = room.talk.opened.feedback
    assert [row["messages"][-1]["content"] for row in rows(folder / "bad.jsonl")] == ["tuned 1", "tuned 2"]
    (good,) = as_data(folder / "good.jsonl")
    assert [message.content for message in good.messages] == ["one", "the better answer"]


def test_where_two_are_compared_the_tuned_answer_is_rated(room: Room) -> None:
    room.type("/compare", "one", "/good")
    (row,) = rows(room.talk.opened.feedback / "good.jsonl")
    assert row["messages"][-1]["content"] == "tuned 1"


@pytest.mark.parametrize("asked", ["cut", "stop"])
def test_an_answer_that_was_cut_off_is_not_good(room: Room, asked: str) -> None:
    room.type(asked)
    assert "cut off" in room.refused("/good")
    assert not room.talk.opened.feedback.exists()


def test_an_answer_is_rated_once(room: Room) -> None:
    assert "no answer to rate" in room.refused("/good")
    room.type("one", "/bad")
    assert "noted as bad already" in room.refused("/good")
    assert "takes no text" in room.refused("/good x")


def test_a_text_that_was_continued_is_prompt_and_completion(tmp_path: Path) -> None:
    room = Room(tmp_path, template=False)
    room.type("Once upon ", "/good")
    (example,) = as_data(tmp_path / "good.jsonl")
    assert isinstance(example, Pair)
    assert (example.prompt, example.completion) == ("Once upon ", "tuned 1")


def test_adapters_are_listed_and_chosen(tmp_path: Path) -> None:
    room = Room(tmp_path, adapters=Adapters((tmp_path / "formal.gguf", tmp_path / "brief.gguf")))
    room.type("/lora", "/lora brief")
    assert room.told == ["1  formal  on", "2  brief  off", "1  formal  off", "2  brief  on"]
    assert "no adapter is called 'long'" in room.refused("/lora long")


def test_where_there_are_no_adapters_the_way_to_some_is_named(room: Room) -> None:
    assert "--lora A.gguf" in room.refused("/lora")


@settings(max_examples=200, deadline=None)
@given(line=st.sampled_from([name for name in COMMANDS if name != "/save"]).flatmap(
    lambda name: st.text(max_size=20).map(lambda rest: f"{name} {rest}")
) | st.text(max_size=20).map(lambda rest: f"/{rest}"))  # fmt: skip
def test_whatever_is_typed_the_chat_goes_on(line: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    room = Room(tmp_path_factory.getbasetemp() / "any")
    room.type("one")
    assert _heard(room.talk, line) or line.strip().startswith("/exit")
