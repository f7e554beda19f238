"""Checkpoints of a run: complete or absent, found by their manifests, the last two and the best kept."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from localtune.errors import Problem, RunFailed
from localtune.events import Checkpoint
from localtune.runs.files import is_complete, new_folder, read_json, sweep, write_json
from localtune.runs.folder import Run

STATE = "state.json"
KEEP = 2


@dataclass(frozen=True)
class Progress:
    """Where a run stands after `step` updates: with the recipe and the weights, all that a resume needs."""

    step: int = 0
    best_step: int = 0
    """Update with the lowest validation loss; 0 = none yet."""
    best_loss: float | None = None
    rises: int = 0
    """Evaluations in a row without a new best."""
    skipped: int = 0
    """Updates in a row that were not applied."""
    events_offset: int = 0
    """Size of `events.jsonl` when this was written."""


def path_of(run: Run, step: int) -> Path:
    """Folder of the checkpoint after `step` updates."""
    return run.checkpoints / f"step-{step:06d}"


def save(run: Run, progress: Progress, write: Callable[[Path], None]) -> Path:
    """Write a checkpoint with `write(folder)`, then drop the ones that are no longer kept."""
    target = path_of(run, progress.step)
    with new_folder(target) as folder:
        write(folder)
        write_json(folder / STATE, asdict(progress))
    _prune(run, {progress.best_step, progress.step})
    return target


def progress_of(folder: Path) -> Progress:
    """The progress stored in a checkpoint."""
    value = read_json(folder / STATE)
    del value["format"]
    return Progress(**value)


def steps(run: Run) -> list[int]:
    """Steps that have a complete checkpoint, ascending; sizes are checked, contents not."""
    folders = run.checkpoints.glob("step-*") if run.checkpoints.is_dir() else ()
    return sorted(int(folder.name.removeprefix("step-")) for folder in folders if is_complete(folder))


def latest(run: Run) -> tuple[Progress, Path] | None:
    """The newest checkpoint whose every byte is as it was written, or None."""
    sweep(run.checkpoints)
    for step in reversed(steps(run)):
        folder = path_of(run, step)
        if is_complete(folder, verify=True):
            return progress_of(folder), folder
    return None


def rewind(run: Run) -> None:
    """Forget the events behind the newest checkpoint: they will happen again."""
    found = latest(run)
    run.truncate_events(_end_of_record(run, found[0]) if found else 0)


def _end_of_record(run: Run, progress: Progress) -> int:
    for event, offset in run.read_events(progress.events_offset):
        if isinstance(event, Checkpoint) and event.step == progress.step:
            return offset
    return progress.events_offset


def best(run: Run, step: int) -> Path:
    """The checkpoint after update `step`, verified. Raises `RunFailed` when it is damaged or gone."""
    folder = path_of(run, step)
    if not is_complete(folder, verify=True):
        raise RunFailed(Problem("run.checkpoint", "the checkpoint is damaged or gone", where=str(folder)))
    return folder


def _prune(run: Run, wanted: set[int]) -> None:
    present = steps(run)
    for step in present[:-KEEP]:
        if step not in wanted:
            shutil.rmtree(path_of(run, step))
