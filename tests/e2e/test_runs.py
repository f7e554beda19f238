"""A run from the command line: what it writes, how it is followed, stopped, resumed, measured and removed."""

import json
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from localtune.events import Checkpoint, Done, Evaluation, Match, Phase, Proof, Step
from localtune.runs.files import MANIFEST, is_complete, sha256
from localtune.runs.folder import Run
from tests.command import QUICKSTART, Command, short, wait_until
from tests.e2e.in_process import InProcess


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Command, Run]:
    """A short run that has ended, begun in a process of its own, and what questions about it are asked with."""
    folder = tmp_path_factory.mktemp("done")
    tests = folder / "tests.jsonl"
    rows = (QUICKSTART / "test.jsonl").read_text(encoding="utf-8").splitlines()[:6]
    tests.write_text("\n".join(rows) + "\n", encoding="utf-8")
    flags = [f"--set=data.test={tests}", "--set=watch.answer_tokens=8", '--set=watch.samples=["Hello."]']
    result = Command(folder / "runs")("run", *short(folder), *flags)
    assert result.code == 0, result.err
    command = InProcess(folder / "runs")
    return command, Run(next(command.runs.iterdir()))


def _unstarted(made: Run, folder: Path) -> Run:
    """A run that was made ready like `made` and never started."""
    run = Run(folder / made.name)
    run.folder.mkdir(parents=True)
    for path in (made.recipe, made.resolved, made.environment, made.plan, made.folder / MANIFEST):
        shutil.copy(path, run.folder)
    shutil.copytree(made.data, run.data)
    return run


@dataclass(frozen=True)
class Again:
    """The same recipe once more: listed before it was started, then told in lines of JSON."""

    command: Command
    run: Run
    listed: str
    lines: list[str]


@pytest.fixture(scope="module")
def again(done: tuple[Command, Run], tmp_path_factory: pytest.TempPathFactory) -> Again:
    command = InProcess(tmp_path_factory.mktemp("again") / "runs")
    run = _unstarted(done[1], command.runs)
    listed = command("runs").out
    result = command("run", "--resume", "last", "--json")
    assert result.code == 0, result.err
    return Again(command, run, listed, result.out.splitlines())


def test_a_run_leaves_every_file_a_reader_expects(done: tuple[Command, Run]) -> None:
    _, run = done
    for path in (run.recipe, run.resolved, run.environment, run.plan, run.events, run.log, run.evaluation):
        assert path.is_file(), path
    assert is_complete(run.adapter, verify=True)
    assert (run.adapter / "adapter_config.json").is_file()
    assert run.status().state == "done"
    for path in run.folder.rglob("*.json"):
        if path.name not in ("adapter_config.json", "optimizer.json"):
            assert json.loads(path.read_text())["format"] == 1, path


def test_events_tell_the_whole_story(done: tuple[Command, Run]) -> None:
    events = [event for event, _ in done[1].read_events()]
    assert [event.step for event in events if isinstance(event, Step)] == list(range(1, 9))
    assert {event.who for event in events if isinstance(event, Match)} == {"base", "tuned"}
    assert [event.step for event in events if isinstance(event, Evaluation) and event.split == "valid"] == [0, 4, 8]
    last = events[-1]
    assert isinstance(last, Done)
    assert last.peak_bytes > 0


def test_show_ls_path_and_tail_read_the_folder(done: tuple[Command, Run]) -> None:
    command, run = done
    assert run.name in command("runs", "ls").out
    assert command("runs", "ls", "--json").json()[0]["state"] == "done"
    shown = command("runs", "show", "last").out
    assert "exact match" in shown
    assert "memory  peak" in shown
    assert Path(command("runs", "path", "last").out.strip()) == run.folder
    lines = command("tail", "last", "--json").out.splitlines()
    assert len(lines) == len(list(run.read_events()))


def test_eval_measures_base_and_tuned_again_with_the_same_figures(done: tuple[Command, Run]) -> None:
    command, run = done
    result = command("eval", "last", "--json")
    assert result.code == 0, result.err
    assert _on_tests(result.json()) == _on_tests([*_stored(run)["base"], *_stored(run)["tuned"]])


def _stored(run: Run) -> dict[str, list[dict[str, Any]]]:
    value: dict[str, list[dict[str, Any]]] = json.loads(run.evaluation.read_text())
    return value


def _on_tests(entries: list[dict[str, Any]]) -> dict[tuple[str, str, str], Any]:
    tests = [entry for entry in entries if entry["split"] == "test"]
    assert {entry["who"] for entry in tests} == {"base", "tuned"}
    return {(e["who"], e["measure"], e.get("group", "")): pytest.approx(e.get("exact", e.get("loss"))) for e in tests}


def test_a_done_run_is_not_resumed(done: tuple[Command, Run]) -> None:
    result = done[0]("run", "--resume", "last")
    assert result.code == 2
    assert "is done" in result.err


def test_a_resolved_recipe_runs_from_anywhere(done: tuple[Command, Run], tmp_path: Path) -> None:
    result = done[0]("plan", done[1].resolved, cwd=tmp_path)
    assert result.code == 0, result.err


def test_json_lines_are_all_that_stdout_gets(again: Again) -> None:
    kinds = [json.loads(line)["type"] for line in again.lines]
    assert kinds[-1] == "done"
    assert kinds.count("step") == 8


