"""Keeps one run alive without anybody watching: `python -m localtune.supervisor FOLDER LAUNCH`.

It owns the run folder by a lock, starts the worker, keeps the machine from idle sleep, writes `status.json` with a
heartbeat, turns signals into requests to save and stop, and says in words how the worker ended. It outlives the
terminal that started it.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from localtune.awake import awake
from localtune.errors import InputError, LocaltuneError
from localtune.events import Failed, Step
from localtune.runs import checkpoints
from localtune.runs.files import read_json
from localtune.runs.folder import Run, State, Status
from localtune.runs.lock import WORKER, RunLock
from localtune.runs.process import process_id

HEARTBEAT = 2.0
"""Seconds between two writes of `status.json`."""
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""OpenMP's threads spin while they wait; beside other work on the same cores that made a step ten times slower."""
METAL = {"AGX_RELAX_CDM_CTXSTORE_TIMEOUT": "1"}
"""Gives work on Apple's GPU more time before macOS ends it for the display; helps on some machines (mlx#3267)."""
DARK = "turn the display off while it trains (pmset displaysleepnow), or use none"
"""With a dark display macOS has no reason to end long work on the GPU (mlx#3267)."""
STATES: dict[int, State] = {0: "done", 130: "stopped", 143: "stopped"}


@dataclass
class Watch:
    """What the supervisor knows of its run."""

    run: Run
    status: Status
    offset: int = 0
    """Bytes of the events it has read."""
    failed: bool = False
    """The worker recorded its own failure."""
    signalled: int | None = None
    """The signal that asked this process to end."""

    def receive_signals(self) -> None:
        """From now on a signal asks the worker to save and stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def look(self) -> None:
        """Read what the worker recorded since the last look, and write the heartbeat."""
        for event, offset in self.run.read_events(self.offset):
            self.offset = offset
            if isinstance(event, Step):
                self.status = replace(self.status, step=event.step, steps=event.steps)
            self.failed = isinstance(event, Failed)
        self.write(replace(self.status, heartbeat=time.time()), durable=False)

    def write(self, status: Status, *, durable: bool = True) -> None:
        """Replace the status; a full disk keeps the old one, and the worker its own counsel."""
        self.status = status
        try:
            self.run.write_status(status, durable=durable)
        except OSError as error:
            sys.stderr.write(f"status not written: {error}\n")

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signalled = number
        self.run.request("stop")


def supervise(run: Run, launch: str) -> int:
    """Run the worker to its end and return its exit code. Raises `InputError` when somebody else owns the run."""
    with RunLock(run.folder):
        with RunLock(run.folder, WORKER):  # a worker that lost its supervisor may still be saving
            for request in run.requests():
                run.answer(request)
            checkpoints.rewind(run)
        watch = Watch(run, Status("starting", launch=launch, supervisor=process_id(), heartbeat=time.time()))
        watch.receive_signals()
        watch.write(watch.status)
        with run.log.open("ab") as log:
            command = [sys.executable, "-P", "-m", "localtune.worker", str(run.folder)]
            worker = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), **on_its_own()
            )
        watch.write(replace(watch.status, state="running", worker=process_id(worker.pid)))
        with awake(worker.pid):
            code = _wait(worker, watch)
        return _finish(watch, code)


def environment(system: str = sys.platform) -> dict[str, str]:
    """Of the worker; what the user has set wins."""
    return PATIENT | (METAL if system == "darwin" else {}) | os.environ


def _wait(worker: "subprocess.Popen[bytes]", watch: Watch) -> int:
    while True:
        watch.look()
        try:
            return worker.wait(timeout=HEARTBEAT)
        except subprocess.TimeoutExpired:
            continue


def _finish(watch: Watch, code: int) -> int:
    """Write down how it ended; returns the exit code of the run."""
    watch.look()
    if code == 130 and watch.signalled is not None:
        code = 128 + watch.signalled
    detail, mend = ("", "") if code in STATES else explain(code, device_kind(watch.run))
    if code not in STATES and not watch.failed:
        fix = f"{mend}localtune run --resume {watch.run.name}"
        text = f"error[run.crashed]: the training process {detail}\n  fix: {fix}"
        watch.run.record(Failed("run.crashed", text))
    watch.write(replace(watch.status, state=STATES.get(code, "failed"), exit_code=code, detail=detail))
    return code


def explain(code: int, kind: str = "") -> tuple[str, str]:
    """How a process ended, in words, from its exit code (negative: the number of the signal), and what avoids it.

    `kind` is that of the device; what avoids it is "" or ends with what leads over to a command.
    """
    if code >= 0:
        return f"ended with code {code}", ""
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    if name == "SIGABRT" and kind == "metal":
        what = "macOS most likely ended its work on the GPU, which held up the display for too long"
        return f"ended with SIGABRT: {what}", f"{DARK}, then go on from the last checkpoint:  "
    likely = {"SIGKILL": ": killed, most often because memory ran out", "SIGABRT": ": aborted by a library or driver"}
    return f"ended with {name}{likely.get(name, '')}", ""


def device_kind(run: Run) -> str:
    """What the run computes on, as its plan says; "" where that cannot be read."""
    try:
        return str(read_json(run.plan)["device"]["kind"])
    except (LocaltuneError, OSError, KeyError, TypeError):
        return ""


def on_its_own() -> dict[str, Any]:
    """Arguments of a process that a Ctrl+C in the terminal does not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def main() -> None:
    """Supervise the run named on the command line."""
    try:
        code = supervise(Run(Path(sys.argv[1])), sys.argv[2])
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        code = error.exit_code
    sys.exit(code if code >= 0 else 1)


if __name__ == "__main__":
    main()
