"""Nobody is called: only download, push and looking for models reach out, and proof, chat and serve ask this machine.

Every verb of the command line is sorted here, so that a new one fails until it is. They are given a model's folder and
a file of rows, and nothing tells the libraries that they are offline.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

from localtune.cli import localtune
from tests import goals
from tests.faults.life import Life
from tests.goals import FULL, times

NOWHERE = (
    "run", "plan", "init", "data check", "data show", "data list", "data stats", "data convert", "data split",
    "data mix", "runs", "runs ls", "runs show", "runs path", "runs diff", "runs report", "runs rm", "tail", "stop",
    "eval", "fuse", "merge", "recipes", "recipes show", "recipes path", "schema",
)  # fmt: skip
"""These open none, where no model or data set of the hub is named."""
HERE = ("export", "chat", "serve", "doctor", "tui")
"""These ask this machine: llama.cpp in a process of its own, and doctor, as the app does, whether Ollama answers."""
OUT = ("push",)
"""These reach out."""


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path).begin()


def _verbs(command: click.Command, context: click.Context, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every verb that does something, as typed."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _verbs(found, context, (*path, name))
    if not isinstance(command, click.Group) or (path and command.invoke_without_command):
        yield " ".join(path)


def test_every_verb_is_sorted_by_whom_it_may_call() -> None:
    there = list(_verbs(localtune, click.Context(localtune)))
    assert sorted(there) == sorted((*NOWHERE, *HERE, *OUT))


def _before_a_run(life: Life) -> list[list[str | Path]]:
    rows, work, model = life.rows, life.work, life.model
    return [
        *(["data", verb, rows, "-m", model] for verb in ("check", "show", "list", "stats")),
        ["data", "convert", rows, "--to", "messages", "-o", work / "converted.jsonl"],
        ["data", "split", rows, "-o", work / "parts"],
        ["data", "mix", rows, work / "converted.jsonl", "-o", work / "mixed.jsonl"],
        ["init", rows, "-m", model, "-o", work / "recipe.yaml"],
        ["runs", "ls"],
        ["recipes"],
        ["recipes", "show", "quickstart"],
        ["recipes", "path", "quickstart"],
        ["schema"],
    ]


def _of_runs(life: Life) -> list[list[str | Path]]:
    return [
        ["run", *life.short_run(), "--name", "first"],
        ["run", *life.short_run(), "--name", "second"],
        ["tail", "first"],
        ["runs", "show", "first"],
        ["runs", "path", "first"],
        ["runs", "diff", "first", "second"],
        ["runs", "report", "first", "-o", life.work / "report.html"],
        ["eval", "first", "--data", life.rows],
        ["fuse", "first"],
    ]


def _of_products(life: Life) -> list[list[str | Path]]:
    first, second = (next((life.home / "localtune" / "runs").glob(f"{name}-*")) for name in ("first", "second"))
    return [
        ["plan", first / "resolved.yaml"],
        ["fuse", first / "adapter", "-m", life.model, "-o", life.work / "fused"],
        ["merge", first / "adapter", second / "adapter", "-o", life.work / "merged"],
        ["export", first / "adapter", "--mlx-lm", "-o", life.work / "mlx-lm"],
        ["export", first / "fused", "--no-proof", "-o", life.work / "exported"],
        ["runs", "rm", "second", "--yes"],
    ]


def _work(life: Life, *lines: Sequence[str | Path], loopback: bool = False) -> int:
    """Give lines that must all succeed; how many they were."""
    said = life.verbs(*lines, loopback=loopback)
    assert [(one.arguments, one.err) for one in said if one.code] == []
    return len(said)


def test_no_verb_opens_a_socket_unless_it_is_its_work(life: Life, goal: goals.Reached) -> None:
    given = _work(life, *_before_a_run(life))
    if FULL:  # test_secrets.py does the same with a run every day
        given += _work(life, *_of_runs(life))
        given += _work(life, *_of_products(life))
        stopped = life.verbs(["stop", "first"])[0]
        assert "not running" in stopped.err or stopped.code == 2
    assert life.sockets() == []
    goal("secrets", f"0 sockets opened by {given} commands that need none")


@pytest.mark.skipif(not FULL, reason="makes a run and its files, and proves them")
def test_proof_chat_serve_and_doctor_ask_this_machine_alone(life: Life, goal: goals.Reached) -> None:
    given = _work(
        life,
        ["run", *life.short_run(), "--name", "first", "--set=export.gguf=[Q8_0]"],
        ["export", "first", "--gguf", "F16"],
        ["chat", "first", "-p", "Hello", "--max-tokens", "4"],
        ["doctor"],
        loopback=True,
    )
    file = next(life.home.glob("localtune/runs/*/export/*Q8_0.gguf"))
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "localtune", "serve", str(file), "--json"],
        env=life.environment(loopback=True) | {"SOCKETS_BY": "serve"}, cwd=life.work,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as served:  # fmt: skip
        assert served.stdout is not None
        assert b"127.0.0.1" in served.stdout.readline()
        served.terminate()
    assert life.sockets() == []
    goal("secrets", f"0 calls but to loopback by {given + 1} commands that prove, chat and serve")


def test_a_verb_that_reaches_out_is_caught(life: Life) -> None:
    pushed: list[str | Path] = ["push", life.model, "--to", "owner/name", "--yes"]
    said = life.verbs(pushed, ["plan", life.rows, "-m", "owner/name"], loopback=True)
    assert [one.code for one in said] == [3, 3]
    assert {note.split(" ", 1)[0] for note in life.sockets()} == {"push", "plan"}


@pytest.mark.parametrize("host", ["192.0.2.1", "127.0.0.1"])
def test_a_child_of_a_child_is_caught_too(life: Life, host: str) -> None:
    calls = f"import socket; socket.create_connection(({host!r}, 9), timeout=0.1)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-P', '-c', {calls!r}])"
    for loopback in (False, True):
        environment = life.environment(loopback=loopback) | {"SOCKETS_BY": "a child"}
        subprocess.run([sys.executable, "-P", "-c", child], env=environment, check=True, capture_output=True)
    here = host.startswith("127.")
    notes = [note.split(" < ")[0] for note in life.sockets()]
    assert notes == [f"a child: socket.getaddrinfo {host}"] * (1 if here else 2)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no terminal to open it in")
def test_the_app_calls_nobody_by_itself(life: Life) -> None:
    import pty

    ours, theirs = pty.openpty()
    environment = life.environment(loopback=True) | {
        "SOCKETS_BY": "tui",
        "TERM": "xterm-256color",
        "COLUMNS": "100",
        "LINES": "30",
    }
    app = subprocess.Popen(
        [sys.executable, "-P", "-m", "localtune"], env=environment, cwd=life.work, stdin=theirs, stdout=theirs,
        stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen, end = b"", time.monotonic() + 60
    while b"localtune" not in seen and time.monotonic() < end:
        seen += os.read(ours, 1 << 16)
    time.sleep(times(1, 10))  # what it looks for by itself once it is there
    app.terminate()
    app.wait(timeout=30)
    os.close(ours)
    assert b"localtune" in seen
    assert life.sockets() == []
