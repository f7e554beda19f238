"""From a recipe to a run that is under way: everything is checked and planned before a folder exists.

`make_ready` does what `localtune plan` shows; `create_run` writes the folder, whole or not at all; `start` hands it to
a supervisor that outlives this process.
"""

import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from localtune import __version__
from localtune.data.prepare import Prepared, prepare, save
from localtune.data.tokenizer import Tokenizer
from localtune.errors import Problem, RunFailed
from localtune.model import Download, ModelFiles, fingerprint, resolve
from localtune.plan import Plan, check_fits, make_plan, settings_of
from localtune.probe import choose, refuse
from localtune.recipe import Loaded, dump
from localtune.runs.files import new_folder, sha256, write_bytes, write_json
from localtune.runs.folder import Run
from localtune.runs.store import free_path, root
from localtune.settings import Recipe
from localtune.supervisor import in_its_own_group

_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers", "safetensors", "numpy")


@dataclass(frozen=True)
class Ready:
    """A recipe with everything it needs, tokenised and planned."""

    loaded: Loaded
    model: ModelFiles
    prepared: Prepared
    plan: Plan


def make_ready(loaded: Loaded, confirm: Callable[[Download], bool]) -> Ready:
    """Resolve, tokenise, probe and plan; `confirm` is asked before a download. Raises the errors of each part."""
    recipe = loaded.recipe
    model = resolve(recipe.model, loaded.base, confirm=confirm)
    prepared = prepare(
        recipe.data,
        Tokenizer(model.folder),
        base=loaded.base,
        learn=recipe.train.learn,
        seed=recipe.train.seed,
        samples=recipe.watch.samples,
        vocabulary=model.config.vocabulary,
    )
    with choose(recipe.backend) as probe:
        plan = make_plan(recipe, model, prepared, probe.device)
        refuse(probe.refusals(model, settings_of(recipe, plan)))
    return Ready(loaded, model, prepared, plan)


def check(ready: Ready) -> None:
    """Raise `ResourceError` where memory or disk do not suffice."""
    folder = root()
    while not folder.exists():
        folder = folder.parent
    check_fits(ready.plan, ready.loaded.recipe, ready.model, ready.prepared, shutil.disk_usage(folder).free)


def create_run(ready: Ready) -> Run:
    """The folder of a new run."""
    path = free_path(ready.loaded.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(path) as folder:
        run = Run(folder)
        write_bytes(run.recipe, ready.loaded.text.encode("utf-8"))
        write_bytes(run.resolved, dump(_pinned(ready)).encode("utf-8"))
        write_json(run.plan, ready.plan.to_json())
        write_json(run.environment, _environment(ready))
        run.data.mkdir()
        save(ready.prepared, run.data)
    return Run(path)


def start(run: Run) -> "subprocess.Popen[bytes]":
    """Start the supervisor of `run`; returns when it holds the run. Raises `RunFailed` with what it said."""
    before = run.status_file.stat().st_mtime_ns if run.status_file.exists() else 0
    with run.log.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "localtune.supervisor", str(run.folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **in_its_own_group(),
        )
    while child.poll() is None:
        if run.status_file.exists() and run.status_file.stat().st_mtime_ns != before:
            return child
        time.sleep(0.02)
    if run.status_file.exists() and run.status_file.stat().st_mtime_ns != before:
        return child
    tail = run.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-4:]
    raise RunFailed(Problem("run.start", "the run did not start", where=str(run.log), evidence="\n".join(tail)))


def _pinned(ready: Ready) -> Recipe:
    """The recipe with absolute paths and the model's revision: it runs from anywhere."""
    loaded, model = ready.loaded, ready.model
    data = loaded.recipe.data
    paths = {
        key: str((loaded.base / value).resolve())
        for key, value in (("train", data.train), ("valid", data.valid), ("test", data.test))
        if value not in (None, "auto", "none")
    }
    name = f"{model.name.partition('@')[0]}@{model.revision}" if model.revision else str(model.folder)
    return loaded.recipe.model_copy(update={"model": name, "data": data.model_copy(update=paths)})


def _environment(ready: Ready) -> dict[str, object]:
    device = ready.plan.device
    return {
        "localtune": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "device": asdict(device),
        "model": {"name": ready.model.name, "revision": ready.model.revision, "sha256": fingerprint(ready.model)},
        "data": {"files": _data_hashes(ready), "tokenizer": ready.prepared.report.tokenizer},
    }


def _data_hashes(ready: Ready) -> dict[str, str]:
    data = ready.loaded.recipe.data
    names = [name for name in (data.train, data.valid, data.test) if name not in (None, "auto", "none")]
    return {str(name): sha256(ready.loaded.base / str(name)) for name in names}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
