"""Runs of the quickstart's model whose workers meet faults, and what is compared of a run."""

import json
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from localtune.events import Evaluation, Event, Step, Warn
from localtune.runs.files import sha256
from localtune.runs.folder import Run
from tests.command import Command, short, wait_until

INJECTED = Path(__file__).parent / "injected"
BACKENDS = ("torch", "mlx")


def with_faults(command: Command, folder: Path, times: int = 1, **faults: Any) -> Command:
    """The command with `faults` in its workers, those that end a process `times` times each."""
    left = folder / "left"
    left.mkdir(parents=True)
    for kind in faults:
        for number in range(times):
            (left / f"{kind}-{number}").touch()
    path = os.pathsep.join(filter(None, (str(INJECTED), os.environ.get("PYTHONPATH"))))
    more = (("PYTHONPATH", path), ("FAULTS_IN_WORKER", json.dumps(faults)), ("FAULTS_LEFT", str(left)))
    return replace(command, environment=(*command.environment, *more))


def arguments(folder: Path, backend: str, steps: int, *more: str) -> Sequence[str]:
    """Of `localtune run`: a short run on `backend`."""
    return [*short(folder, steps=steps), "--backend", backend, *more]


def only(command: Command) -> Run:
    """The one run there is."""
    (folder,) = command.runs.iterdir()
    return Run(folder)


def whole(command: Command, folder: Path, backend: str, steps: int, *more: str) -> Run:
    """A run from its beginning to its end."""
    result = command("run", *arguments(folder, backend, steps, *more))
    assert result.code == 0, result.err
    return only(command)


def figures(run: Run) -> list[tuple[object, ...]]:
    """Every measured number but times and memory."""

    def numbers(event: Event) -> tuple[object, ...]:
        hidden = {"seconds", "peak_bytes"}
        return (event.kind, *(value for key, value in vars(event).items() if key not in hidden))

    return [numbers(event) for event, _ in run.read_events() if isinstance(event, Step | Evaluation)]


def weights(run: Run) -> dict[str, str]:
    """SHA-256 of the adapter, and of weights and optimizer in the last checkpoint."""
    last = max(run.checkpoints.iterdir())
    files = [*last.glob("*.safetensors"), *last.glob("optimizer.json"), *run.adapter.glob("*.safetensors")]
    return {f"{path.parent.name}/{path.name}": sha256(path) for path in files}


def notes(run: Run) -> list[str]:
    """Codes and texts of what was noted."""
    return [f"{event.code}: {event.text}" for event, _ in run.read_events() if isinstance(event, Warn)]


def steps_done(run: Run) -> int:
    """Updates on record."""
    return max((event.step for event, _ in run.read_events() if isinstance(event, Step)), default=0)


def kill(run: Run, *who: str) -> bool:
    """End its supervisor, its worker, or both, as a power cut would; whether any was alive."""
    status, alive = run.status(), False
    for name in who or ("supervisor", "worker"):
        process = getattr(status, name)
        if process is not None and process.alive:
            alive = True
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    return alive


def kill_all(run: Run) -> bool:
    """End everything of the run and wait until it is seen; whether anything was alive."""
    alive = kill(run)
    wait_until(lambda: run.status().state not in ("starting", "running", "paused", "stalled"))
    return alive
