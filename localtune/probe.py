"""What a backend finds on this machine and what it would refuse, asked in a process of its own.

The asker never loads torch or mlx. The child, `python -m localtune.probe NAME`, prints its device as one line of JSON
and then answers each line on its input, a model's folder and settings, with a line of refusals.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from localtune.adapter import Full, Lora, Nothing
from localtune.backend import (
    Device,
    MemorySpec,
    OptimizerSpec,
    Precision,
    Refusal,
    Settings,
    in_order,
    installation,
    load_backend,
)
from localtune.errors import InputError, LocaltuneError, MachineError, Problem
from localtune.model import ModelFiles, resolve
from localtune.objectives import OBJECTIVES

_TRAINABLES = {"nothing": Nothing, "full": Full, "lora": Lora}


class Probe(AbstractContextManager["Probe"]):
    """A backend in a child process, which loads it from now on; leaving ends the child.

    A child that has not told its device `timeout` seconds after it was started is ended; None waits for ever.
    """

    def __init__(self, name: str, timeout: float | None = None) -> None:
        self._name, self._timeout, self._late = name, timeout, threading.Event()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `close`; a pipe nobody reads may fill)
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "localtune.probe", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            encoding="utf-8",
            errors="replace",
        )
        weakref.finalize(self, self._child.kill)  # also where nobody comes to close it
        self._timer = threading.Timer(timeout or 0, self._end_late)
        self._timer.daemon = True
        if timeout is not None:
            self._timer.start()

    @cached_property
    def device(self) -> Device:
        """What the backend says of itself, waited for; of kind "none" where it cannot be used."""
        value = self._read()
        self._timer.cancel()
        if self._late.is_set():
            return self._unusable(f"it gave no answer within {self._timeout:g} s")
        if value is None:
            return self._unusable(self._last_words())
        return Device(**value | {"dtypes": tuple(value["dtypes"])})

    def refusals(self, model: ModelFiles, settings: Settings) -> list[Refusal]:
        """What the backend would train differently, or not at all. Raises `MachineError` when the child is gone."""
        assert self._child.stdin is not None
        backend, answer = self.device.backend, None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(json.dumps({"model": str(model.folder), "settings": _to_json(settings)}) + "\n")
            self._child.stdin.flush()
            answer = self._read()
        if answer is None:
            raise MachineError(Problem("backend.unusable", self._last_words(), where=backend))
        return [Refusal(**entry) for entry in answer["refusals"]]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        self._timer.cancel()
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout, self._said):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]

    def _read(self) -> dict[str, Any] | None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if line.startswith("{"):  # libraries may print, too
                value: dict[str, Any] = json.loads(line)
                return value
        return None

    def _last_words(self) -> str:
        self._child.wait()
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return said[-1] if said else f"the probe ended with {self._child.returncode}"

    def _unusable(self, reason: str) -> Device:
        return Device(self._name, "none", "", 0, (), {}, reason)

    def _end_late(self) -> None:
        self._late.set()
        self._child.kill()


def choose(name: str) -> Probe:
    """The backend called `name`, or for "auto" the first usable one. Raises `MachineError`."""
    reasons = []
    candidates = in_order() if name == "auto" else (name,)
    for candidate in candidates:
        probe = Probe(candidate)
        if probe.device.kind != "none":
            return probe
        reasons.append(f"{candidate}: {probe.device.reason}")
        probe.close()
    raise MachineError(Problem("backend.unusable", "; ".join(reasons), fix=_mend(candidates[0], reasons[0])))


def _mend(name: str, reason: str) -> str:
    return installation(name) if "not installed" in reason else "localtune doctor"


def refuse(refusals: Iterable[Refusal]) -> None:
    """Raise one `InputError` of all `refusals`, if there are any."""
    problems = [
        Problem(
            "backend.refused", f"{refusal.setting}: {refusal.reason}", fix=refusal.fix or f"change {refusal.setting}"
        )
        for refusal in refusals
    ]
    if problems:
        raise InputError(*problems)


def _to_json(settings: Settings) -> dict[str, Any]:
    kind = type(settings.trainable).__name__.lower()
    objective = settings.objective.name if settings.objective else None
    optimizer = asdict(settings.optimizer) if settings.optimizer else None
    return {
        "trainable": {"kind": kind} | asdict(settings.trainable),
        "precision": asdict(settings.precision),
        "objective": objective,
        "optimizer": optimizer,
        "memory": asdict(settings.memory),
        "max_tokens": settings.max_tokens,
        "packed": settings.packed,
    }


def _from_json(value: dict[str, Any]) -> Settings:
    trainable = dict(value["trainable"])
    made = _TRAINABLES[trainable.pop("kind")](**{k: tuple(v) if k == "targets" else v for k, v in trainable.items()})
    return Settings(
        made,
        Precision(**value["precision"]),
        OBJECTIVES[value["objective"]] if value["objective"] else None,
        OptimizerSpec(**value["optimizer"]) if value["optimizer"] else None,
        MemorySpec(**value["memory"]),
        value["max_tokens"],
        value["packed"],
    )


def main() -> None:
    """Print the device of the backend named on the command line, then answer questions until the input ends."""
    try:
        backend = load_backend(sys.argv[1])
        device = backend.probe()
    except LocaltuneError as error:
        device = Device(sys.argv[1], "none", "", 0, (), {}, error.problems[0].what)
    _say(asdict(device))
    for line in sys.stdin:
        asked = json.loads(line)
        model = resolve(asked["model"], Path(), offline=True)
        _say({"refusals": [asdict(refusal) for refusal in backend.supports(model, _from_json(asked["settings"]))]})


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
