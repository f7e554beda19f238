"""What a user takes away from a run: fused weights and GGUF files, each proven before it is named.

Every step is an event. A product that fails its proof stays where it can be looked at, under a name that says so, and
ends the work with `RunFailed`. What was not written here is never replaced.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from localtune.durable import FULL, NoRoom, replace
from localtune.errors import InputError, MachineError, Problem, ResourceError, RunFailed
from localtune.events import Proof as Proved
from localtune.proof import Proof
from localtune.runs.folder import Run
from localtune.runs.lock import PRODUCTS, RunLock

RECORD = "proof.json"
"""Beside every product: what it was made of, and what was compared."""


@contextmanager
def making(run: Run, heed: Callable[[], None] | None = None) -> Iterator[None]:
    """Nobody else makes products of `run` meanwhile.

    Raises `InputError` when somebody does; with `heed`, which may raise, it waits instead.
    """
    while True:
        try:
            lock = RunLock(run.folder, PRODUCTS).__enter__()
            break
        except InputError:
            if heed is None:
                what, fix = "another process is making products of this run", "wait for it to end, then try again"
                raise InputError(Problem("run.owned", what, run.name, fix=fix)) from None
            heed()
            time.sleep(0.5)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What the system refuses while products are written to `folder`, told with the folder and what to do."""
    try:
        yield
    except OSError as error:
        where = str(error.filename or folder)
        if error.errno in FULL:
            what = f"no space is left: {error.strerror}" if isinstance(error, NoRoom) else "no space is left"
            fix = "free some space and try again, or -o a folder on another disk"
            raise ResourceError(Problem("disk.full", what, str(folder), fix=fix)) from None
        fix = "check that it is there and that you may write into its folder"
        raise MachineError(Problem("product.system", str(error.strerror or error), where, fix=fix)) from None


def event_of(proof: Proof) -> Proved:
    """The event that a product was compared."""
    checks = [{"name": check.name, "passed": check.passed, "text": check.text} for check in proof.checks]
    return Proved(proof.product, proof.passed, checks, dict(proof.losses), round(proof.seconds, 2))


def name_in(path: Path, run: Run | None) -> str:
    """`path` for an event: relative to the run's folder where it lies in there."""
    if run is None or not path.is_relative_to(run.folder):
        return str(path)
    return path.relative_to(run.folder).as_posix()


def set_aside(product: Path, aside: Path) -> Path:
    """Rename what failed its proof to `aside`, or a numbered name where that is taken; returns the name."""
    free, number = aside, 1
    while free.exists():
        number += 1
        free = aside.with_name(f"{number}.{aside.name}")
    replace(product, free)
    return free


def failure(proof: Proof, aside: Path, record: Path) -> RunFailed:
    """What is said of a product that failed: which checks, and where to look."""
    wrong = [check for check in proof.checks if check.passed is False]
    names = ", ".join(check.name for check in wrong)
    evidence = "\n".join(f"{check.name}: {check.text}\nlook at: {check.look}" for check in wrong)
    what = f"the proof of {proof.product} failed ({names}); it is kept as {aside.name}"
    fix = f"a type that rounds less, such as F16; {record} has the figures; please report it"
    return RunFailed(Problem("proof.failed", what, str(aside), evidence, fix))
