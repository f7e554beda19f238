"""Keeps one run alive without anybody watching: `python -m localtune.supervisor FOLDER LAUNCH`.

It owns the run folder by a lock, starts the worker, keeps the machine from idle sleep, writes `status.json` with a
heartbeat, and turns signals into requests to save and stop. It outlives the terminal that started it. When the worker
ends it says why in words, and where that can be healed it starts another from the last checkpoint: with smaller
micro-batches after memory ran out, after space was freed on a full disk, after a crash or a lost device as it was. A
run that gets no further in `healing.TRIES` tries has failed.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from localtune.awake import awake
from localtune.data.prepared import load
from localtune.durable import free_space
from localtune.easing import ease, eased, longest_of, smaller, times_eased, told
from localtune.ending import Ending, memory_kills, stop_code, understand
from localtune.errors import LocaltuneError, Problem, ResourceError
from localtune.events import Failed
from localtune.healing import RETRIED, Healing, Pulse, disk_needed
from localtune.job import read_plan
from localtune.power import power
from localtune.redacted import guard
from localtune.runs import checkpoints
from localtune.runs.folder import Run, State
from localtune.runs.lock import WORKER, RunLock
from localtune.runs.process import process_id
from localtune.watch import Watch

HEARTBEAT = 2.0
"""Seconds between two writes of `status.json`."""
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""OpenMP's threads spin while they wait; beside other work on the same cores that made a step ten times slower."""
METAL = {"AGX_RELAX_CDM_CTXSTORE_TIMEOUT": "1"}
"""Gives work on Apple's GPU more time before macOS ends it for the display; helps on some machines (mlx#3267)."""
HEALED = ("memory", *RETRIED)
STATES: dict[str, State] = {"done": "done", "stopped": "stopped"}


def supervise(run: Run, launch: str) -> int:
    """Run workers to the run's end and return its exit code. Raises `InputError` when somebody else owns the run, and
    `ResourceError` where nothing can be written."""
    with RunLock(run.folder):
        with RunLock(run.folder, WORKER):  # a worker that lost its supervisor may still be saving
            for request in run.requests():
                run.answer(request)
            checkpoints.rewind(run)
        watch, healing = Watch(run, launch), Healing()
        watch.receive_signals()
        watch.look()
        if not watch.say("starting"):
            raise ResourceError(Problem("disk.full", "nothing can be written", where=str(run.folder)))
        while True:
            ending = _session(watch)
            if not _goes_on(watch, healing, ending):
                return _finish(watch, ending)
            watch.rewind()


def _session(watch: Watch) -> Ending:
    """One worker, from its start to its end."""
    run, killed, watch.failed = watch.run, memory_kills(), None
    with suppress(OSError):  # without it a full disk is recorded in the log alone
        run.keep_reserve()
    with run.log.open("ab") as log:
        me = json.dumps(asdict(process_id()))
        command = [sys.executable, "-P", "-m", "localtune.worker", str(run.folder), me]
        worker = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), **on_its_own()
        )
    watch.began(worker)
    with awake(worker.pid):
        code = _wait(worker, watch)
    watch.look()
    if watch.stuck:
        return Ending("crash", code, "did nothing any more and was ended")
    if code == 130:
        code = stop_code(watch.signalled)
    more = None if killed is None else memory_kills() != killed
    full = disk_needed(run) > free_disk(run)
    return understand(code, watch.failed, device_kind(run), memory_ran_out=more, disk_full=full)


def environment(system: str = sys.platform) -> dict[str, str]:
    """Of the worker; what the user has set wins."""
    return PATIENT | (METAL if system == "darwin" else {}) | os.environ


def _wait(worker: "subprocess.Popen[bytes]", watch: Watch) -> int:
    pulse = Pulse(worker.pid)
    while True:
        watch.look()
        if (found := power()) and found.low and "pause" not in watch.run.requests():
            with suppress(OSError):
                watch.run.request("pause")
        if not watch.stuck and pulse.stuck(watch.offset):
            watch.stuck = True
            worker.kill()
        try:
            return worker.wait(timeout=HEARTBEAT)
        except subprocess.TimeoutExpired:
            continue


