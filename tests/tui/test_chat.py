"""Chat: base and tuned answer side by side, what is typed reaches the child, and its end is a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from localtune_tui import beside
from localtune_tui.app import LocaltuneApp
from localtune_tui.screens.chat import ChatScreen
from localtune_tui.widgets.chat_line import ChatLine
from localtune_tui.widgets.chat_pane import ChatPane
from textual.pilot import Pilot
from textual.widgets import Input

from tests.goals import Reached
from tests.tui.conftest import some
from tests.tui.recorded_chat import QUESTION, Replayed, child
from tests.tui.recorded_run import NAME, recorded_run
from tests.tui.screen_text import SIZES, assert_clean, begun, looks_as, says, screen_text, until, widget_text

__all__ = ["child"]
ASKED = [{"role": "user", "content": QUESTION}]


async def opened(pilot: Pilot[Any], target: str = NAME) -> ChatScreen:
    """Chat with `target`, once it is ready."""
    app = pilot.app
    assert isinstance(app, LocaltuneApp)
    await begun(pilot)
    app.chat_with(target)
    await until(pilot, lambda: isinstance(app.screen, ChatScreen) and app.screen.state == "ready")
    screen = app.screen
    assert isinstance(screen, ChatScreen)
    return screen


async def asked(pilot: Pilot[Any], screen: ChatScreen, text: str = QUESTION) -> None:
    """Type `text`, and wait for the answers."""
    count = len(screen.talk.exchanges)
    screen.line.value = text
    await pilot.press("enter")
    await until(pilot, lambda: len(screen.talk.exchanges) > count and not screen.talk.pending)
    await pilot.pause()


@pytest.mark.parametrize("size", SIZES)
async def test_a_comparison_looks_as_drawn(child: type[Replayed], size: tuple[int, int]) -> None:
    recorded_run()
    async with LocaltuneApp().run_test(size=size) as pilot:
        screen = await opened(pilot)
        screen.line.cursor_blink = False
        await asked(pilot, screen)
        await pilot.press("plus")
        await says(pilot, "(kept as good)")
        await looks_as(pilot, f"chat-{size[0]}x{size[1]}", lambda: screen_text(pilot.app))


async def test_nothing_is_loaded_before_the_first_question(child: type[Replayed]) -> None:
    recorded_run()
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        await pilot.press("4")
        await says(pilot, "support-bot: not in memory; the first question loads it")
        assert child.made == []
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: bool(child.made) and len(child.made[0].requests) == 2)
        assert child.made[0].target == NAME


async def test_base_and_tuned_are_asked_in_turn_with_the_same_seed(child: type[Replayed]) -> None:
    recorded_run()
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)
        await asked(pilot, screen)
        await asked(pilot, screen, "and back")
        first, second, third, fourth = child.made[0].requests
        assert [one["who"] for one in (first, second, third, fourth)] == ["base", "tuned", "base", "tuned"]
        assert {(one["seed"], one["temperature"]) for one in (first, second)} == {(0, 0.0)}
        assert first["messages"] == second["messages"] == ASKED
        assert third["messages"][1]["content"] == "Your ride from the station to the zoo is on its way."
        assert fourth["messages"][1]["content"].startswith('{"intent": "taxi"')
        assert "18.9 tok/s" in widget_text(screen.query_one("#pane-base"))
        assert "22.5 tok/s" in widget_text(screen.query_one("#pane-tuned"))


async def test_tab_lets_the_tuned_model_answer_alone_and_again_beside_the_base(child: type[Replayed]) -> None:
    recorded_run()
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)
        await pilot.press("tab")
        await until(pilot, lambda: not screen.query_one("#pane-base").display)
        await asked(pilot, screen)
        assert [one["who"] for one in child.made[0].requests] == ["tuned"]
        await pilot.press("tab")
        await asked(pilot, screen, "again")
        base = child.made[0].requests[1]
        assert base["who"] == "base"
        assert [turn["content"][:9] for turn in base["messages"]] == ["Get me a ", '{"intent"', "again"]


async def test_signs_rate_while_the_line_is_empty_and_are_typed_otherwise(child: type[Replayed]) -> None:
    recorded_run()
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)
        await pilot.press("plus")
        assert child.made[0].requests == []
        await asked(pilot, screen)
        await pilot.press("1", "plus", "1", "minus")
        assert screen.line.value == "1+1-"
        assert len(child.made[0].requests) == 2
        screen.line.value = ""
        await pilot.press("minus")
        await says(pilot, "(kept as bad)")
        assert child.made[0].requests[-1] == {"keep": "2", "good": False}
        await pilot.press("escape", "plus")
        assert child.made[0].requests[-1] == {"keep": "2", "good": True}
        await says(pilot, "(kept as good)")


async def test_escape_ends_an_answer_and_then_leaves_the_line(child: type[Replayed]) -> None:
    recorded_run()
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)
        child.made[0].held = True
        screen.line.value = QUESTION
        await pilot.press("enter")
        await says(pilot, "support-bot: base answers …")
        await says(pilot, "Your▌")
        await says(pilot, "esc Stop")
        await pilot.press("enter")
        await pilot.press("escape")
        await until(pilot, lambda: not screen.talk.pending)
        assert child.made[0].requests[2:] == [{"cancel": "1"}, {"cancel": "2"}]
        await says(pilot, "(cut off)")
        await says(pilot, "esc Panes")
        assert isinstance(screen.focused, ChatLine)
        await pilot.press("escape")
        assert isinstance(screen.focused, ChatPane)
        await says(pilot, "⏎ Type")
        await pilot.press("3")
        await begun(pilot, "live")


async def test_temperature_seed_and_system_text_are_asked_for_and_checked(child: type[Replayed]) -> None:
    recorded_run()
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)
        await pilot.press("ctrl+t")
        await says(pilot, "How answers are drawn")
        dialog = pilot.app.screen
        dialog.query_one("#wish-temperature", Input).value = "hot"
        await pilot.press("enter")
        await says(pilot, "temperature: hot is not a number from 0")
        dialog.query_one("#wish-temperature", Input).value = "0.7"
        dialog.query_one("#wish-seed", Input).value = "5"
        dialog.query_one("#wish-system", Input).value = "Be brief."
        await pilot.press("enter")
        await says(pilot, "temperature 0.7 · seed 5 · at most 1,024 tokens · system: Be brief.")
        await asked(pilot, screen)
        request = child.made[0].requests[0]
        assert (request["temperature"], request["seed"]) == (0.7, 5)
        assert request["messages"] == [{"role": "system", "content": "Be brief."}, *ASKED]
        await pilot.press("ctrl+r")
        await until(pilot, lambda: len(child.made[0].requests) == 4)
        assert child.made[0].requests[3]["seed"] == 6
        assert len(screen.talk.exchanges) == 1


async def test_the_reply_is_copied_and_what_was_said_is_forgotten(
    child: type[Replayed], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    monkeypatch.setattr(LocaltuneApp, "copy", lambda self, text: copied.append(text))
    recorded_run()
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)
        await asked(pilot, screen)
        await pilot.press("ctrl+y")
        assert copied == ['{"intent": "taxi", "from": "station", "to": "zoo"}']
        await pilot.press("ctrl+n")
        assert screen.talk.exchanges == []
        await until(pilot, lambda: "taxi" not in screen_text(pilot.app))


async def test_a_child_that_ends_is_a_sentence_with_its_words_and_begins_again(child: type[Replayed]) -> None:
    recorded_run()
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)
        child.made[0].held = True
        screen.line.value = QUESTION
        await pilot.press("enter")
        await until(pilot, lambda: bool(screen.talk.pending))
        child.made[0].say({"event": "ended", "code": 4, "text": "error[memory.full]: it does not fit\n  fix: less"})
        await says(pilot, "error[memory.full]: it does not fit")
        text = screen_text(pilot.app)
        assert "the chat has ended; ^r begins it again" in text
        assert "(cut off: the chat has ended)" in " ".join(text.split())
        await pilot.press("ctrl+r")
        await until(pilot, lambda: len(child.made) == 2 and len(child.made[1].requests) == 2)
        assert child.made[1].requests[1]["messages"] == ASKED


async def test_another_model_and_the_end_of_the_app_end_the_child(child: type[Replayed], tmp_path: Path) -> None:
    recorded_run()
    file = tmp_path / "x-Q8_0.gguf"
    file.write_bytes(b"GGUF")
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        await opened(pilot)
        screen = await opened(pilot, str(file))
        await until(pilot, lambda: len(child.made) == 2)
        assert child.made[0].ended
        await asked(pilot, screen)
        assert [one["who"] for one in child.made[1].requests] == ["model"]
        await pilot.press("tab")
        await says(pilot, "x-Q8_0.gguf alone has no base to compare with")
    assert child.made[1].ended


async def test_a_question_that_a_failing_child_never_got_is_back_in_the_line(
    child: type[Replayed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Replayed):
        def say(self, event: Any) -> None:
            super().say({"event": "ended", "code": 2, "text": "error[gguf.unreadable]: another format"})

    (tmp_path / "foreign.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("localtune_tui.screens.loaded_chat.ChatChild", Failing)
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        await pilot.press("4")
        await begun(pilot, "chat")
        screen = pilot.app.screen
        assert isinstance(screen, ChatScreen)
        screen.target = str(tmp_path / "foreign.gguf")
        await pilot.press(*"hi", "enter")
        await says(pilot, "another format")
        assert (screen.line.value, screen.first) == ("hi", "")


async def test_u_takes_the_model_out_of_memory(child: type[Replayed]) -> None:
    recorded_run()
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)
        await pilot.press("escape", "u")
        await says(pilot, "not in memory")
        assert child.made[0].ended
        screen.first = "hi"
        screen.action_unload()
        assert (screen.line.value, screen.first) == ("hi", "")


async def test_runs_and_their_files_are_there_to_be_picked(child: type[Replayed]) -> None:
    run = recorded_run()
    run.export.mkdir()
    run.adapter.mkdir()
    (run.export / "bot-Q8_0.gguf").write_bytes(b"GGUF")
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        await pilot.press("4")
        await begun(pilot, "chat")
        await pilot.press("escape", "o")
        await says(pilot, "base and tuned")
        await pilot.press(*"Q8_0")
        await until(pilot, lambda: "base and tuned" not in screen_text(pilot.app))
        await pilot.press("enter")
        await until(pilot, lambda: bool(child.made))
        assert child.made[0].target == str(run.export / "bot-Q8_0.gguf")


async def test_with_nobody_to_talk_to_there_is_a_way_on(child: type[Replayed]) -> None:
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        await pilot.press("4")
        await says(pilot, "nobody to talk to yet: Escape, then o picks")
        await pilot.press(*"hi", "enter")
        await says(pilot, "pick who to talk to first")
        assert child.made == []


async def test_a_second_model_beside_a_training_is_loaded_only_where_it_fits_or_after_a_yes(
    child: type[Replayed], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded_run("other-20261121-201036")
    recorded_run(steps=40, state="running")
    monkeypatch.setattr(beside, "_available", lambda: 900_000_000)
    monkeypatch.setattr(beside, "_resident", lambda run: 700_000_000)
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        app = pilot.app
        assert isinstance(app, LocaltuneApp)
        screen = await opened(pilot, "other-20261121-201036")
        assert f"{NAME} trains now and leaves 788 MB of memory" in screen.note
        await says(pilot, "this model needs about 585 MB")
        await pilot.press("escape", "u")
        monkeypatch.setattr(beside, "_available", lambda: 500_000_000)
        await pilot.press("enter", *"hi", "enter")
        await says(pilot, "Load a second model?")
        await pilot.press("enter")
        await says(pilot, "not loaded:")
        assert len(child.made) == 1
        assert screen.line.value == "hi"
        await pilot.press("enter")
        await says(pilot, "Load a second model?")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: len(child.made) == 2)


async def test_hostile_answers_leave_the_screen_whole(child: type[Replayed], hostile: list[str], goal: Reached) -> None:
    recorded_run()
    chosen = some(hostile, 3)
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)
        for text in chosen:
            screen.talk.reset()
            screen.ask(text)
            number = screen.talk.exchanges[0].replies["tuned"].number
            screen.talk.exchanges[0].replies["tuned"].stopped = ""
            for event in ({"event": "token", "text": text}, {"event": "error", "text": text, "code": text}):
                child.made[0].say(event | {"id": number})
            screen.drain()
            await pilot.pause()
            assert_clean(screen_text(pilot.app))
            json.dumps(child.made[0].requests[-1])
        child.made[0].say({"event": "ended", "code": 1, "text": "\n".join(hostile)})
        await until(pilot, lambda: screen.state == "over")
        assert_clean(screen_text(pilot.app))
    goal("screen", f"Chat: {len(chosen)} strings")
