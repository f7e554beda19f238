"""From a recipe to a run that is under way: everything is checked and planned before a folder exists.

`make_ready` does what `localtune plan` shows; `create_run` writes the folder, whole or not at all; `start` hands it to
a supervisor that outlives this process.
"""

import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace

from localtune.backend import in_order
from localtune.data.prepare import Prepared, prepare
from localtune.data.prepared import hand_over
from localtune.data.tokenizer import Tokenizer
from localtune.defaults import conflicts
from localtune.durable import free_space
from localtune.errors import InputError, LocaltuneError, MachineError, Problem, ResourceError, RunFailed
from localtune.job import versions
from localtune.model import Download, ModelFiles, fingerprint, resolve
from localtune.plan import Plan, check_fits, make_plan, settings_of
from localtune.portability import Side
from localtune.probe import Probe, choose, refuse
from localtune.recipe import Loaded, dump
from localtune.runs.files import new_folder, sweep, write_bytes, write_json
from localtune.runs.folder import RESERVE, Run
from localtune.runs.lock import owned
from localtune.runs.store import free_path, root
from localtune.settings import NOT_PATHS, Recipe, is_hub_data
from localtune.supervisor import on_its_own


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
    tokenizer = Tokenizer(model.folder)
    if problems := _unexportable(recipe, model, tokenizer):
        raise InputError(*problems)
    prepared = _tokenised(loaded, model, tokenizer)
    with choose(recipe.backend) as probe:
        plan = make_plan(recipe, model, prepared, probe.device)
        refuse([*conflicts(recipe, model, probe.device), *probe.refusals(model, settings_of(recipe, plan))])
    return Ready(loaded, model, prepared, plan)


@dataclass(frozen=True)
class Compared:
    """What every backend makes of a recipe on this machine."""

    model: ModelFiles
    sides: list[Side]
    problems: tuple[Problem, ...]
    """Why the files that the recipe asks for cannot be made, whatever the backend."""


def compare_backends(loaded: Loaded, confirm: Callable[[Download], bool]) -> Compared:
    """The recipe on every backend; `confirm` is asked before a download. Raises the errors of model and data."""
    model = resolve(loaded.recipe.model, loaded.base, confirm=confirm)
    tokenizer = Tokenizer(model.folder)
    prepared = _tokenised(loaded, model, tokenizer)
    with ExitStack() as stack:
        probes = [stack.enter_context(Probe(name)) for name in in_order()]
        sides = [_side(probe, loaded.recipe, model, prepared) for probe in probes]
    return Compared(model, sides, _unexportable(loaded.recipe, model, tokenizer))


def _side(probe: Probe, recipe: Recipe, model: ModelFiles, prepared: Prepared) -> Side:
    if probe.device.kind == "none":
        return Side(probe.device, None)
    plan = make_plan(recipe, model, prepared, probe.device)
    refusals = [*conflicts(recipe, model, probe.device), *probe.refusals(model, settings_of(recipe, plan))]
    return Side(probe.device, plan, tuple(refusals))


def _unexportable(recipe: Recipe, model: ModelFiles, tokenizer: Tokenizer) -> tuple[Problem, ...]:
    """Why the GGUF files that the recipe asks for cannot be made; each is mended by asking for none, too."""
    if not recipe.export.gguf:
        return ()
    from localtune.export import prepare as exportable  # libraries that only an export needs
    from localtune.products.delivery import check_targets

    try:
        exportable(model, tokenizer, recipe.export.gguf)
    except InputError as error:
        return tuple(replace(problem, fix=_or("--set export.gguf=[]", problem.fix)) for problem in error.problems)
    try:
        check_targets(recipe.export.to)
    except MachineError as error:
        return tuple(replace(problem, fix=_or("--set export.to=[]", problem.fix)) for problem in error.problems)
    return ()


def _or(first: str, fix: str) -> str:
    return f"{first}   or   {fix}" if fix else first


def _tokenised(loaded: Loaded, model: ModelFiles, tokenizer: Tokenizer) -> Prepared:
    recipe = loaded.recipe
    return prepare(
        recipe.data,
        tokenizer,
        base=loaded.base,
        learn=recipe.train.learn,
        seed=recipe.train.seed,
        samples=recipe.watch.samples,
        vocabulary=model.config.vocabulary,
        context=model.config.context,
    )


