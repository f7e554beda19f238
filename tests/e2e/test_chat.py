"""`localtune chat` as a user types it: a run, a folder, a file; one answer, a conversation, another program."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localtune.runs.folder import Run
from tests.command import MODEL, QUICKSTART, Command, short
from tests.e2e.in_process import InProcess
from tests.material import material
from tests.unit.chat.tiny_gguf import write_gguf, write_lora

QUESTION = json.loads((QUICKSTART / "test.jsonl").read_text(encoding="utf-8").splitlines()[0])["messages"][0]["content"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Command, Run]:
    """A short run that has ended."""
    folder = tmp_path_factory.mktemp("chat")
    command = InProcess(folder / "runs")
    result = command("run", *short(folder, steps=3), "--set=watch.samples=[]", "--set=data.valid=none")
    assert result.code == 0, result.err
    return command, Run(next(command.runs.iterdir()))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file that answers at great length."""
    pytest.importorskip("xllamacpp")
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", context=8192, hidden=256)


def _environment(command: Command) -> dict[str, str]:
    return os.environ | {"LOCALTUNE_RUNS": str(command.runs), "OMP_NUM_THREADS": "1", "TERM": "dumb"}


def _piped(command: Command, text: str, *arguments: str | Path) -> str:
    """What is said to `text` on stdin."""
    whole = [sys.executable, "-m", "localtune", *map(str, arguments)]
    environment = _environment(command)
    child = subprocess.run(
        whole, input=text, env=environment, capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


def test_one_answer_is_on_stdout_and_talk_on_stderr(done: tuple[Command, Run]) -> None:
    command, run = done
    result = command("chat", "-p", QUESTION, "--max-tokens", "20")
    assert result.code == 0, result.err
    assert result.out.strip()
    assert result.out.count("\n") >= 1
    assert f"loading {run.name}" in result.err
    assert re.search(r"\[\d+ tokens, [\d.]+ tokens/s", result.err)


Events = list[dict[str, Any]]


@pytest.fixture(scope="module")
def events(done: tuple[Command, Run]) -> Events:
    """What another program hears of the run."""
    messages = [{"role": "user", "content": QUESTION}]
    drawn = {"messages": messages, "max_tokens": 30, "temperature": 1.5}
    lines = [
        {"id": "tuned", "messages": messages, "max_tokens": 12},
        {"id": "base", "messages": messages, "max_tokens": 12, "who": "base"},
        *({"id": f"draw {i}", "seed": seed} | drawn for i, seed in enumerate((1, 1, 2))),
        {"id": "nobody", "messages": messages, "who": "nobody"},
        {"id": "long", "messages": [{"role": "user", "content": "a b " * 20_000}]},
    ]
    asked = "\n".join(["nonsense", *map(json.dumps, lines)])
    return [json.loads(line) for line in _piped(done[0], asked, "chat", "--json").splitlines()]


def _text(events: Events, number: str) -> str:
    return "".join(event["text"] for event in events if event["event"] == "token" and event["id"] == number)


def test_another_program_asks_both_and_is_told_of_mistakes(events: Events) -> None:
    assert (events[0]["event"], events[0]["who"]) == ("ready", ["tuned", "base"])
    ends = {event["id"]: event for event in events[1:] if event["event"] != "token"}
    assert list(ends) == [None, "tuned", "base", "draw 0", "draw 1", "draw 2", "nobody", "long"]
    assert [number for number, event in ends.items() if event["event"] == "error"] == [None, "nobody", "long"]
    assert ends["tuned"]["tokens"] <= 12
    assert ends["long"]["code"] == "chat.context"


def test_the_same_seed_says_the_same_and_another_seed_does_not(events: Events) -> None:
    assert _text(events, "draw 0") == _text(events, "draw 1") != _text(events, "draw 2")


def test_base_and_tuned_answer_one_after_the_other(done: tuple[Command, Run], events: Events) -> None:
    result = done[0]("chat", "last", "--compare", "-p", QUESTION, "--max-tokens", "12")
    assert result.out == f"── base\n{_text(events, 'base')}\n── tuned\n{_text(events, 'tuned')}\n"


def test_the_folder_of_the_base_answers_as_the_base_of_the_run(done: tuple[Command, Run], events: Events) -> None:
    result = done[0]("chat", MODEL, "-p", QUESTION, "--max-tokens", "12")
    assert result.out == _text(events, "base") + "\n"


def test_a_conversation_by_lines_remembers_and_forgets(tiny: Path, localtune: Command) -> None:
    def said(*lines: str) -> list[str]:
        text = "".join(f"{line}\n" for line in lines)
        return _piped(localtune, text, "chat", tiny, "--max-tokens", "6").splitlines()

    first, second = said("hello", "hello")
    assert first != second
    assert said("hello", "", "/reset", "hello") == [first, first]
    assert said("hello", "/exit", "hello") == [first]


def test_a_file_or_folder_without_a_template_is_continued(localtune: Command) -> None:
    stories = material("model-stories260K")
    greedy = json.loads((stories / "reference/reference.json").read_text())["greedy"][0]
    for source in (stories, stories / "reference/stories260K-f32.gguf"):
        result = localtune("chat", source, "-p", greedy["prompt"], "--max-tokens", "40")
        assert result.code == 0, result.err
        assert greedy["text"].startswith(greedy["prompt"] + result.out.removesuffix("\n"))
        assert "no chat template" in result.err
        assert "no chat template" in localtune("chat", source, "-p", "x", "--system", "y").err


def test_adapters_are_switched_while_chatting(tiny: Path, tmp_path: Path, localtune: Command) -> None:
    loras = [f"--lora={write_lora(tmp_path / f'{name}.gguf', i, hidden=256)}" for i, name in enumerate("ab")]

    def said(*lines: str, with_: int = 2) -> list[str]:
        text = "".join(f"{line}\n/reset\n" for line in lines)
        return _piped(localtune, text, "chat", tiny, *loras[:with_], "--max-tokens", "8").splitlines()

    (plain,), (tuned,) = said("hello", with_=0), said("hello", with_=1)
    first, second, none, again = said("hello", "/lora b", "hello", "/lora off", "hello", "/lora 1", "hello")
    assert (first, none, again) == (tuned, plain, tuned)
    assert second not in (plain, tuned)
    assert said("/compare", "hello", with_=1) == ["── base", plain, "── tuned", tuned]


def test_an_adapter_that_does_not_fit_is_one_line(tiny: Path, tmp_path: Path, localtune: Command) -> None:
    wrong, half = write_lora(tmp_path / "wrong.gguf", hidden=64), tmp_path / "half.gguf"
    half.write_bytes(wrong.read_bytes()[:-200])
    cases = {
        wrong: "llama.cpp does not load this adapter beside tiny.gguf",
        half: "gguf.truncated",
        tiny: "is a model, not an adapter",
        tmp_path / "none.gguf": "there is no such adapter file",
    }
    for path, says in cases.items():
        result = localtune("chat", tiny, "--lora", path, "-p", "hi")
        assert (result.code, result.out) == (2, "")
        assert says in result.err
        assert "Traceback" not in result.err
    assert "--lora goes with a GGUF file" in localtune("chat", MODEL, "--lora", wrong, "-p", "hi").err


def test_an_answer_noted_as_good_is_a_row_to_test_with(done: tuple[Command, Run]) -> None:
    command, run = done
    lines = [QUESTION, "/bad the better answer", "/reset", "/max 3", QUESTION, "/good", "/save chat.jsonl", "/nonsense"]
    result = subprocess.run(
        [sys.executable, "-m", "localtune", "chat", run.name], input="\n".join(lines), capture_output=True,
        env=_environment(command), cwd=run.folder, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    good = run.folder / "feedback" / "good.jsonl"
    assert f"localtune eval {run.name} --data {good}" in result.stderr
    assert "there is no /nonsense" in result.stderr
    assert len((run.folder / "feedback" / "bad.jsonl").read_text("utf-8").splitlines()) == 1
    assert json.loads((run.folder / "chat.jsonl").read_text("utf-8"))["messages"][0]["content"] == QUESTION
    measured = command("eval", run.name, "--data", good, "--json")
    assert measured.code == 0, measured.err
    matches = [entry for entry in measured.json() if entry["measure"] == "exact match"]
    assert {entry["rows"] for entry in matches} == {1}


CASES = {
    "nothing of that name": ("nothing-here", "no run is called 'nothing-here', and there is no such file or folder"),
    "nobody's home": ("~nobody-of-that-name", "there is no such file or folder"),
    "a foreign file": ("notes.gguf", "gguf.foreign"),
    "a truncated file": ("short.gguf", "gguf.truncated"),
    "an adapter": ("adapter", "localtune fuse adapter -m some/base -o FUSED"),
    "an adapter's file": ("lora.gguf", "localtune chat BASE.gguf --lora lora.gguf"),
    "a folder of GGUF files": ("files", "localtune chat files/m.gguf"),
    "a folder of nothing": ("empty", "no run is called 'empty', and that folder holds no model"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_talked_to_is_refused_in_one_sentence(case: str, tmp_path: Path, localtune: Command) -> None:
    (tmp_path / "notes.gguf").write_bytes(b"shopping: eggs, milk")
    whole = write_gguf(tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "short.gguf").write_bytes(whole[: len(whole) // 2])
    write_lora(tmp_path / "lora.gguf")
    for name in ("adapter", "files", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base"}')
    (tmp_path / "files" / "m.gguf").write_bytes(whole)
    source, says = CASES[case]
    result = localtune("chat", source, "-p", "hi", cwd=tmp_path)
    assert result.code == 2
    assert says in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


def test_comparing_needs_a_run_and_json_takes_no_prompt(tiny: Path, localtune: Command) -> None:
    assert "no base to compare with" in localtune("chat", tiny, "-p", "x", "--compare").err
    assert localtune("chat", tiny, "-p", "x", "--json").code == 2


def test_an_unfinished_run_says_how_to_finish_it(done: tuple[Command, Run]) -> None:
    command, run = done
    hidden = run.adapter.rename(run.folder / "elsewhere")
    try:
        result = command("chat", run.name, "-p", "x")
    finally:
        hidden.rename(run.adapter)
    assert result.code == 2
    assert f"localtune run --resume {run.name}" in result.err


@pytest.mark.parametrize("arguments", [("-p", "hello"), ("--json",)])
def test_who_stops_reading_ends_the_chat_without_a_complaint(
    tiny: Path, localtune: Command, arguments: tuple[str, ...]
) -> None:
    command = [sys.executable, "-m", "localtune", "chat", str(tiny), "--max-tokens", "8000", *arguments]
    asked = {"id": 1, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8000}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(localtune)
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(json.dumps(asked).encode() + b"\n")
        child.stdin.flush()
        assert len(child.stdout.read(5)) == 5
        child.stdout.close()
        assert child.wait(60) == 0
        assert "Traceback" not in (said := child.stderr.read().decode())
        assert "rror" not in said


@contextlib.contextmanager
def _terminal(command: Command, *arguments: str | Path) -> Iterator[int]:
    """The command with a terminal of its own; the other end of it."""
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # also where the tests run in the background
        os.execve(sys.executable, [sys.executable, "-m", "localtune", *map(str, arguments)], _environment(command))
    try:
        yield terminal
        assert _ended(pid, terminal) == 0
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(terminal)


def _ended(pid: int, terminal: int, seconds: float = 60) -> int:
    """The exit code, reading on meanwhile: who writes to a terminal that nobody reads never ends."""
    end = time.monotonic() + seconds
    while not (found := os.waitpid(pid, os.WNOHANG))[0]:
        assert time.monotonic() < end, f"still running after {seconds} s"
        if select.select([terminal], [], [], 0.05)[0]:
            with contextlib.suppress(OSError):  # Linux says EIO once nobody holds the other end
                os.read(terminal, 65536)
    return os.waitstatus_to_exitcode(found[1])


def _read_until(terminal: int, text: str, seconds: float = 60) -> str:
    seen, end = "", time.monotonic() + seconds
    while text not in seen:
        assert select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0], seen[-500:]
        seen += os.read(terminal, 65536).decode("utf-8", "replace")
    return seen


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_ctrl_c_ends_the_answer_and_ctrl_d_the_chat(tiny: Path, localtune: Command) -> None:
    with _terminal(localtune, "chat", tiny, "--max-tokens", "8000") as terminal:
        _read_until(terminal, "> ")
        os.write(terminal, b"hello\n")
        _read_until(terminal, "hello")
        time.sleep(0.5)
        os.write(terminal, b"\x03")
        _read_until(terminal, "cut off\r\n> ")
        time.sleep(0.5)  # a Ctrl+C between the prompt and the wait for keys is heard with the next key only
        os.write(terminal, b"half a line\x03")
        _read_until(terminal, "> ")
        os.write(terminal, b"/help\n")
        _read_until(terminal, "Ctrl+C ends an answer\r\n> ")
        time.sleep(0.5)  # likewise a Ctrl+D: before the wait for keys the system takes it for itself
        os.write(terminal, b"\x04")
