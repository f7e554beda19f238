"""Puts faults into a worker that is started with this folder on its path: `FAULTS_IN_WORKER` says which, as JSON.

Keys: `above` = memory runs out in an update with more rows in a micro-batch than that; `abort`, `device` = updates
before which the process aborts or loses its device, each once for every file of that name that can be taken away from
`FAULTS_LEFT`; `huge` = updates whose loss is beyond every number, so that loss and gradient are not finite; `slow` =
seconds before every update.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

_FAULTS = json.loads(os.environ.get("FAULTS_IN_WORKER", "{}"))


class _Faulty:
    """A session that fails where it is told to."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def __enter__(self) -> "_Faulty":
        self._session.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._session.__exit__(*error)

    def train_step(self, micro_batches: Sequence[Any], *, step: int, lr: float) -> Any:
        time.sleep(_FAULTS.get("slow", 0))
        if max(len(batch.tokens) for batch in micro_batches) > _FAULTS.get("above", 1 << 30):
            raise MemoryError
        if step in _FAULTS.get("abort", ()) and _left("abort"):
            os.abort()
        if step in _FAULTS.get("device", ()) and _left("device"):
            from localtune.backend import device_lost

            raise device_lost("the card", "training", "injected")
        if step in _FAULTS.get("huge", ()):
            micro_batches = [_beyond(micro_batches[0]), *micro_batches[1:]]
        return self._session.train_step(micro_batches, step=step, lr=lr)


def _left(kind: str) -> bool:
    for path in Path(os.environ["FAULTS_LEFT"]).glob(f"{kind}-*"):
        path.unlink()
        return True
    return False


def _beyond(batch: Any) -> Any:
    weights = batch.weights.copy()
    weights[weights > 0] = 3e38
    return replace(batch, weights=weights)


def _inject() -> None:
    from localtune import backend

    load = backend.load_backend

    def load_faulty(name: str) -> Any:
        found = load(name)
        opened = found.open

        class _Backend:
            def __getattr__(self, name: str) -> Any:
                return getattr(found, name)

            def open(self, *arguments: Any, **more: Any) -> Any:
                session = opened(*arguments, **more)
                return _Faulty(session) if more["optimizer"] is not None else session

        return _Backend()

    backend.load_backend = load_faulty


if _FAULTS and "localtune.worker" in sys.orig_argv:
    _inject()
