"""The gradient of an update through the boundary, which hands out weights only.

With AdamW's epsilon far above every gradient g, a first update is p - lr * g / (|g| + epsilon), which is p minus a
multiple of g: exact to |g| / epsilon, and to the rounding of p, which a large multiple makes small.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from localtune.backend import OptimizerSpec, Session
from localtune.batch import Batch
from tests.contract.conftest import Tensors, saved

MULTIPLE = 1e4
PLAIN_DESCENT = OptimizerSpec(epsilon=1e6, clip=0.0)
"""The optimizer of a session that `gradient` asks."""


def gradient(open_it: Callable[[], Session], folder: Path, batches: Sequence[Batch]) -> Tensors:
    """The gradient of the mean loss over `batches`, float64 by tensor name, where `open_it` opens.

    The session must have been opened with `PLAIN_DESCENT`; `folder` takes its files.
    """
    with open_it() as session:
        before = saved(session, folder / "before", state=True)
        session.train_step(batches, step=0, lr=MULTIPLE * PLAIN_DESCENT.epsilon)
        after = saved(session, folder / "after", state=True)
    return {name: (before[name].astype(np.float64) - after[name]) / MULTIPLE for name in before}


def apart(a: Tensors, b: Tensors) -> dict[str, float]:
    """Relative L2 distance of each tensor of `a` from the one of `b`; inf where only one of the two is zero."""
    assert a.keys() == b.keys()
    found = {}
    for name, value in b.items():
        size = float(np.linalg.norm(value.astype(np.float64)))
        gap = float(np.linalg.norm(a[name].astype(np.float64) - value))
        found[name] = gap / size if size else (0.0 if not gap else np.inf)
    return found
