"""What a run can be exported to: formats with sizes, where each may go and why not, and the commands that do it.

Sizes of files that are there are exact; others are the plan's, or weights times bits: estimates. All of it is read from
the run's folder and from what lies on this machine; nothing is started. For threads.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localtune.durable import free_space
from localtune.errors import LocaltuneError
from localtune.runs.files import folder_size, read_json
from localtune.runs.folder import ALIVE, Run
from localtune.runs.store import find_run
from localtune.sizes import readable

BITS = {
    "Q4_K_M": 4.9, "Q4_K_S": 4.6, "Q5_K_M": 5.7, "Q6_K": 6.6, "Q8_0": 8.5, "BF16": 16.0, "F16": 16.0, "F32": 32.0,
}  # fmt: skip
"""GGUF type -> bits of a weight, about, as files of usual models have them."""
NOTES = {
    "Q4_K_M": "good default", "Q4_K_S": "smallest", "Q5_K_M": "a bit better", "Q6_K": "close", "Q8_0": "near lossless",
    "BF16": "as the base", "F16": "as the base", "F32": "exact", "fused": "model folder", "adapter": "for --lora",
}  # fmt: skip
OLLAMA, LM_STUDIO, HUB = "ollama", "lm-studio", "hub"
DEFAULT = ("Q4_K_M",)
PRODUCTS = {"adapter": "adapter GGUF"}
"""Format -> name of what is made, where it has another."""


@dataclass(frozen=True)
class Choice:
    """A line that can be ticked."""

    key: str
    label: str
    size: str = ""
    note: str = ""
    why_not: str = ""
    """Why it cannot be chosen; "" where it can."""


@dataclass(frozen=True)
class Exportable:
    """A run and what can be made of it."""

    run: Run
    formats: tuple[Choice, ...]
    targets: tuple[Choice, ...]
    wanted: tuple[str, ...]
    """Types that its recipe names."""
    files: tuple[Path, ...]
    """GGUF files that are there."""
    full: bool
    """Every weight was trained: there is no adapter."""
    free: int
    """Bytes left on the disk of the run."""
    record: tuple[dict[str, Any], ...] = ()
    """Proofs of the files that are there: product, passed, checks, losses, seconds."""


def exportable(name: str) -> Exportable | str:
    """The run called `name`, or the sentence why there is nothing to export."""
    try:
        run = find_run(name)
        state = run.status().state
        plan = read_json(run.plan)
        full = run.model.is_dir() or _method(run) == "full"
    except LocaltuneError as error:
        return f"{error.problems[0].what}. 1 shows the runs that are there"
    except OSError as error:
        return f"{name} cannot be read: {error.strerror or error}"
    if state in ALIVE:
        return f"{run.name} is not over yet: 3 shows it. What it makes can be exported once it is done"
    if not (run.model if full else run.adapter).is_dir():
        return f"{run.name} is {state} and has made nothing to export: in Live, r goes on with it"
    files = tuple(path for path in run.products() if path.suffix == ".gguf")
    return Exportable(
        run,
        _formats(run, plan, files, full=full),
        targets(run.name),
        _wanted(run),
        files,
        full,
        _free(run),
        _record(run),
    )


def targets(name: str = "") -> tuple[Choice, ...]:
    """Where files can go, each with the reason where not."""
    home = Path.home()
    pointer = home / ".lmstudio-home-pointer"
    studio = "" if pointer.is_file() or (home / ".lmstudio").is_dir() else "never started here"
    ollama = "" if shutil.which("ollama") else "no ollama on PATH"
    hub = "" if _signed_in(home) else "not signed in: hf auth login"
    return (
        Choice(OLLAMA, "Ollama", note="as a model of that name", why_not=ollama),
        Choice(LM_STUDIO, "LM Studio", note="into its folder of models", why_not=studio),
        Choice(HUB, "HF Hub", note="private; asks for its name", why_not=hub),
    )


def commands(run: str, formats: Sequence[str], to: Sequence[str], repository: str = "") -> list[tuple[str, ...]]:
    """What is typed to make `formats` and hand them over, in order, each without --json."""
    types = [key for key in formats if key in BITS]
    made: list[tuple[str, ...]] = []
    if types:
        programs = [key for key in (OLLAMA, LM_STUDIO) if key in to]
        made.append(("export", run, "--gguf", ",".join(types), *(("--to", ",".join(programs)) if programs else ())))
    if "adapter" in formats:
        made.append(("export", run, "--adapter"))
    if "fused" in formats:
        made.append(("fuse", run))
    if HUB in to and repository:
        what = "gguf" if types else "fused" if "fused" in formats else "adapter"
        made.append(("push", run, "--to", repository, "--what", what, "--yes"))
    return made


def disk_needed(found: Exportable, formats: Sequence[str]) -> int:
    """Bytes that an export takes at most while it works: the fused weights, the files, and one that only proves."""
    parameters = _parameters(found)
    types = [key for key in formats if key in BITS]
    files = sum(parameters * BITS[key] / 8 for key in types)
    proving = 0.0 if {"F32", "F16"} & set(types) or not types else parameters * (4 if parameters <= 5e8 else 2)
    fused = 0 if found.full or found.run.fused.is_dir() or formats == ["adapter"] else 4 * parameters
    return round(files + proving + fused)


def _parameters(found: Exportable) -> int:
    try:
        return int(read_json(found.run.plan).get("parameters", 0))
    except (LocaltuneError, OSError, TypeError, ValueError):
        return 0


def _formats(run: Run, plan: dict[str, Any], files: Sequence[Path], *, full: bool) -> tuple[Choice, ...]:
    parameters, trainable = _number(plan, "parameters"), _number(plan, "trainable")
    listed = plan.get("products")
    planned = (
        {str(each.get("name")): each for each in listed if isinstance(each, dict)} if isinstance(listed, list) else {}
    )
    made = [
        Choice(key, key, _size(key, files, planned, parameters), _note(key, files)) for key in BITS
    ]  # fmt: skip
    there = readable(folder_size(run.fused)) if run.fused.is_dir() else f"~{readable(2 * parameters)}"
    one = "every weight was trained: the run's own folder model is it" if full else ""
    made.append(Choice("fused", "fused", there, _there(run.fused.is_dir(), "fused"), one))
    none = "every weight was trained: there is no adapter" if full else ""
    made.append(Choice("adapter", "adapter", f"~{readable(2 * trainable)}", NOTES["adapter"], none))
    return tuple(made)


def _size(key: str, files: Sequence[Path], planned: dict[str, Any], parameters: int) -> str:
    for path in files:
        if path.stem.endswith(f"-{key}"):
            return readable(path.stat().st_size)
    size = _number(planned.get(key, {}), "size") or round(parameters * BITS[key] / 8)
    return f"~{readable(size)}" if size else ""


def _note(key: str, files: Sequence[Path]) -> str:
    return _there(any(path.stem.endswith(f"-{key}") for path in files), key)


def _there(is_there: bool, key: str) -> str:
    return "made" if is_there else NOTES[key]


def _wanted(run: Run) -> tuple[str, ...]:
    """Of the recipe, else the default."""
    from localtune.recipe import load

    try:
        named = tuple(map(str, load(run.resolved, environ={}, user_config=None).recipe.export.gguf))
    except (LocaltuneError, OSError):
        return DEFAULT
    return tuple(key for key in named if key in BITS) or DEFAULT


def _method(run: Run) -> str:
    from localtune.recipe import load

    return str(load(run.resolved, environ={}, user_config=None).recipe.train.method)


def _record(run: Run) -> tuple[dict[str, Any], ...]:
    """What proof.json says of the files."""
    try:
        files = read_json(run.export / "proof.json").get("files")
    except (LocaltuneError, OSError):
        return ()
    return tuple(each for each in files.values() if isinstance(each, dict)) if isinstance(files, dict) else ()


def _free(run: Run) -> int:
    try:
        return free_space(run.folder)
    except OSError:
        return 0


def _number(value: Any, key: str) -> int:
    found = value.get(key) if isinstance(value, dict) else None
    return int(found) if isinstance(found, int | float) else 0


def _signed_in(home: Path) -> bool:
    """Whether the hub's library would find a token, by the places it looks in; the token is not read."""
    if os.environ.get("HF_TOKEN"):
        return True
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    folder = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    return Path(os.environ.get("HF_TOKEN_PATH") or folder / "token").expanduser().is_file()
