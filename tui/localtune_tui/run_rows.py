"""One run as a line of a long list: read from the ends and a few places of its events, never the whole of them but to
look for evaluations; some milliseconds each, in a thread.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any, BinaryIO

from localtune import pace
from localtune.errors import LocaltuneError
from localtune.runs.folder import ALIVE, Run
from localtune.worked import seconds_worked, value_of
from localtune_tui.facts import created, short_model, source_of
from localtune_tui.run_view import State

PLACES = 24
"""Losses that a trend is drawn from."""
END = 16 << 10
"""Bytes at the end that tell when, how fast and why it ended."""
_CHUNK = 4 << 20
_EVALUATION = b'"type": "evaluation"'
_STEP = b'"type": "step"'


@dataclass(frozen=True)
class RunRow:
    """What the list says of a run."""

    name: str
    """With its time stamp."""
    when: float
    """It was made, seconds since 1970; 0 = unknown."""
    state: State = "created"
    step: int = 0
    steps: int = 0
    model: str = ""
    data: str = ""
    best: float | None = None
    """Lowest validation loss."""
    trend: tuple[float, ...] = ()
    """Training losses from beginning to end."""
    took: float = 0.0
    """Seconds that its sessions took."""
    left: float | None = None
    """Seconds to go, of one that runs."""
    failure: str = ""
    """Code of what ended it."""
    detail: str = ""
    """Why it is in that state."""
    version: tuple[int, int] = (0, 0)
    """Of the files it was read from: the same again needs no reading."""

    @property
    def stem(self) -> str:
        """The name without its time stamp."""
        return stem(self.name)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """What a filter looks at, by name; "" = all of it."""
        found = {"name": self.name, "state": self.state, "model": self.model, "data": self.data}
        found[""] = " ".join(found.values())
        return {key: value.casefold() for key, value in found.items()}

    @property
    def alive(self) -> bool:
        """Whether somebody works on it, or goes on with it by itself."""
        return self.state in ALIVE


def stem(name: str) -> str:
    """The name of a run without its time stamp, for a list that says when."""
    parts = name.split("-")
    places = [place for place, part in enumerate(parts) if len(part) == 8 and part.isdigit()]
    return "-".join(parts[: places[-1]]) if places and places[-1] else name


def read_row(run: Run, before: RunRow | None = None) -> RunRow:
    """The line of `run`; `before` is handed back where nothing has changed. A folder that is gone says so."""
    made = created(run)
    when = made.timestamp() if made else 0.0
    if not run.folder.is_dir():
        return RunRow(run.name, when, "gone")
    version = _version(run)
    if before is not None and before.version == version and not before.alive:
        return before
    try:
        status = run.status()
        state, step, steps, detail = status.state, status.step, status.steps, status.detail
    except (LocaltuneError, OSError, TypeError, ValueError, AttributeError):
        state, step, steps, detail = "created", 0, 0, ""
    model, data = source_of(run)
    said = _said(run)
    newest = said.get("newest", {})
    step, steps = int(newest.get("step", step)), int(newest.get("steps", steps))
    return RunRow(
        run.name, when, state, step, steps, short_model(model) if model else "", data, said.get("best"),
        said.get("trend", ()), said.get("took", 0.0), said.get("left"), said.get("failure", ""), detail, version,
    )  # fmt: skip


@dataclass(frozen=True)
class Filter:
    """Words such as `state:done model:qwen bot`: a run must fit each, in capitals or not."""

    words: tuple[tuple[str, str], ...]
    """Of what (state, model, data, name; "" = any of them), and what must be in it."""

    def fits(self, row: RunRow | None, name: str) -> bool:
        """Whether a run does; of one whose row has not been read only the name is known."""
        if row is None:
            return all(key in ("", "name") and word in name.casefold() for key, word in self.words)
        return all(word in row.texts[key] for key, word in self.words)


def read_filter(text: str) -> Filter:
    """The filter that was typed; a colon behind any other word is part of the word."""
    words = []
    for word in text.casefold().split():
        key, colon, value = word.partition(":")
        words.append((key, value) if colon and key in ("state", "model", "data", "name") else ("", word))
    return Filter(tuple(words))


SORTS = ("when", "name", "val loss", "state", "took")


def sort_key(order: str, name: str, row: RunRow | None) -> tuple[bool, Any, str]:
    """Where a run stands in that order; what is not known yet stands last, the newest first but by name."""
    if row is None:
        return (order not in ("when", "name"), 0, name)
    keys = {"val loss": row.best if row.best is not None else float("inf"), "state": row.state, "took": -row.took}
    return (False, keys.get(order, 0), name)


def _version(run: Run) -> tuple[int, int]:
    found = []
    for path in (run.events, run.status_file):
        try:
            stat = path.stat()
            found.append(stat.st_mtime_ns ^ stat.st_size)
        except OSError:
            found.append(0)
    return found[0], found[1]


def _said(run: Run) -> dict[str, Any]:
    """What the events say; {} where they cannot be read."""
    try:
        with run.events.open("rb") as file:
            size = file.seek(0, 2)
            if size > _CHUNK:
                return _from_file(file, size)
            file.seek(0)
            return _from_file(BytesIO(file.read()), size)
    except OSError:
        return {}


def _from_file(file: BinaryIO, size: int) -> dict[str, Any]:
    file.seek(max(0, size - END))
    end = [value for line in file.read(END).splitlines()[1 if size > END else 0 :] if (value := value_of(line))]
    updates = [value for value in end if value.get("type") == "step"]
    trend = list(_trend(file, size))
    trend += [loss for value in updates[-1:] if (loss := _number(value, "loss")) is not None]
    said: dict[str, Any] = {"trend": tuple(trend), "best": min(_evaluations(file), default=None)}
    if updates:
        said["newest"] = {key: number for key in ("step", "steps") if (number := _number(updates[-1], key)) is not None}
        said["left"] = _left(updates)
    file.seek(0)
    said["took"] = seconds_worked(file)
    said["failure"] = next((str(v.get("code", "")) for v in reversed(end) if v.get("type") == "failed"), "")
    return said


def _left(updates: Sequence[Mapping[str, Any]]) -> float | None:
    seconds = [each for value in updates if (each := _number(value, "seconds")) is not None]
    step, steps = _number(updates[-1], "step"), _number(updates[-1], "steps")
    return None if step is None or steps is None else pace.remaining(seconds, steps - step)


def _trend(file: BinaryIO, size: int) -> Iterator[float]:
    """Losses from places all over the file; each update once, also where there are only a few."""
    last: bytes | None = None
    for at in range(PLACES - 1):
        line = _update_at(file, size * at // PLACES)
        if line and line != last:
            last, loss = line, _number(value_of(line), "loss")
            if loss is not None:
                yield loss


def _update_at(file: BinaryIO, place: int) -> bytes | None:
    """The line of the first update behind a place of the file."""
    file.seek(place)
    block = file.read(END)
    start = block.find(b"\n") + 1 if place else 0
    for line in block[start:].splitlines(keepends=True):
        if _STEP in line and line.endswith(b"\n"):
            return line
    return None


def _evaluations(file: BinaryIO) -> Iterator[float]:
    """Losses on the validation rows, wherever they stand."""
    file.seek(0)
    rest = b""
    while block := file.read(_CHUNK):
        block = rest + block
        end = block.rfind(b"\n") + 1
        at = -1
        while (at := block.find(_EVALUATION, at + 1, end)) >= 0:
            line = block[block.rfind(b"\n", 0, at) + 1 : block.find(b"\n", at)]
            value = value_of(line)
            loss = _number(value, "loss")
            if value.get("split") == "valid" and loss is not None:
                yield loss
        rest = block[end:] if len(block) - end < _CHUNK else b""


def _number(value: Mapping[str, Any], key: str) -> float | None:
    try:
        found = float(value[key])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return found if found - found == 0 else None
