"""What a session saves and reads back: file names, and that tensors fit. Both backends write the same files.

An adapter is PEFT's folder, float32. A full model is `model.safetensors` under the names of the original checkpoint and
in its types; with the optimizer's state it is float32, so that nothing is rounded. The state is `optimizer.safetensors`
(its tensors as `<weight>.<part>`) and `optimizer.json` (its name and the updates by weight).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localtune.adapter import WEIGHTS_FILE, Lora, Nothing, Trainable, read_peft_config
from localtune.durable import write_bytes
from localtune.errors import InputError, Problem

MODEL_FILE = "model.safetensors"
STATE_FILE = "optimizer.safetensors"
STEPS_FILE = "optimizer.json"
FORMAT = 1


def weights_path(folder: Path) -> Path:
    """The file with the weights of an adapter or a full model."""
    return folder / (WEIGHTS_FILE if (folder / WEIGHTS_FILE).exists() else MODEL_FILE)


def same_adapter(asked: Lora, folder: Path) -> None:
    """Raise `InputError` unless the adapter in `folder` has the rank, scale and kind `asked`: its weights need them."""
    given = read_peft_config(folder)
    wrong = [
        f"{name} {getattr(given, name)}, asked for {getattr(asked, name)}"
        for name in ("rank", "scale", "dora", "rslora")
        if getattr(asked, name) != getattr(given, name)
    ]
    if wrong:
        what = f"the adapter has {'; '.join(wrong)}"
        fix = "use the adapter's own lora settings"
        raise InputError(Problem("adapter.mismatch", what, where=str(folder), fix=fix))


def require_same(given: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Raise `InputError` unless the tensors of `path` have exactly the `expected` names and shapes."""
    wrong = [f"{name} is missing" for name in sorted(expected.keys() - given.keys())]
    wrong += [f"{name} is unknown" for name in sorted(given.keys() - expected.keys())]
    for name in sorted(expected.keys() & given.keys()):
        if tuple(given[name]) != tuple(expected[name]):
            wrong.append(f"{name} is {list(given[name])}, expected {list(expected[name])}")
    if wrong:
        what = f"{len(wrong)} tensors do not fit this model and these settings"
        raise InputError(Problem("adapter.mismatch", what, where=str(path), evidence="\n".join(wrong[:5])))


def unreadable(path: Path, error: object) -> InputError:
    """What to raise where `path` holds no weights that can be read."""
    return InputError(Problem("checkpoint.unreadable", f"no readable weights: {error}", where=str(path)))


def unrestorable(path: Path, error: object) -> InputError:
    """What to raise where an optimizer's state does not fit."""
    what = f"the optimizer's state cannot be restored: {error}"
    return InputError(Problem("checkpoint.state", what, where=str(path)))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` readable by people."""
    write_bytes(path, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode(), durable=False)


def adapter_of(trainable: Trainable, start: Path | None) -> Lora | None:
    """The adapter that a session has: what trains, or the one in `start` that only answers.

    Raises `InputError` where `start` holds another adapter than is to be trained.
    """
    if isinstance(trainable, Nothing):
        return read_peft_config(start) if start is not None else None
    if not isinstance(trainable, Lora):
        return None
    if start is not None:
        same_adapter(trainable, start)
    return trainable
