"""Tokens and the home folder are hidden in every way they are written, and nothing else is."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune import redacted
from localtune.cli.making import made
from localtune.cli.serve import KEY
from localtune.errors import Problem, escaped, safe
from localtune.redacted import HIDDEN, redact, without_tokens
from localtune.typed import typed

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="paths are written otherwise")


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Moves the home folder; nobody is signed in."""

    def moved(folder: str) -> None:
        for name in ("HOME", "USERPROFILE"):
            monkeypatch.setenv(name, folder)
        redacted.forget()

    for name in ("HF_HOME", "HF_TOKEN", "HF_TOKEN_PATH", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    moved("/home/ann")
    yield moved
    monkeypatch.undo()
    redacted.forget()


@POSIX
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ann", "~"),
        ("/home/ann/x.jsonl:3:7  not JSON", "~/x.jsonl:3:7  not JSON"),
        ("'/home/ann/x' and (/home/ann/y), /home/ann.", "'~/x' and (~/y), ~."),
        ("--data=/home/ann/x file:///home/ann/x", "--data=~/x file://~/x"),
        (r"one\n/home/ann/x", r"one\n~/x"),
        ('File "/home/ann/a.py", line 3', 'File "~/a.py", line 3'),
        ("/home/anna /home/ann-2/x /home/ann.old /backup/home/ann", None),
        ("/home/bob/x ~/x ./home/ann", None),
        ("\x1b[35m/home/ann/x\x1b[0m \x1b[1;38;2;10;20;30m/home/ann", "\x1b[35m~/x\x1b[0m \x1b[1;38;2;10;20;30m~"),
        ("\x1b[m/home/ann/x", "\x1b[m~/x"),
        ("35m/home/ann/x [35m/home/ann/x \x1b[35m/backup/home/ann", None),
    ],
)
def test_the_home_folder_is_a_tilde_and_other_folders_are_not(text: str, shown: str | None) -> None:
    assert redact(text) == (text if shown is None else shown)
    assert without_tokens(text) == text


@POSIX
def test_a_short_home_folder_hides_no_words(home: Callable[[str], None]) -> None:
    home("/root")
    assert redact("/root/x as root, in the sub/root of /root2") == "~/x as root, in the sub/root of /root2"
    home("/")
    assert redact("/root/x") == "/root/x"


@POSIX
def test_a_home_folder_that_is_a_link_is_hidden_by_both_names(tmp_path: Path, home: Callable[[str], None]) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    home(str(tmp_path / "link"))
    assert redact(f"{tmp_path}/link/a {tmp_path}/real/b {tmp_path}/other") == f"~/a ~/b {tmp_path}/other"


def test_tokens_of_the_environment_are_hidden_and_short_ones_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "a(b+c).value")
    monkeypatch.setenv("HF_TOKEN", "tooshrt")
    monkeypatch.setenv("KEYBOARD", "not-a-token")
    monkeypatch.setenv("DEPLOY_SECRET", "line 1 of the secret\nline 2 of the secret\n")
    redacted.forget()
    assert redact("is a(b+c).value, tooshrt, not-a-token") == f"is {HIDDEN}, tooshrt, not-a-token"
    assert without_tokens("line 2 of the secret") == HIDDEN


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("lm-studio", False),
        ("postgres", False),
        ("correct-horse-battery-staple", False),
        ("Short-Value-123", False),
        ("0123456789abcdef", True),
        ("Correct-Horse-Battery", True),
    ],
)
def test_a_value_of_the_environment_is_a_secret_if_it_looks_like_one(
    value: str, secret: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", value)
    redacted.forget()
    assert without_tokens(f"/models/{value}/x") == f"/models/{HIDDEN if secret else value}/x"
    monkeypatch.setenv("HF_TOKEN", value)
    redacted.forget()
    assert without_tokens(value) == HIDDEN


def test_the_key_that_serve_is_asked_to_say_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "0123456789abcdef-said")
    monkeypatch.setenv(f"OTHER_{KEY}", "0123456789abcdef-hidden")
    redacted.forget()
    assert without_tokens("0123456789abcdef-said 0123456789abcdef-hidden") == f"0123456789abcdef-said {HIDDEN}"


