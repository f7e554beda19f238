"""What is known of a run before it trains: its recipe, plan and machine, as its folder says.

Each part that cannot be read is left out; nothing is guessed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from localtune.errors import InputError
from localtune.runs.files import read_json
from localtune.runs.folder import Run

_STAMP = re.compile(r"-(\d{8}-\d{6})(?:-\d+)?$")


@dataclass(frozen=True)
class Facts:
    """Of one run; zero or "" where the folder does not say."""

    model: str = ""
    """As the user named it."""
    method: str = ""
    """Such as "qlora nf4 r16"."""
    device: str = ""
    kind: str = ""
    """Of the device: cpu, cuda or metal."""
    backend: str = ""
    schedule: str = ""
    """Shape of the learning rate's course."""
    clip: float = 0.0
    epochs: float = 0.0
    steps: int = 0
    tokens: int = 0
    """Of all epochs."""
    memory_needed: int = 0
    """Bytes, as planned."""
    memory_limit: int = 0
    prompts: tuple[str, ...] = ()
    """Fixed prompts that are answered at each evaluation."""


def short_model(name: str) -> str:
    """A model's name without owner, folder and revision: "Qwen3-1.7B"."""
    return name.rstrip("/\\").replace("\\", "/").rpartition("/")[2].partition("@")[0] or name


def created(run: Run) -> datetime | None:
    """When the run was made, as its name's time stamp says."""
    found = _STAMP.search(run.name)
    try:
        return datetime.strptime(found[1], "%Y%m%d-%H%M%S") if found else None
    except ValueError:
        return None


def read_facts(run: Run) -> Facts:
    """The facts of `run`; takes some milliseconds, so it is for a thread."""
    plan, recipe = _json(run, "plan"), _recipe(run)
    train, device, epochs = _part(recipe, "train"), _part(plan, "device"), _number(plan, "epochs")
    watch = _part(recipe, "watch").get("samples")
    return Facts(
        model=short_model(source_of(run)[0]),
        method=_method(recipe, plan),
        device=str(device.get("name", "")),
        kind=str(device.get("kind", "")),
        backend=str(device.get("backend", "")),
        schedule=str(_part(plan, "schedule").get("shape", "")),
        clip=_number(train, "clip"),
        epochs=epochs,
        steps=int(_number(_part(plan, "schedule"), "steps")),
        tokens=int(_number(plan, "tokens") * epochs),
        memory_needed=int(_number(plan, "memory_needed")),
        memory_limit=int(_number(plan, "memory_limit")),
        prompts=tuple(map(str, watch)) if isinstance(watch, list) else (),
    )


def source_of(run: Run) -> tuple[str, str]:
    """The model as named, and the file name of the training rows; quick enough for a long list of runs."""
    environment = _json(run, "environment")
    files = list(_part(_part(environment, "data"), "files"))
    return str(_part(environment, "model").get("name", "")), short_model(str(files[0])) if files else ""


def _recipe(run: Run) -> Mapping[str, Any]:
    from localtune.recipe import load  # pydantic and a YAML reader, which a list of runs does not need

    try:
        return load(run.resolved, environ={}, user_config=None).recipe.model_dump()
    except (InputError, OSError):
        return {}


def _method(recipe: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    method = str(_part(recipe, "train").get("method", ""))
    if method in ("", "full"):
        return method
    storage = str(_part(plan, "precision").get("storage", ""))
    words = [method, storage if method == "qlora" else "", f"r{_part(recipe, 'lora').get('rank', '?')}"]
    return " ".join(word for word in words if word)


def _json(run: Run, name: str) -> Mapping[str, Any]:
    try:
        return read_json(getattr(run, name))
    except (InputError, OSError):
        return {}


def _part(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _number(value: Mapping[str, Any], key: str) -> float:
    found = value.get(key)
    return float(found) if isinstance(found, int | float) else 0.0
