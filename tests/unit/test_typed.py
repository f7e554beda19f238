"""Command lines as they can be typed: every word arrives as it is, in a POSIX shell and in cmd.exe."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune import redacted
from localtune.cli.serve import curl
from localtune.typed import WINDOWS, typed
from tests.command import ROOT
from tests.typed import words

WORDS = st.lists(st.text(st.sampled_from([*"ab \t\"'\\&|<>^();,$`*{}[]#@é"]), max_size=12), min_size=1, max_size=4)


@given(WORDS)
def test_each_word_arrives_as_it_is(said: list[str]) -> None:
    assert words(typed(*said, windows=False), windows=False) == said
    assert words(typed(*said, windows=True), windows=True) == said
    assert words(subprocess.list2cmdline(said), windows=True) == said


def test_a_name_with_a_blank_would_arrive_in_two_words_unless_it_is_typed() -> None:
    assert words("my models", windows=True) == words("my models", windows=False) == ["my", "models"]
    assert typed("ls", Path("my models"), windows=False) == "ls 'my models'"
    assert typed("ls", Path("my models"), windows=True) == 'ls "my models"'
    assert typed("localtune", r"C:\models\a-b_1.0", windows=True) == r"localtune C:\models\a-b_1.0"


def test_on_windows_the_home_folder_is_spelled_out_with_its_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """PowerShell expands no %VARIABLE%, and the home folder's own blank would break an unquoted one in cmd.exe."""
    monkeypatch.setenv("HOME", "/home/Ann Lee")
    monkeypatch.setenv("USERPROFILE", "/home/Ann Lee")
    redacted.forget()
    lines = [typed("ls", "/home/Ann Lee/x", windows=windows) for windows in (True, False)]
    monkeypatch.undo()
    redacted.forget()
    assert lines == ['ls "/home/Ann Lee/x"', lines[1] if WINDOWS else "ls ~/x"]


@pytest.mark.parametrize("char", "&|<>^(),;'`$@#")
def test_cmd_sees_nothing_of_its_own_outside_of_quotes(char: str) -> None:
    assert typed(f"a{char}b", windows=True) == f'"a{char}b"'


@pytest.mark.parametrize("windows", [False, True])
def test_the_question_that_serve_shows_is_one_that_the_shell_takes(windows: bool) -> None:
    asked: dict[str, object] = {"messages": [{"role": "user", "content": "Hello"}]}
    line = words(curl("http://127.0.0.1:9/v1/chat/completions", "a key", asked, windows=windows), windows=windows)
    assert line[:4] == ["curl", "http://127.0.0.1:9/v1/chat/completions", "-H", "Authorization: Bearer a key"]
    assert json.loads(line[-1]) == asked
    given = curl("http://127.0.0.1:9", None, asked, windows=windows)
    assert ('"Authorization: Bearer %LOCALTUNE_SERVE_KEY%"' if windows else "$LOCALTUNE_SERVE_KEY") in given


def test_nothing_else_quotes_what_is_shown() -> None:
    files = [*ROOT.glob("localtune/**/*.py"), *ROOT.glob("tui/**/*.py")]
    quoting = re.compile(r"shlex\.(quote|join)|from shlex import|list2cmdline\(")
    found = {path.name for path in files if quoting.search(path.read_text("utf-8"))}
    assert found - {"typed.py"} == set()
