"""Data ready for training, and the folder that keeps it; `save` and `load` are inverse to each other.

`train.safetensors` and `valid.safetensors` hold the segments (see `segments`) and are mapped, not read, by `load`. The
rest is JSON with format 1, read at once. Writes are plain: whoever owns the folder makes it complete at once.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from localtune.batch import Ints, Segment
from localtune.data import cache
from localtune.data.report import FORMAT, Report, checked_format, from_json, unreadable
from localtune.data.segments import Segments, write
from localtune.durable import write_bytes

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class TestItem:
    """A test row: asked before and after training, and scored."""

    __test__ = False

    prompt: Ints
    """int32 [n]: what generation sees, up to the last answer."""
    expected: str
    """The last answer as the template writes it, without the end of the turn."""
    group: str
    """The row's key "group"; "" = none."""
    segment: Segment
    """The row as a training row would be, for its loss."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A prompt that is answered at each evaluation."""

    text: str
    prompt: Ints
    """int32 [n]: what generation sees."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything a run trains on and is measured by."""

    train: Sequence[Segment]
    """A tuple, or `Segments` where they lie in a file."""
    valid: Sequence[Segment]
    test: tuple[TestItem, ...]
    samples: tuple[Sample, ...]
    report: Report
    folder: Path | None = None
    """Where it was loaded from."""


def save(prepared: Prepared, folder: Path) -> None:
    """Write `prepared` into the existing `folder`."""
    for name, segments in (("train", prepared.train), ("valid", prepared.valid)):
        write(segments, folder / f"{name}.safetensors")
    save_rest(prepared, folder)


def save_rest(prepared: Prepared, folder: Path) -> None:
    """`save` without the segments, for a folder that has their files already."""
    lines = [json.dumps(_item_to_json(item), ensure_ascii=False) + "\n" for item in prepared.test]
    write_bytes(folder / "test.jsonl", "".join(lines).encode(), durable=False)
    samples = [{"text": sample.text, "prompt": sample.prompt.tolist()} for sample in prepared.samples]
    _write_json(folder / "samples.json", {"format": FORMAT, "samples": samples})
    _write_json(folder / "report.json", prepared.report.to_json())


def hand_over(prepared: Prepared, folder: Path) -> None:
    """`prepared` in the existing `folder` too: linked where it lies in files of the same disk, else copied or written.

    Raises `OSError`.
    """
    if prepared.folder is None:
        save(prepared, folder)
    else:
        cache.hand_over(prepared.folder, folder)


def load(folder: Path) -> Prepared:
    """What `save` wrote into `folder`. Raises `InputError` (run.unreadable) for missing, torn or foreign files."""
    return Prepared(
        train=_read(folder / "train.safetensors", Segments),
        valid=_read(folder / "valid.safetensors", Segments),
        test=_read(folder / "test.jsonl", _items),
        samples=_read(folder / "samples.json", _samples),
        report=_read(folder / "report.json", lambda path: from_json(_json(path), str(path))),
        folder=folder,
    )


def _read(path: Path, parse: Callable[[Path], T]) -> T:
    try:
        return parse(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise unreadable(str(path), error) from None
    except RecursionError:
        raise unreadable(str(path), ValueError("nested too deeply")) from None


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return value


def _items(path: Path) -> tuple[TestItem, ...]:
    return tuple(_item_from_json(json.loads(line)) for line in path.read_text("utf-8").split("\n") if line)


def _samples(path: Path) -> tuple[Sample, ...]:
    entries = checked_format(_json(path))["samples"]
    return tuple(Sample(entry["text"], np.array(entry["prompt"], np.int32)) for entry in entries)


def _item_to_json(item: TestItem) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "prompt": item.prompt.tolist(),
        "expected": item.expected,
        "group": item.group,
        "tokens": item.segment.tokens.tolist(),
        "weights": item.segment.weights.tolist(),
        "source": item.segment.source,
    }


def _item_from_json(value: dict[str, Any]) -> TestItem:
    checked_format(value)
    tokens, weights = np.array(value["tokens"], np.int32), np.array(value["weights"], np.float32)
    segment = Segment(tokens, weights, value["source"])
    return TestItem(np.array(value["prompt"], np.int32), value["expected"], value["group"], segment)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_bytes(path, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode(), durable=False)
