"""Tokens and the home folder's path never leave: not by the screen, a log, a card, a report or a product.

JSON is for programs and keeps whole paths, as `localtune runs path` and the lines of products on a stdout that is no
terminal do; no token is in it either. A few files of a run, which nobody is meant to send to anybody, need whole paths:
they are named here.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytest

from localtune import redacted
from localtune.redacted import HIDDEN
from tests import goals
from tests.faults.life import HOME, ON_DISK, SECRETS, TOKENS, Leak, Life, Said, printed, written
from tests.goals import FULL

RUN = "localtune/runs/*/"
NAMED_IN = (
    RUN + "recipe.yaml",  # as the user wrote it
    RUN + "resolved.yaml",  # `localtune run RUN/resolved.yaml` runs from anywhere
    RUN + "events.jsonl",  # commands in it work only with whole paths, and `--json` is made of it
    RUN + "environment.json",  # tells the model that went in from another one
    RUN + "data/report.json",  # a row is found again by its file
    ".cache/localtune/data/*/report.json",
    RUN + "*adapter_config.json",  # peft opens the base by it; `localtune push` sends its last part alone
)
"""Files that name the home folder where the model or the data lie below it."""
CONFIGS = "my work/*/adapter_config.json"
"""Of adapters written elsewhere: the same."""


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path).begin()


def _failing(life: Life) -> list[list[str | Path]]:
    """A command line for each kind of failure."""
    rows, bad, worse = life.rows, life.work / "bad.yaml", life.work / "worse.yaml"
    bad.write_text(f"model: {life.model}\nhub_token: {TOKENS['HF_TOKEN']}\ndata:\n  train: {rows}\n", "utf-8")
    worse.write_text(f"model: [{TOKENS['AWS_SECRET']}\n", "utf-8")
    broken = life.work / "broken.jsonl"
    broken.write_text(f'{{"text": "{TOKENS["WEATHER_API_KEY"]}" 1}}\n', "utf-8")
    return [
        ["run", life.home / "none.jsonl", "-m", life.model],
        ["run", rows, "-m", life.home / "no model"],
        ["run", rows, "-m", f"owner/{TOKENS['HF_TOKEN']}"],
        ["run", bad],
        ["run", worse],
        ["--debug", "run", bad],
        ["run", rows, "-m", life.model, f"--set=nothing.{TOKENS['HUGGING_FACE_HUB_TOKEN']}={life.home}"],
        ["run", rows, "-m", life.model, f"--set=train.steps={TOKENS['AWS_SECRET']}"],
        ["data", "check", broken],
        ["data", "check", life.model / "model.safetensors"],
        ["data", "check", life.home / "models"],
        ["chat", life.home / "none.gguf"],
        ["tui", life.home / "no folder"],
        ["runs", "show", life.home],
        ["runs", "report", life.home, "-o", life.home / "report.txt"],
        ["export", life.home / "none"],
        ["plan", ON_DISK],
        ["doctor", f"--{ON_DISK}={life.home}"],
        ["stop", life.home],
        ["push", life.model, "--to", "owner/name", "--yes"],
    ]


def _living(life: Life) -> list[list[str | Path]]:
    """What a user does with one run, in short."""
    return [
        ["run", *life.short_run(), "--name", "first"],
        ["data", "check", life.rows],
        ["tail", "first"],
        ["tail", "first", "--log"],
        ["runs", "ls"],
        ["runs", "show", "first"],
        ["runs", "report", "first", "-o", life.work / "report.html"],
        ["export", "first", "--adapter", "--no-proof"],
    ]


def _further(life: Life) -> list[list[str | Path]]:
    """Every other verb."""
    rows, work, model, out = life.rows, life.work, life.model, "-o"
    return [
        ["run", *life.short_run(), "--name", "second", "--set=export.gguf=[Q8_0]"],
        ["plan", *life.short_run()],
        ["init", rows, "-m", model, out, work / "new" / "recipe.yaml"],
        *(["data", verb, rows, "-m", model] for verb in ("check", "show", "list", "stats")),
        ["data", "convert", rows, "--to", "messages", out, work / "converted.jsonl"],
        ["data", "split", rows, out, work / "parts"],
        ["data", "mix", rows, work / "converted.jsonl", out, work / "mixed.jsonl"],
        ["runs", "diff", "first", "second"],
        ["runs", "report", "first", out, work / "report.svg"],
        ["eval", "first", "--data", rows],
        ["fuse", "first"],
        ["export", "first", "--gguf", "Q8_0,F16"],
        ["export", "first", "--adapter"],
        ["chat", "second", "-p", "Hello", "--max-tokens", "4", "--compare"],
        ["doctor"],
        ["recipes"],
    ]


def _elsewhere(life: Life) -> list[list[str | Path]]:
    """Products of folders, put where the user says."""
    first, second = (next(life.home.glob(f"{RUN}../{name}-*")).resolve() for name in ("first", "second"))
    return [
        ["fuse", first / "adapter", "-m", life.model, "-o", life.work / "fused"],
        ["export", first / "fused", "-o", life.work / "exported"],
        ["merge", first / "adapter", second / "adapter", "-o", life.work / "merged"],
        ["export", first / "adapter", "--mlx-lm", "-o", life.work / "mlx-lm"],
        ["runs", "rm", "second", "--yes"],
    ]


def _all_is_well(life: Life, *lines: list[str | Path], loopback: bool = False) -> list[Said]:
    said = life.verbs(*lines, loopback=loopback)
    assert [(one.arguments, one.err) for one in said if one.code] == []
    return said


def test_no_secret_is_printed_or_written_in_the_life_of_a_run(life: Life, goal: goals.Reached) -> None:
    said = _all_is_well(life, *_living(life))
    if FULL:
        said += _all_is_well(life, *_further(life), loopback=True)
        said += _all_is_well(life, *_elsewhere(life), loopback=True)
    assert life.sockets() == []  # of which a run opens none, as tests/faults/test_sockets.py promises
    failed = life.verbs(*_failing(life))
    assert [one.arguments for one in failed if not one.code] == []
    said += failed
    given = [f"my work/{path.name}" for path in life.work.iterdir() if path.name in GIVEN]
    assert any(HOME in one.out for one in said)
    leaks = [*printed([_without_products(life, one) for one in said])]
    leaks += [leak for leak in written(life, [*NAMED_IN, CONFIGS]) if leak.where not in given]
    assert leaks == []
    names = {leak.where for leak in written(life, ())}
    assert [pattern for pattern in NAMED_IN if not any(fnmatch(name, pattern) for name in names)] == []  # still needed
    assert any("~/" in one.out + one.err for one in said)
    files = life.files()
    read = sum(path.stat().st_size for path in files) + sum(len(one.out) + len(one.err) for one in said)
    goal("secrets", f"0 hits of {len(SECRETS)} planted in {len(said)} commands and {len(files)} files, {read:,} bytes")


def _without_products(life: Life, one: Said) -> Said:
    """What was said, without the home folder in the lines of products, which scripts read."""
    product = re.compile(rf"^{re.escape(str(life.home))}(?=.*  [\d.]+ [KMG]?B$)", re.MULTILINE)
    return replace(one, out=product.sub("~", one.out))


def test_only_the_lines_of_products_may_name_the_home_folder(life: Life) -> None:
    token = TOKENS["HF_TOKEN"]
    lines = [f"{life.home}/a  3.4 KB", f"see {life.home}/a  3.4 KB", f"{life.home}/a", f"{life.home}/{token}  3 B"]
    said = [_without_products(life, Said(["export"], 0, line, "")) for line in lines]
    assert [[leak.secret for leak in printed([one])] for one in said] == [[], [HOME], [HOME], [token]]


GIVEN = ("bad.yaml", "worse.yaml", "broken.jsonl")
"""What the user wrote."""


def test_without_redaction_the_same_look_finds_every_one(life: Life) -> None:
    found = {leak.secret for leak in printed(life.verbs(*_failing(life), redacted=False))}
    assert found >= set(SECRETS), set(SECRETS) - found


def test_a_secret_in_a_file_is_found_and_a_path_only_where_it_may_not_be(life: Life) -> None:
    folder = life.home / "localtune" / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / "resolved.yaml").write_text(f"model: {life.model}\n", "utf-8")
    assert [*written(life, NAMED_IN)] == []
    (folder / "resolved.yaml").write_text(f"name: {ON_DISK}\n", "utf-8")
    (folder / "README.md").write_text(f"# {life.model}\n", "utf-8")
    found: list[Leak] = [*written(life, NAMED_IN)]
    assert [(leak.secret, Path(leak.where).name) for leak in found] == [(HOME, "README.md"), (ON_DISK, "resolved.yaml")]


def test_json_keeps_whole_paths_and_no_token(life: Life) -> None:
    data: list[str | Path] = ["data", "check", life.rows, "--json"]
    said = life.verbs(data, ["schema"], *([["doctor", "--json"]] if FULL else []))
    assert str(life.rows) in json.dumps(json.loads(said[0].out))
    assert [leak for leak in printed(said[1:])] == []
    named = life.work / f"{TOKENS['HF_TOKEN']}.jsonl"
    life.rows.rename(named)
    found = life.verbs(["data", "check", named, "--json"])
    assert f"{life.work}/{HIDDEN}.jsonl" in found[0].out
    assert {leak.secret for leak in printed(found)} == {HOME}


def test_a_process_that_fails_shows_neither(life: Life) -> None:
    """What a traceback says, of a worker say, and what a library logs or warns of."""
    code = (
        "import logging, os, warnings; from localtune.redacted import guard; {guard}; "
        "warnings.warn(os.environ['HF_TOKEN']); logging.warning(os.environ['AWS_SECRET']); "
        "print(os.environ['WEATHER_API_KEY'], flush=True); open(os.path.expanduser('~/none'))"
    )
    for line, all_is_well in (("guard()", True), ("None", False)):
        command = [sys.executable, "-P", "-c", code.format(guard=line)]
        child = subprocess.run(command, capture_output=True, text=True, env=life.environment(), check=False)
        said = Said(["python"], child.returncode, child.stdout, child.stderr)
        assert ("Traceback" in child.stderr, HIDDEN in child.stdout) == (True, all_is_well)
        assert (not [*printed([said])]) is all_is_well


def test_the_crash_report_of_the_app_names_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from localtune_tui.crash import NAME, keep

    monkeypatch.setenv("HOME", str(tmp_path / HOME))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / HOME))
    monkeypatch.setenv("HF_TOKEN", TOKENS["HF_TOKEN"])
    redacted.forget()
    try:
        raise ValueError(f"{tmp_path / HOME / 'rows.jsonl'} {os.environ['HF_TOKEN']}")
    except ValueError:
        sentence = keep(tmp_path / HOME)
    finally:
        redacted.forget()
    said = (tmp_path / HOME / NAME).read_text("utf-8")
    assert "~/rows.jsonl ***" in said.replace("\\", "/")
    assert not [*printed([Said(["tui"], 1, said, sentence)])]
