"""Keeps one run alive without anybody watching: `python -m localtune.supervisor FOLDER`.

It owns the run folder by a lock, starts the worker, writes `status.json` with a heartbeat, passes signals on, and
says in words how the worker ended. It outlives the terminal that started it.
"""

import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from localtune.errors import InputError
from localtune.events import Failed, Step
from localtune.runs import checkpoints
from localtune.runs.folder import Run, State, Status
from localtune.runs.lock import RunLock
from localtune.runs.process import process_id

HEARTBEAT = 2.0
"""Seconds between two writes of `status.json`."""
STATES: dict[int, State] = {0: "done", 130: "stopped", 143: "stopped"}


@dataclass
class Watch:
    """What the supervisor knows of its run."""

    run: Run
    status: Status
    offset: int = 0
    failed: bool = False
    """The worker recorded its own failure."""

    def look(self) -> None:
        """Read what the worker recorded since the last look, and write the heartbeat."""
        if self.run.events.exists() and self.run.events.stat().st_size < self.offset:
            self.offset = 0
        for event, offset in self.run.read_events(self.offset):
            self.offset = offset
            if isinstance(event, Step):
                self.status = replace(self.status, step=event.step, steps=event.steps)
            self.failed = isinstance(event, Failed)
        self.status = replace(self.status, heartbeat=time.time())
        self.run.write_status(self.status, durable=False)


def supervise(run: Run) -> int:
    """Run the worker to its end and return its exit code. Raises `InputError` when somebody else owns the run."""
    with RunLock(run.folder):
        for request in run.requests():
            run.answer(request)
        checkpoints.rewind(run)
        status = Status("starting", 0, 0, process_id(), None, time.time())
        run.write_status(status)
        with run.log.open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-P", "-m", "localtune.worker", str(run.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **in_its_own_group(),
            )
        watch = Watch(run, replace(status, state="running", worker=process_id(worker.pid)))
        _pass_signals_on(worker, watch)
        code = _wait(worker, watch)
        _finish(watch, code)
        return code


def _wait(worker: "subprocess.Popen[bytes]", watch: Watch) -> int:
    while True:
        watch.look()
        try:
            return worker.wait(timeout=HEARTBEAT)
        except subprocess.TimeoutExpired:
            continue


def _finish(watch: Watch, code: int) -> None:
    watch.look()
    detail = "" if code in STATES else explain(code)
    if code not in STATES and not watch.failed:
        text = f"error[run.crashed]: the training process {detail}\n  fix: localtune run --resume {watch.run.name}"
        watch.run.record(Failed("run.crashed", text))
    watch.run.write_status(replace(watch.status, state=STATES.get(code, "failed"), exit_code=code, detail=detail))


def explain(code: int) -> str:
    """How a process ended, in words, from its exit code (negative: the number of the signal)."""
    if code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    likely = {"SIGKILL": ": killed, most often because memory ran out", "SIGABRT": ": aborted by a library or driver"}
    return f"ended with {name}{likely.get(name, '')}"


def _pass_signals_on(worker: "subprocess.Popen[bytes]", watch: Watch) -> None:
    def pass_on(number: int, frame: FrameType | None) -> None:

        worker.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)


def in_its_own_group() -> dict[str, Any]:
    """Keeps a Ctrl+C in the terminal from reaching the process, which then ends by request only."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def main() -> None:
    """Supervise the run named on the command line."""
    try:
        code = supervise(Run(Path(sys.argv[1])))
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        code = error.exit_code
    sys.exit(code if code >= 0 else 1)


if __name__ == "__main__":
    main()