def _goes_on(watch: Watch, healing: Healing, ending: Ending) -> bool:
    """Whether another worker is to be started; waits until it can be, and leaves word of why."""
    if watch.asked_to_stop or not watch.run.folder.is_dir():
        return False
    if ending.kind == "stopped":
        return "pause" in watch.run.requests() and _charged(watch)
    if ending.kind == "memory":
        return watch.trained and _eased(watch)
    if not healing.may(ending, watch.step):
        return False
    if ending.kind == "disk":
        return _freed(watch, healing)
    words = "lost its device" if ending.kind == "device" else ending.said
    watch.note("run.healed.note", f"the training process {words}; it is started again from the last checkpoint")
    return _until(watch, lambda: "", healing.wait)


def _charged(watch: Watch) -> bool:
    """Wait for the battery; whether to go on."""

    def low() -> str:
        found = power()
        return f"battery at {found.percent:.0f} %: goes on when plugged in" if found and not found.enough else ""

    goes_on = _until(watch, low)
    watch.run.answer("pause")
    return goes_on


def _freed(watch: Watch, healing: Healing) -> bool:
    """Wait for space on the disk; whether to go on."""
    needed = disk_needed(watch.run)

    def short() -> str:
        free = free_disk(watch.run)
        return f"needs {needed:,} bytes of disk, {free:,} are free" if free < needed else ""

    return _until(watch, short, healing.wait)


def _eased(watch: Watch) -> bool:
    """Make the micro-batches smaller; whether they could be."""
    try:
        longest = longest_of(load(watch.run.data).train)
        plan = eased(read_plan(watch.run), times_eased(watch.run), longest)
        after = smaller(plan, longest)
        if after is None:
            return False
        ease(watch.run)
    except (LocaltuneError, OSError):
        return False
    text = f"memory ran out at update {watch.step + 1}: going on from the last checkpoint with {told(plan, after)}"
    watch.note("run.healed.note", text)
    return True


def _until(watch: Watch, reason: Callable[[], str], seconds: float = 0.0) -> bool:
    """Wait at least `seconds`, and paused as long as there is a `reason`; False when asked to stop meanwhile."""
    end, said = time.monotonic() + seconds, False
    while (why := reason()) or time.monotonic() < end:
        if watch.asked_to_stop:
            return False
        if why:
            watch.say("paused", detail=why, worker=None, durable=not said)
            if not said:
                watch.note("run.paused", f"paused: {why}")
                said = True
        time.sleep(min(HEARTBEAT, max(0.1, end - time.monotonic()) if not why else HEARTBEAT))
    if said:
        watch.note("run.healed.note", "it goes on from the last checkpoint")
    return not watch.asked_to_stop


def _finish(watch: Watch, ending: Ending) -> int:
    """Write down how it ended; returns the exit code of the run."""
    run = watch.run
    if watch.status.state == "paused" or (watch.signalled is not None and ending.kind in HEALED):
        ending = Ending("stopped", stop_code(watch.signalled))
    state = STATES.get(ending.kind, "failed")
    if state == "failed" and not ending.recorded:
        fix = f"{ending.mend}localtune run --resume {run.name}"
        watch.record(Failed("run.crashed", f"error[run.crashed]: the training process {ending.said}\n  fix: {fix}"))
    run.spend_reserve()
    watch.say(state, exit_code=ending.code, detail=ending.said if state == "failed" else "")
    return ending.code


def free_disk(run: Run) -> int:
    """Bytes that are free where the run lies, its own reserve included; more than any need where nobody can tell."""
    try:
        held = run.reserve.stat().st_size if run.reserve.exists() else 0
        return free_space(run.folder) + held
    except OSError:  # the folder is gone
        return 0


def device_kind(run: Run) -> str:
    """What the run computes on, as its plan says; "" where that cannot be read."""
    try:
        return read_plan(run).device.kind
    except (LocaltuneError, OSError):
        return ""


def on_its_own() -> dict[str, Any]:
    """Arguments of a process that a Ctrl+C in the terminal does not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def main() -> None:
    """Supervise the run named on the command line."""
    guard()
    try:
        code = supervise(Run(Path(sys.argv[1])), sys.argv[2])
    except LocaltuneError as error:
        sys.stderr.write(f"{error}\n")
        code = error.exit_code
    sys.exit(code if code >= 0 else 1)


if __name__ == "__main__":
    main()
