"""Real sessions that save checkpoints in a loop and are killed, or cut: `python -m tests.faults.saving BACKEND FOLDER
KILLS CUTS` prints what was found as JSON.

Each try is forked from here before anything was computed, since what computes does not survive a fork.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

import numpy as np

from localtune.adapter import Lora
from localtune.backend import Backend, MemorySpec, OptimizerSpec, Precision, Session, load_backend
from localtune.batch import Segment, collate
from localtune.model import resolve
from localtune.objectives import SFT
from localtune.runs import checkpoints
from localtune.runs.checkpoints import Progress
from localtune.runs.folder import Run
from tests.command import MODEL
from tests.faults.cuts import cut_everywhere, partials

LORA = Lora(8, 16.0)
BEST = 1


def main(name: str, folder: Path, kills: int, cuts: int) -> dict[str, int]:
    """Save and kill `kills` times, then cut `cuts` calls and refuse as many; how often something was lost."""
    backend, run = load_backend(name), Run(folder)
    run.checkpoints.mkdir(parents=True)
    _import_all(backend)
    middle = sum(_killed(backend, run, random.Random(number)) for number in range(kills))
    tried = _cut(backend, run, cuts, full=False) + _cut(backend, run, cuts, full=True) if cuts else 0
    return {"kills": kills, "in the middle": middle, "calls": tried}


def _import_all(backend: Backend) -> None:
    """Import here what a session needs, so that no try has to."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        with _session(backend), open(writer, "w") as said:
            said.write("\n".join(sys.modules))
        os._exit(0)
    os.close(writer)
    with open(reader) as said:
        names = said.read().split("\n")
    os.waitpid(process, 0)
    for name in names:
        with suppress(Exception):
            import_module(name)


def _killed(backend: Backend, run: Run, chance: random.Random) -> bool:
    """Kill one that saves in a loop; whether a save was under way. Raises where a checkpoint is lost."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        _save_for_ever(backend, run, writer)
    os.close(writer)
    said = os.read(reader, 4)
    time.sleep(chance.uniform(0, 0.2))
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    while more := os.read(reader, 4096):
        said += more
    os.close(reader)
    last = int.from_bytes(said[-4:], "little")
    middle = bool(list(partials(run.folder)))
    checkpoints.rewind(run)
    found = checkpoints.latest(run)
    assert found is not None
    assert found[0].step >= last > 0, f"{last} was saved, {found} is there"
    assert checkpoints.intact(run, BEST) is not None
    assert not list(partials(run.folder))
    return middle


def _save_for_ever(backend: Backend, run: Run, said: int) -> None:
    try:
        found = checkpoints.latest(run)
        with _session(backend) as session:
            for step in range(found[0].step + 1 if found else BEST, 1 << 30):
                _save(run, session, step)
                os.write(said, step.to_bytes(4, "little"))
    finally:
        os._exit(1)


def _cut(backend: Backend, run: Run, most: int, *, full: bool) -> int:
    found = checkpoints.latest(run)
    assert found is not None
    last = found[0].step

    def act() -> None:
        hook = sys.getprofile()
        sys.setprofile(None)
        with _session(backend) as session:
            sys.setprofile(hook)
            _save(run, session, last + 1)
            sys.setprofile(None)

    def check(call: int) -> None:
        checkpoints.rewind(run)
        there = checkpoints.latest(run)
        assert there is not None
        assert there[0].step in (last, last + 1)
        assert checkpoints.intact(run, BEST) is not None
        assert not list(partials(run.folder))

    return cut_everywhere(run.folder, act, check, full=full, most=most)


def _save(run: Run, session: Session, step: int) -> None:
    checkpoints.save(run, Progress(step, BEST), lambda to: session.save(to, state=True))


@contextmanager
def _session(backend: Backend) -> Iterator[Session]:
    """After one update, so that its optimizer has a state."""
    tokens = np.arange(20, 52, dtype=np.int32)
    weights = np.ones(len(tokens), np.float32)
    weights[0] = 0
    with backend.open(
        resolve(str(MODEL), Path()), LORA, None, precision=Precision("float32", "float32"), objective=SFT,
        optimizer=OptimizerSpec(), memory=MemorySpec(limit=0), seed=7,
    ) as session:  # fmt: skip
        session.train_step([collate([[Segment(tokens, weights, 0)]])], step=0, lr=1e-3)
        yield session


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
