"""Checkpoints of a run: complete or absent, found by their manifests, the last two and the best kept."""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from localtune.durable import remove_folder
from localtune.errors import InputError, Problem
from localtune.events import Checkpoint
from localtune.runs.files import is_complete, new_folder, read_json, sweep, write_json
from localtune.runs.folder import Run
from localtune.typed import typed

STATE = "state.json"
_NAME = re.compile(r"step-(\d{6,})")
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
    evaluated: int = -1
    """Last update after which the validation rows were scored; -1 = never."""
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
    _prune(run, progress)
    return target


def progress_of(folder: Path) -> Progress:
    """The progress stored in a checkpoint."""
    value = read_json(folder / STATE)
    del value["format"]
    return Progress(**value)


def steps(run: Run) -> list[int]:
    """Steps that have a complete checkpoint, ascending; sizes are checked, contents not."""
    folders = run.checkpoints.iterdir() if run.checkpoints.is_dir() else ()
    return sorted(int(found[1]) for f in folders if (found := _NAME.fullmatch(f.name)) and is_complete(f))


def latest(run: Run) -> tuple[Progress, Path] | None:
    """The newest checkpoint whose every byte is as it was written, or None."""
    for step in reversed(steps(run)):
        folder = path_of(run, step)
        if is_complete(folder, verify=True):
            return progress_of(folder), folder
    return None


def passed_over(run: Run, progress: Progress) -> list[int]:
    """Steps of newer checkpoints than that of `progress`: those are damaged, or cannot be read."""
    folders = run.checkpoints.iterdir() if run.checkpoints.is_dir() else ()
    named = (_NAME.fullmatch(folder.name) for folder in folders)
    return sorted(step for found in named if found and (step := int(found[1])) > progress.step)


def newest(run: Run) -> tuple[Progress, Path] | None:
    """As `latest`. Raises `InputError` where there are checkpoints and none of them is intact: that is no new run."""
    found = latest(run)
    if found is None and (damaged := passed_over(run, Progress())):
        what = f"none of its checkpoints can be used: {', '.join(f'update {step}' for step in damaged)}"
        fix = f"{typed('localtune', 'run', run.recipe)}   starts a new one"
        raise InputError(Problem("run.checkpoint", what, where=str(run.checkpoints), fix=fix))
    return found


def rewind(run: Run) -> Progress:
    """Forget what lies behind the newest checkpoint: litter of cut writes, and events that will happen again.

    Returns where the run stands then. For the owner of the run only. Raises the error of `newest`.
    """
    sweep(run.folder)
    sweep(run.checkpoints)
    found = newest(run)
    run.truncate_events(_end_of_record(run, found[0]) if found else 0)
    return found[0] if found else Progress()


def _end_of_record(run: Run, progress: Progress) -> int:
    """Where the last event ends that the checkpoint knows of, its own record included."""
    end = 0
    for event, offset in run.read_events():
        own = isinstance(event, Checkpoint) and event.step == progress.step
        if offset > progress.events_offset and not own:
            break
        end = offset
    return end


def intact(run: Run, step: int) -> Path | None:
    """The checkpoint after update `step`, or None when it is damaged or gone."""
    folder = path_of(run, step)
    return folder if is_complete(folder, verify=True) else None


def _prune(run: Run, progress: Progress) -> None:
    """Drop what is older than the last two, but not the best; a newer one is damaged and counts for nothing."""
    present = [step for step in steps(run) if step <= progress.step]
    for step in present[:-KEEP]:
        if step != progress.best_step:
            remove_folder(path_of(run, step))
