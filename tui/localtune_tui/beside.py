"""Whether a model fits into memory beside the runs that train now. For threads.

What a run may still take is planned minus what it has; what a chat takes is its weights and a fixed part for the
libraries: estimates, from the files and from plan.json alone. Bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localtune.errors import LocaltuneError
from localtune.runs.files import read_json
from localtune.runs.folder import Run
from localtune.runs.store import all_runs, find_run, living
from localtune.sizes import readable

LIBRARIES = 500_000_000
"""Of a process that answers, before a model."""
CONVERSATION = 1.15
"""What a conversation adds to the weights."""
_WEIGHTS = ("libraries", "base weights")


@dataclass(frozen=True)
class Beside:
    """A model beside runs that train."""

    runs: tuple[str, ...]
    needed: int
    """By the model; 0 where its size is not known."""
    free: int
    """What the runs leave, once they have all that they planned."""

    @property
    def fits(self) -> bool:
        """Whether both have room."""
        return self.needed <= self.free

    @property
    def sentence(self) -> str:
        """What is said of it."""
        need = f"needs about {readable(self.needed)}" if self.needed else "has a size that is not known here"
        return f"{self.runs[0]} trains now and leaves {readable(max(0, self.free))} of memory; this model {need}"


def beside(target: str) -> Beside | None:
    """How `target`, a run, a file or a folder, fits beside what trains; None where nothing does."""
    training = _training()
    if not training:
        return None
    plans = [_plan(run) for run in training]
    graphics = next((plan for plan in plans if _device(plan).get("kind") == "cuda"), None)
    if graphics is not None and not target.endswith(".gguf"):
        free = _number(_device(graphics), "memory_limit") - sum(_number(plan, "memory_needed") for plan in plans)
    else:
        free = _available() - sum(
            max(0, _number(plan, "memory_needed") - _resident(run)) for run, plan in zip(training, plans, strict=True)
        )
    return Beside(tuple(run.name for run in training), needed(target), free)


def needed(target: str) -> int:
    """Memory that `target` takes to answer; 0 where that is not known."""
    path = Path(target)
    try:
        if path.is_file():
            return round(path.stat().st_size * CONVERSATION) + LIBRARIES
        if path.is_dir() and not (path / "plan.json").is_file():
            size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
            return round(size * CONVERSATION) + LIBRARIES if size else 0
        return round(sum(_weights(_plan(find_run(target)))) * CONVERSATION)
    except (OSError, LocaltuneError):
        return 0


def _weights(plan: dict[str, Any]) -> Iterator[int]:
    items = plan.get("memory")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("name") in _WEIGHTS:
            yield _number(item, "size")


def _training() -> list[Run]:
    try:
        return list(living(all_runs()))
    except OSError:
        return []


def _plan(run: Run) -> dict[str, Any]:
    try:
        return dict(read_json(run.plan))
    except (LocaltuneError, OSError):
        return {}


def _device(plan: dict[str, Any]) -> dict[str, Any]:
    found = plan.get("device")
    return found if isinstance(found, dict) else {}


def _number(value: dict[str, Any], key: str) -> int:
    found = value.get(key)
    return int(found) if isinstance(found, int | float) else 0


def _available() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _resident(run: Run) -> int:
    """What the process that trains has of its plan already."""
    import psutil

    try:
        worker = run.status().worker
        return int(psutil.Process(worker.pid).memory_info().rss) if worker is not None else 0
    except (psutil.Error, LocaltuneError, OSError):
        return 0
