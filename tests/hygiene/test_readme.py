"""The README says what the program does today."""

import re
import shlex
import subprocess
import sys

import pytest

from localtune.cli import COMMANDS
from tests.hygiene.readme import README, fresh

TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
LINES = sorted({line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines()})
OURS = [line for line in LINES if line.startswith("localtune ")]


def test_the_settings_table_is_the_declarations() -> None:
    assert fresh(TEXT) == TEXT, "make golden"


def test_a_stale_table_would_be_noticed() -> None:
    stale = TEXT.replace("| `train.seed` |", "| `train.sead` |")
    assert stale != TEXT
    assert fresh(stale) != stale


INNER = ("ls", "show", "path", "rm", "diff", "report", "recipe", "check")


@pytest.mark.parametrize("line", OURS)
def test_every_command_of_the_readme_is_understood(line: str) -> None:
    words = shlex.split(line)[1:]
    options = [word for word in words if word.startswith("-")]
    verb = [word for word in words[:2] if word in (*COMMANDS, *INNER)]
    shown = subprocess.run(
        [sys.executable, "-m", "localtune", *verb[: 2 if verb[0] in ("runs", "data") else 1], "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for option in options:
        assert option.split("=")[0] in shown


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make (\w+)", TEXT):
        assert f"\n{target}:" in makefile
