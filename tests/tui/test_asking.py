"""Questions to the command line: answers, errors, and the end of what nobody waits for."""

import os
import threading
import time
from pathlib import Path

import psutil
import pytest
from localtune_tui.asking import Asked, AskError, end_all

from tests.command import MODEL, QUICKSTART, wait_until


def test_an_answer_is_what_the_command_prints_as_json() -> None:
    names = [recipe["name"] for recipe in Asked().run_json("recipes", "--json")]
    assert "quickstart" in names


def test_an_error_has_the_exit_code_and_the_words_of_the_command_line() -> None:
    with pytest.raises(AskError) as raised:
        Asked().run_json("data", "show", "there-is-none.jsonl", "--json")
    assert (raised.value.code, raised.value.name) == (2, "data.missing")
    assert "no such file" in raised.value.text
    assert not raised.value.cancelled


def test_an_answer_beside_an_error_is_kept(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"messages": [{"role": "user", "content": "x"}]}\n' * 3, encoding="utf-8")
    good = (QUICKSTART / "train.jsonl").read_text(encoding="utf-8").splitlines()[0]
    rows.write_text(good + "\n" + rows.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(AskError) as raised:
        Asked().run_json("data", "check", str(rows), "--json")
    assert raised.value.code == 2
    assert raised.value.value["rows"] == 4


def test_lines_come_as_they_are_printed() -> None:
    lines: list[str] = []
    data = str(QUICKSTART / "valid.jsonl")
    Asked().stream("data", "list", data, "-m", str(MODEL), "-n", "3", "--json", on_line=lines.append)
    assert len(lines) == 4
    assert '"type": "end"' in lines[-1]


def test_relative_paths_count_from_the_folder_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes((QUICKSTART / "valid.jsonl").read_bytes())
    assert Asked(folder=tmp_path).run_json("data", "show", "rows.jsonl", "-n", "1", "--json")["rows"]


def test_what_is_cancelled_before_it_is_asked_is_never_started() -> None:
    asked = Asked()
    asked.cancel()
    with pytest.raises(AskError) as raised:
        asked.run_json("recipes", "--json")
    assert raised.value.cancelled


@pytest.mark.skipif(os.name != "posix", reason="a pipe with a name is needed to hold the child")
def test_cancelling_ends_the_child_at_once_and_the_app_ends_all(tmp_path: Path) -> None:
    for end in (lambda asked: asked.cancel(), lambda asked: end_all()):
        asked, raised = Asked(), list[AskError]()
        pipe = tmp_path / f"never-{len(list(tmp_path.iterdir()))}.jsonl"
        os.mkfifo(pipe)  # whoever reads it waits for ever
        os.set_blocking(os.open(pipe, os.O_RDWR), False)
        before = set(psutil.Process().children())
        thread = threading.Thread(target=_ask, args=(asked, raised, pipe))
        thread.start()
        wait_until(lambda: bool(set(psutil.Process().children()) - before))  # noqa: B023
        (child,) = set(psutil.Process().children()) - before
        began = time.monotonic()
        end(asked)
        thread.join(30)
        assert time.monotonic() - began < 20
        assert not child.is_running()
        assert len(raised) == 1


def _ask(asked: Asked, raised: list[AskError], pipe: Path) -> None:
    try:
        asked.stream("data", "list", str(pipe), "--json", on_line=lambda line: None)
    except AskError as error:
        raised.append(error)


def test_a_name_that_no_process_can_be_given_is_an_error_and_no_crash() -> None:
    with pytest.raises(AskError):
        Asked().run_json("data", "show", "a\0b", "--json")
    with pytest.raises(AskError):
        Asked(folder=Path("/there/is/none")).run_json("recipes", "--json")


def test_what_a_child_says_is_safe_for_the_screen() -> None:
    with pytest.raises(AskError) as raised:
        Asked().run_json("data", "show", "\x1b[31mred\u202e.jsonl", "--json")
    assert "\x1b" not in raised.value.text
    assert "\u202e" not in raised.value.text