def check(ready: Ready) -> None:
    """Raise `ResourceError` where memory or disk do not suffice."""
    check_fits(ready.plan, ready.loaded.recipe, ready.model, ready.prepared, free_disk())


def free_disk() -> int:
    """Bytes that are free where runs lie."""
    folder = root()
    while not folder.exists():
        folder = folder.parent
    return free_space(folder)


def create_run(ready: Ready) -> Run:
    """The folder of a new run."""
    path = free_path(ready.loaded.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, older=3600)  # who shares the folder from another machine may have the pids of ours
    with new_folder(path) as folder:
        run = Run(folder)
        write_bytes(run.recipe, ready.loaded.text.encode("utf-8"))
        write_bytes(run.resolved, dump(_pinned(ready)).encode("utf-8"))
        write_json(run.plan, ready.plan.to_json())
        write_json(run.environment, _environment(ready))
        run.data.mkdir()
        hand_over(ready.prepared, run.data)
    return Run(path)


def start(run: Run) -> None:
    """Start the supervisor of `run`; returns when it holds the run.

    Raises `InputError` when somebody else owns the run, `ResourceError` on a full disk, else `RunFailed` with the last
    it said.
    """
    if (free := free_space(run.folder)) < 2 * RESERVE:
        what = f"{2 * RESERVE:,} bytes are needed to start, {free:,} are free"
        raise ResourceError(Problem("disk.full", what, str(run.folder), fix="free some space, then try again"))
    launch, began = uuid.uuid4().hex, run.log.stat().st_size if run.log.exists() else 0
    with run.log.open("ab") as log:
        command = [sys.executable, "-P", "-m", "localtune.supervisor", str(run.folder), launch]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **on_its_own())
    while run.status().launch != launch:
        if child.poll() is not None and run.status().launch != launch:
            raise _not_started(run, child.returncode, began)
        time.sleep(0.02)


def _not_started(run: Run, code: int, began: int) -> LocaltuneError:
    with run.log.open("rb") as log:
        log.seek(began)
        said = "\n".join(log.read().decode("utf-8", "replace").strip().splitlines()[-4:])
    if code == InputError.exit_code:
        return InputError(owned(run.folder, "another process"))
    return RunFailed(Problem("run.start", "the run did not start", where=str(run.log), evidence=said))


def _pinned(ready: Ready) -> Recipe:
    """The recipe with absolute paths and the model's revision: it runs from anywhere."""
    loaded, model = ready.loaded, ready.model
    data = loaded.recipe.data
    names = {
        key: [_from_anywhere(name, ready) for name in ([value] if isinstance(value, str) else value)]
        for key, value in (("train", data.train), ("valid", data.valid), ("test", data.test))
        if value not in (None, *NOT_PATHS)
    }
    paths = {key: found if len(found) > 1 else found[0] for key, found in names.items()}
    name = f"{model.name.partition('@')[0]}@{model.revision}" if model.revision else str(model.folder)
    return loaded.recipe.model_copy(update={"model": name, "data": data.model_copy(update=paths)})


def _from_anywhere(name: str, ready: Ready) -> str:
    """`name` as an absolute path or pattern, or with the commit of the hub's data set."""
    path, report = ready.loaded.base / name, ready.prepared.report
    if os.path.lexists(path) or not is_hub_data(name):
        return str(path.absolute())
    bare = name.partition("@")[0]
    commits = [commit for file, commit in zip(report.files, report.hashes, strict=True)
               if file.startswith(bare.removeprefix("hf://datasets/").partition(":")[0] + ":")]  # fmt: skip
    return f"{bare}@{commits[0]}" if commits else name


def _environment(ready: Ready) -> dict[str, object]:
    report = ready.prepared.report
    return {
        "system": platform.platform(),
        "versions": versions(ready.plan.device.backend),
        "device": asdict(ready.plan.device),
        "model": {"name": ready.model.name, "revision": ready.model.revision, "sha256": fingerprint(ready.model)},
        "data": {"files": dict(zip(report.files, report.hashes, strict=True)), "tokenizer": report.tokenizer},
    }
