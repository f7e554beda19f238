"""What happens in a run, as typed values; `events.jsonl` holds one a line and is the only record of metrics.

`to_json` and `from_json` are inverse to each other. A reader meets events of a later version as `Unknown`.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, get_origin

from localtune.redacted import without_tokens

FORMAT = 1


@dataclass(frozen=True)
class Phase:
    """What the run does now: loading, measuring, training, evaluating, saving."""

    kind: ClassVar[str] = "phase"
    name: str
    detail: str = ""


@dataclass(frozen=True)
class Step:
    """One update."""

    kind: ClassVar[str] = "step"
    step: int
    steps: int
    epoch: float
    loss: float
    """Mean per target, nats."""
    weight: float
    """Sum of the weights it was divided by."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    applied: bool
    tokens: int
    """Tokens of this update that are not padding."""
    targets: int
    peak_bytes: int
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """Loss on held-out rows."""

    kind: ClassVar[str] = "evaluation"
    step: int
    split: str
    """valid or test."""
    who: str
    """base or tuned."""
    loss: float
    """Mean per target, nats."""
    targets: int
    accuracy: float
    """Share of targets that were the most likely token."""
    best: bool
    """The lowest so far."""
    seconds: float

    @property
    def perplexity(self) -> float:
        """exp(loss), infinite where that is beyond a float."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


@dataclass(frozen=True)
class Match:
    """Exact match of greedy answers on the test rows of one group ("" = all)."""

    kind: ClassVar[str] = "match"
    step: int
    who: str
    """base or tuned."""
    group: str
    rows: int
    exact: int
    seconds: float


@dataclass(frozen=True)
class Sample:
    """What base and tuned model say to one of the fixed prompts."""

    kind: ClassVar[str] = "sample"
    step: int
    prompt: str
    base: str
    tuned: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint is complete."""

    kind: ClassVar[str] = "checkpoint"
    step: int
    folder: str
    size: int
    seconds: float


@dataclass(frozen=True)
class Product:
    """Something the user can take away is complete."""

    kind: ClassVar[str] = "product"
    name: str
    """adapter, model, fused, or the encoding of a GGUF file."""
    path: str
    """Relative to the run's folder, where it lies in there."""
    size: int
    seconds: float


@dataclass(frozen=True)
class Proof:
    """A product was compared with what was trained."""

    kind: ClassVar[str] = "proof"
    product: str
    passed: bool
    checks: list[dict[str, Any]]
    """Each with name, passed and text."""
    losses: dict[str, float]
    """Mean over the learned ones of the compared positions, nats, by who says it."""
    seconds: float


@dataclass(frozen=True)
class Replies:
    """One prompt, answered by base, adapter and products."""

    kind: ClassVar[str] = "replies"
    prompt: str
    texts: dict[str, str]
    """Who -> what was said."""


@dataclass(frozen=True)
class Warn:
    """Something the user should know."""

    kind: ClassVar[str] = "warning"
    code: str
    text: str


@dataclass(frozen=True)
class Done:
    """Training is over."""

    kind: ClassVar[str] = "done"
    step: int
    reason: str
    """steps, early stop, stop, stop-now."""
    best_step: int
    seconds: float
    """Of all its sessions."""
    peak_bytes: int
    planned_bytes: int


@dataclass(frozen=True)
class Failed:
    """The run failed; `text` is what the user reads."""

    kind: ClassVar[str] = "failed"
    code: str
    text: str


@dataclass(frozen=True)
class Unknown:
    """An event this version does not know."""

    kind: ClassVar[str] = "unknown"
    value: str


Event = (
    Phase | Step | Evaluation | Match | Sample | Checkpoint | Product | Proof | Replies | Warn | Done | Failed | Unknown
)
KINDS: dict[str, type[Any]] = {
    event.kind: event
    for event in (Phase, Step, Evaluation, Match, Sample, Checkpoint, Product, Proof, Replies, Warn, Done, Failed)
}


def to_json(event: Event, when: float | None = None, *, ascii_only: bool = False) -> str:
    """One line without its newline, with whole paths. `when` is seconds since 1970; numbers not finite are strings."""
    head = {"format": FORMAT, "type": event.kind, "time": round(time.time() if when is None else when, 3)}
    body = {key: _writable(value) for key, value in asdict(event).items()}
    if isinstance(event, Phase | Warn | Failed):  # our own words: neither rows nor answers
        body = {key: without_tokens(value) if isinstance(value, str) else value for key, value in body.items()}
    return json.dumps(head | body, ensure_ascii=ascii_only, allow_nan=False)


def _writable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _writable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(inner) for inner in value]
    return repr(value) if isinstance(value, float) and value - value != 0 else value


def from_json(line: str) -> Event:
    """The event of one line. Raises `ValueError` for a torn line."""
    try:
        value = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not an event")
    kind = KINDS.get(str(value.get("type")))
    if kind is None or value.get("format") != FORMAT:
        return Unknown(line)
    try:
        event: Event = kind(**{field.name: _read(value[field.name], field.type) for field in fields(kind)})
        return event
    except (KeyError, TypeError, OverflowError):
        return Unknown(line)


def _read(value: Any, kind: Any) -> Any:
    """`value` as a field of that type. Raises `TypeError` for one of another, `ValueError` for no number."""
    if kind is float:
        return float(value)
    if not isinstance(value, get_origin(kind) if get_origin(kind) in (list, dict) else kind):
        raise TypeError
    return value


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Events of `path` from byte `offset`, each with the offset behind it; stops before a torn last line."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                yield from_json(line.decode("utf-8")), offset
            except ValueError:
                continue