class _Stream(io.TextIOWrapper):
    """With bytes below, as a file has them."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), "utf-8", newline="\n")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_is_written_around_the_guard_of_a_console(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Windows console click writes into `buffer`, where there is one."""
    stream, token = _Stream(terminal=terminal), "hf_" + "aB3" * 8
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream)
    redacted.guard()
    binary = getattr(sys.stdout, "buffer", None)
    click.echo(token, file=sys.stdout)
    monkeypatch.undo()
    assert (binary is None) is terminal
    stream.seek(0)
    assert stream.read() == f"{HIDDEN}\n"


@POSIX
@pytest.mark.parametrize("terminal", [True, False])
def test_a_script_gets_the_whole_path_of_a_product(
    terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Callable[[str], None]
) -> None:
    home(str(tmp_path))
    (tmp_path / ("hf_" + "aB3" * 8)).mkdir()
    monkeypatch.setattr(sys, "stdout", _Stream(terminal=terminal))
    said = [made(path) for path in (tmp_path / "none", *tmp_path.iterdir())]
    assert said == [f"{'~' if terminal else tmp_path}/{name}  0 B" for name in ("none", HIDDEN)]


def test_tokens_that_hf_keeps_on_disk_are_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("token=in-use==\n", "utf-8")
    (tmp_path / "stored_tokens").write_text("[work]\nhf_token = token-of-work\n\n[home]\n", "utf-8")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    redacted.forget()
    assert redact("token=in-use== token-of-work [work]") == f"{HIDDEN} {HIDDEN} [work]"
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").write_text("another-token", "utf-8")
    redacted.forget()
    assert redact("another-token") == HIDDEN


@pytest.mark.parametrize("token", ["hf_" + "aB3" * 8, "sk-" + "a" * 24, "ghp_" + "a" * 36, "AKIA" + "A" * 16])
def test_what_looks_like_a_token_is_hidden_wherever_it_is_from(token: str) -> None:
    assert redact(f"Bearer {token}, or {token}") == f"Bearer {HIDDEN}, or {HIDDEN}"
    assert json.dumps(token) not in without_tokens(json.dumps({"token": token}))


@pytest.mark.parametrize("text", ["hf_hub_download", "hf_transfer", "sk-learn", "task-3", "AKIA", "half_" + "a" * 30])
def test_ordinary_words_are_left(text: str) -> None:
    assert redact(text) == text


@given(st.text(), st.text())
def test_text_without_them_stays_as_it_is(before: str, after: str) -> None:
    assert redact(before) == before
    assert "a-planted-value" not in redact(f"{before}/home/ann/{after}").replace(after, "")


@POSIX
def test_problems_are_redacted_and_content_is_not() -> None:
    problem = Problem("a.b", "no file", "/home/ann/x", "line\nof /home/ann", "ls /home/ann")
    assert str(problem).splitlines() == ["error[a.b]: ~/x  no file", "  line", "  of ~", "  fix: ls ~"]
    assert safe("/home/ann/x") == "~/x"
    assert escaped("/home/ann/x") == "/home/ann/x"


@POSIX
@pytest.mark.parametrize("name", ["x", "my folder/x.gguf", "it's", "", "$HOME", "a~b", "../ann x/y"])
def test_a_command_with_the_home_folder_works_as_it_is_printed(name: str) -> None:
    path = f"/home/ann/{name}".rstrip("/")
    line = safe(typed("printf", "%s", path, windows=False))
    assert "/home/ann" not in line
    shell = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=dict(os.environ), check=True)
    assert shell.stdout.rstrip("/") == path


def test_a_quoted_tilde_would_not_work() -> None:
    line = redact("printf %s '/home/ann/my folder'")
    if sys.platform != "win32":
        assert subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout == "~/my folder"