def _left_alone(localtune: Command, folder: Path) -> Run:
    """A run under way whose viewer is gone: it was hung up, or on Windows, which has no such signal, never there."""
    if sys.platform == "win32":
        begun = localtune("run", *short(folder, steps=2000), "--detach")
        assert begun.code == 0, begun.err
        return Run(localtune.runs / begun.out.strip())
    with localtune.start("run", *short(folder, steps=2000)) as viewer:
        wait_until(lambda: any(localtune.runs.glob("*/status.json")))
        run = Run(next(localtune.runs.glob("*/status.json")).parent)
        wait_until(lambda: run.status().step >= 2)
        viewer.send_signal(signal.SIGHUP)
        viewer.wait(timeout=30)
    return run


def test_a_run_without_a_viewer_goes_on_and_stops_when_asked(localtune: Command, tmp_path: Path) -> None:
    run = _left_alone(localtune, tmp_path)
    before = run.status().step
    wait_until(lambda: run.status().step >= before + 2)
    second = localtune("run", "--resume", run.name)
    assert second.code == 2
    assert "run.owned" in second.err
    assert localtune("runs", "rm", run.name, "--yes").code == 2
    assert localtune("stop", run.name).code == 0
    wait_until(lambda: run.status().state == "stopped")
    assert run.status().exit_code == 130
    last = [event for event, _ in run.read_events() if isinstance(event, Checkpoint)][-1]
    assert is_complete(run.checkpoints / last.folder, verify=True)
    assert localtune("stop", run.name).code == 2
    wait_until(lambda: localtune("runs", "rm", run.name, "--yes").code == 0)  # the lock goes just after the word of it
    assert not run.folder.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal that Windows has not")
def test_ctrl_c_without_a_terminal_saves_and_stops(localtune: Command, tmp_path: Path) -> None:
    with localtune.start("run", *short(tmp_path, steps=2000)) as viewer:
        wait_until(lambda: any(localtune.runs.glob("*/status.json")))
        run = Run(next(localtune.runs.glob("*/status.json")).parent)
        wait_until(lambda: run.status().step >= 2)
        viewer.send_signal(signal.SIGINT)
        _, err = viewer.communicate(timeout=60)
    assert viewer.returncode == 130, err
    assert "localtune run --resume" in err
    assert run.status().state == "stopped"


def test_a_stop_while_the_base_is_measured_does_not_wait_for_it(localtune: Command, tmp_path: Path) -> None:
    flags = [f"--set=data.test={QUICKSTART / 'test.jsonl'}", "--set=watch.answer_tokens=500"]
    begun = localtune("run", *short(tmp_path), *flags, "--detach")
    assert begun.code == 0, begun.err
    run = Run(localtune.runs / begun.out.strip())
    wait_until(lambda: any(isinstance(e, Phase) and e.name == "evaluating" for e, _ in run.read_events()))
    run.request("stop")
    wait_until(lambda: run.status().state == "stopped", seconds=20)
    assert not [event for event, _ in run.read_events() if isinstance(event, Match)]


def test_a_run_that_was_never_started_can_be_listed_started_and_removed(again: Again) -> None:
    assert "created" in again.listed
    assert again.run.status().state == "done"
    other = Run(again.run.folder.with_name("never-20260101-000000"))
    shutil.copytree(again.run.folder, other.folder)
    other.status_file.unlink()
    assert again.command("runs", "rm", other.name, "--yes").code == 0
    assert not other.folder.exists()


def test_a_run_whose_data_was_changed_is_not_resumed(localtune: Command, done: tuple[Command, Run]) -> None:
    with (_unstarted(done[1], localtune.runs).data / "train.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x42")
    result = localtune("run", "--resume", "last")
    assert result.code == 2
    assert "run.changed" in result.err


@pytest.mark.parametrize("method", ["full", "qlora"])
def test_every_method_trains_and_its_product_is_measured_again(method: str, localtune: Command, tmp_path: Path) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes", reason="4 bits need bitsandbytes, which this system has not")
    tests = tmp_path / "tests.jsonl"
    rows = (QUICKSTART / "test.jsonl").read_text(encoding="utf-8").splitlines()[:2]
    tests.write_text("\n".join(rows) + "\n", encoding="utf-8")
    flags = [f"--set=train.method={method}", f"--set=data.test={tests}", "--set=watch.answer_tokens=4"]
    more = ["--set=data.valid=none", f"--set=export.gguf={'[F16]' if method == 'full' else '[]'}"]
    result = localtune("run", *short(tmp_path, steps=4), *flags, *more)
    assert result.code == 0, result.err
    run = Run(next(localtune.runs.iterdir()))
    product = run.model if method == "full" else run.adapter
    assert is_complete(product, verify=True)
    figures = localtune("eval", "--json").json()
    losses = {entry["who"]: entry["loss"] for entry in figures if "loss" in entry}
    assert losses["tuned"] < losses["base"]
    assert _on_tests(figures) == _on_tests([*_stored(run)["base"], *_stored(run)["tuned"]])
    if method == "full":
        _is_exported_as_it_is(localtune, run)


def _is_exported_as_it_is(localtune: Command, run: Run) -> None:
    """The product of a full fine-tune is a whole model: there is a file of it, and nothing to fuse."""
    assert [product.suffix or product.name for product in run.products()] == ["model", ".gguf"]
    proofs = [event for event, _ in run.read_events() if isinstance(event, Proof)]
    assert [proof.passed for proof in proofs] == [True]
    refused = localtune("fuse", run.name)
    assert refused.code == 2
    assert "no adapter to fuse" in refused.err
    assert f"localtune export {run.name}" in refused.err


def test_the_same_recipe_twice_is_the_same_bytes(done: tuple[Command, Run], again: Again) -> None:
    first, second = (sha256(run.adapter / "adapter_model.safetensors") for run in (done[1], again.run))
    assert first == second
