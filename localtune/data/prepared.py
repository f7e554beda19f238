"""Data ready for training, and the folder that keeps it; `save` and `load` are inverse to each other.

`train.safetensors` and `valid.safetensors` hold the segments end to end: tokens int32 [N], weights float32 [N],
offsets int64 [S + 1] (segment s is offsets[s]:offsets[s + 1]), sources int64 [S]. The rest is JSON with format 1.
Writes are plain: whoever owns the folder makes it complete at once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from localtune.batch import Ints, Segment
from localtune.data.report import FORMAT, Report, from_json


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

    train: tuple[Segment, ...]
    valid: tuple[Segment, ...]
    test: tuple[TestItem, ...]
    samples: tuple[Sample, ...]
    report: Report


def save(prepared: Prepared, folder: Path) -> None:
    """Write `prepared` into the existing `folder`."""
    for name, segments in (("train", prepared.train), ("valid", prepared.valid)):
        save_file(_arrays(segments), folder / f"{name}.safetensors", metadata={"format": str(FORMAT)})
    lines = [json.dumps(_item_to_json(item), ensure_ascii=False) + "\n" for item in prepared.test]
    (folder / "test.jsonl").write_text("".join(lines), "utf-8", newline="\n")
    samples = [{"text": sample.text, "prompt": sample.prompt.tolist()} for sample in prepared.samples]
    _write_json(folder / "samples.json", {"format": FORMAT, "samples": samples})
    _write_json(folder / "report.json", prepared.report.to_json())


def load(folder: Path) -> Prepared:
    """What `save` wrote into `folder`. Raises `OSError` or `ValueError` for a folder that is not complete."""
    lines = (folder / "test.jsonl").read_text("utf-8").split("\n")
    samples = json.loads((folder / "samples.json").read_text("utf-8"))
    return Prepared(
        train=_segments(load_file(folder / "train.safetensors")),
        valid=_segments(load_file(folder / "valid.safetensors")),
        test=tuple(_item_from_json(json.loads(line)) for line in lines if line),
        samples=tuple(Sample(s["text"], np.array(s["prompt"], np.int32)) for s in _checked(samples)["samples"]),
        report=from_json(json.loads((folder / "report.json").read_text("utf-8"))),
    )


def _arrays(segments: Sequence[Segment]) -> dict[str, Any]:
    lengths = np.array([0, *(len(segment.tokens) for segment in segments)], np.int64)
    return {
        "tokens": np.concatenate([np.zeros(0, np.int32), *(segment.tokens for segment in segments)]),
        "weights": np.concatenate([np.zeros(0, np.float32), *(segment.weights for segment in segments)]),
        "offsets": np.cumsum(lengths, dtype=np.int64),
        "sources": np.array([segment.source for segment in segments], np.int64),
    }


def _segments(arrays: dict[str, Any]) -> tuple[Segment, ...]:
    bounds = arrays["offsets"].tolist()
    return tuple(
        Segment(arrays["tokens"][start:stop], arrays["weights"][start:stop], source)
        for start, stop, source in zip(bounds, bounds[1:], arrays["sources"].tolist(), strict=False)
    )


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
    _checked(value)
    tokens, weights = np.array(value["tokens"], np.int32), np.array(value["weights"], np.float32)
    segment = Segment(tokens, weights, value["source"])
    return TestItem(np.array(value["prompt"], np.int32), value["expected"], value["group"], segment)


def _checked(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("format") != FORMAT:
        raise ValueError(f"format {value.get('format')!r} is not known")
    return value


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", "utf-8", newline="\n")
