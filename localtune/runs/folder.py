"""One run's folder: the names in it, its state as a reader sees it, and requests to the process that trains.

The folder is the only channel between who trains and who watches. Only the holder of the lock writes, but for
`control/`, where a viewer leaves requests.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from localtune.errors import InputError, Problem
from localtune.events import Event, read_events, to_json
from localtune.runs.files import append_line, read_json, settle, write_bytes, write_json
from localtune.runs.process import ProcessId

State = Literal["created", "starting", "running", "paused", "done", "stopped", "failed", "crashed", "stalled"]
ALIVE = ("starting", "running", "paused", "stalled")
"""States of a run that somebody works on, or goes on with by itself."""
Request = Literal["stop", "stop-now", "save", "pause"]
"""Save and stop; stop at once; save and go on; save and end until the supervisor starts a worker again."""
RESERVE = 1 << 18
"""Bytes held in a run folder, so that a full disk can still be recorded there."""
STALLED_AFTER = 60.0
"""Seconds without a heartbeat of a process that lives."""


@dataclass(frozen=True)
class Status:
    """What `status.json` says."""

    state: State
    step: int = 0
    steps: int = 0
    launch: str = ""
    """What the supervisor was started with, so that its starter knows it."""
    supervisor: ProcessId | None = None
    worker: ProcessId | None = None
    heartbeat: float = 0.0
    """Seconds since 1970."""
    exit_code: int | None = None
    detail: str = ""
    sessions: int = 0
    """Workers that this supervisor has started; with each, events that will happen again are forgotten."""

    def seen(self, now: float) -> "Status":
        """This status as a reader at time `now` must take it: a dead process has crashed, a silent one stalled."""
        if self.state not in ALIVE:
            return self
        if not any(process is not None and process.alive for process in (self.supervisor, self.worker)):
            return replace(self, state="crashed", detail="its process is gone")
        if now - self.heartbeat > STALLED_AFTER:
            return replace(self, state="stalled", detail=f"silent for {now - self.heartbeat:.0f} s")
        return self


class _File:
    """A name in a run folder, as a path."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: "Run", owner: type) -> Path:
        return run.folder / self.name


@dataclass(frozen=True)
class Run:
    """The folder of one run and the names in it."""

    folder: Path

    @property
    def name(self) -> str:
        """Name with its time stamp, unique among the runs."""
        return self.folder.name

    recipe = _File("recipe.yaml")
    """As it was given."""
    resolved = _File("resolved.yaml")
    """With every default, absolute paths and the model's revision: a recipe that runs."""
    environment = _File("environment.json")
    """Versions, device, and the hashes of what went in."""
    plan = _File("plan.json")
    status_file = _File("status.json")
    events = _File("events.jsonl")
    log = _File("log.txt")
    data = _File("data")
    """Tokenised rows: what is trained on, whatever becomes of the user's file."""
    checkpoints = _File("checkpoints")
    adapter = _File("adapter")
    model = _File("model")
    evaluation = _File("eval.json")
    reference = _File("reference.safetensors")
    """What the trained model says at held-out positions: what every product is compared with."""
    weights = _File("weights.safetensors")
    """The same of the fused weights: not in their folder, since it holds rows, and that folder is for others."""
    fused = _File("fused")
    export = _File("export")
    control = _File("control")
    eased = _File("eased.json")
    """How often memory ran out, and the micro-batches were made smaller."""
    reserve = _File("reserve")

    def products(self) -> list[Path]:
        """What the user can take away, as far as it is there."""
        files = sorted(path for path in self.export.glob("*.gguf") if not path.name.endswith(".failed.gguf"))
        return [path for path in (self.adapter, self.model, self.fused) if path.is_dir()] + files

    def status(self) -> Status:
        """What the run does now, as far as a reader can tell; "created" when it was never started."""
        if not self.status_file.exists():
            return Status("created")
        if not self.status_file.stat().st_size:  # some file systems leave that of a power cut
            return Status("crashed", detail="its status was lost")
        value = read_json(self.status_file)
        try:
            for who in ("supervisor", "worker"):
                value[who] = ProcessId(**value[who]) if value[who] else None
            del value["format"]
            return Status(**value).seen(time.time())
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(Problem("run.unreadable", f"not a status: {error}", where=str(self.status_file))) from None

    def write_status(self, status: Status, *, durable: bool = True) -> None:
        """Replace `status.json`; a heartbeat need not be durable."""
        write_json(self.status_file, asdict(status), durable=durable)

    def record(self, event: Event) -> None:
        """Append `event` to `events.jsonl`."""
        append_line(self.events, to_json(event))

    def keep_reserve(self) -> None:
        """Hold `RESERVE` bytes of the disk."""
        if not self.reserve.exists():
            write_bytes(self.reserve, os.urandom(RESERVE), durable=False)

    def spend_reserve(self) -> None:
        """Give them back: the disk is full."""
        self.reserve.unlink(missing_ok=True)

    def read_events(self, offset: int = 0) -> Iterator[tuple[Event, int]]:
        """Events from byte `offset`, each with the offset behind it."""
        return read_events(self.events, offset)

    def settle_events(self) -> int:
        """Bring the events onto the disk and return how many bytes they are."""
        return settle(self.events)

    def truncate_events(self, offset: int) -> None:
        """Forget what was recorded behind byte `offset`, which is not beyond the end."""
        if self.events.exists():
            os.truncate(self.events, offset)

    def request(self, what: Request) -> None:
        """Ask the process that trains for something; it looks at every update."""
        self.control.mkdir(exist_ok=True)
        (self.control / what).touch()

    def requests(self) -> set[Request]:
        """What has been asked for and not been answered."""
        present = set(os.listdir(self.control)) if self.control.is_dir() else set()
        return {name for name in get_args(Request) if name in present}

    def answer(self, what: Request) -> None:
        """Take a request away: it is done."""
        (self.control / what).unlink(missing_ok=True)
