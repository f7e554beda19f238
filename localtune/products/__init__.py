"""What a user takes away from a run: fused weights and GGUF files, each proven before it is named.

Every step is an event. A product that fails its proof stays where it can be looked at, under a name that says so, and
ends the work with `RunFailed`.
"""

import os
import shutil
from pathlib import Path

from localtune.errors import Problem, RunFailed
from localtune.events import Proof as Proved
from localtune.proof import Proof
from localtune.runs.folder import Run

PROOF = "proof.json"


def event_of(proof: Proof) -> Proved:
    """The event that a product was compared."""
    shown = [{"name": check.name, "passed": check.passed, "text": check.text} for check in proof.checks]
    return Proved(proof.product, proof.passed, shown, dict(proof.losses), round(proof.seconds, 2))


def shown(path: Path, run: Run | None) -> str:
    """`path` for an event: relative to the run's folder where it lies in there."""
    inside = run is not None and path.is_relative_to(run.folder)
    return path.relative_to(run.folder).as_posix() if run is not None and inside else str(path)


def set_aside(product: Path, aside: Path) -> None:
    """Rename what failed its proof to `aside`, in place of an earlier one."""
    if aside.is_dir():
        shutil.rmtree(aside)
    os.replace(product, aside)


def failure(proof: Proof, aside: Path, record: Path) -> RunFailed:
    """What is said of a product that failed: which checks, and where to look."""
    wrong = [check for check in proof.checks if not check.passed]
    names = ", ".join(check.name for check in wrong)
    evidence = "\n".join(f"{check.name}: {check.text}\nlook at: {check.look}" for check in wrong)
    what = f"the proof of {proof.product} failed ({names}); it is kept as {aside.name}"
    return RunFailed(Problem("proof.failed", what, str(aside), evidence, fix=f"read {record}, and please report it"))
