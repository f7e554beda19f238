"""Folders of runs for tests: a true run of the quickstart's model, as it was recorded, whole or up to some update."""

import json
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from localtune.runs.folder import ALIVE, Run, State, Status
from localtune.runs.process import process_id

RECORDED = Path(__file__).parent / "recorded" / "run"
"""60 updates of the quickstart on a processor, with 6 evaluations; without its weights and data."""
NAME = "support-bot-20261121-201035"


def recorded_run(name: str = NAME, *, steps: int | None = None, state: State = "done") -> Run:
    """The recorded run among the runs of this test, up to update `steps`; this process is the one that trains it."""
    run = Run(Path(os.environ["LOCALTUNE_RUNS"]) / name)
    shutil.copytree(RECORDED, run.folder)
    lines = recorded_lines()
    if steps is not None:
        end = next((at for at, line in enumerate(lines) if _step(line) > steps), len(lines))
        run.events.write_text("\n".join(lines[:end]) + "\n", encoding="utf-8")
    alive = state in ALIVE
    now = time.time() - (120 if state == "stalled" else 0)
    worker = process_id() if alive else None
    given: State = "running" if state in ("stalled", "crashed") else state
    run.write_status(Status(given, steps or 60, 60, worker=worker, heartbeat=now))
    return run


def recorded_lines() -> list[str]:
    """The recorded events, a line each."""
    return (RECORDED / "events.jsonl").read_text(encoding="utf-8").splitlines()


def step_line(step: int, steps: int, loss: float = 1.5, **more: Any) -> str:
    """The line of one update."""
    value: dict[str, Any] = {"format": 1, "type": "step", "time": 1_799_990_000.0 + step, "step": step, "steps": steps}
    value |= {"epoch": step / steps, "loss": loss, "weight": 800.0, "learning_rate": 1e-4, "gradient_norm": 0.5}
    value |= {"applied": True, "tokens": 1400, "targets": 800, "peak_bytes": 1_500_000_000, "seconds": 0.4}
    return json.dumps(value | more)


def many_runs(count: int) -> None:
    """Folders of `count` runs of two updates, quickly made."""
    root = Path(os.environ["LOCALTUNE_RUNS"])
    root.mkdir(parents=True, exist_ok=True)
    plan = (RECORDED / "plan.json").read_text(encoding="utf-8")
    environment = (RECORDED / "environment.json").read_text(encoding="utf-8")
    status = json.dumps({"format": 1} | asdict(Status("done", 2, 2)))
    events = "".join(f"{step_line(step, 2, 2.0 / step)}\n" for step in (1, 2))
    for number in range(count):
        folder = root / f"bot-{number % 97:02d}-2026{1 + number % 12:02d}01-{number % 240000:06d}"
        folder.mkdir()
        (folder / "plan.json").write_text(plan, encoding="utf-8")
        (folder / "environment.json").write_text(environment, encoding="utf-8")
        (folder / "status.json").write_text(status, encoding="utf-8")
        (folder / "events.jsonl").write_text(events, encoding="utf-8")


def _step(line: str) -> int:
    value = json.loads(line)
    return int(value.get("step", 0)) if value["type"] in ("step", "evaluation", "done") else 0
