"""A run that was made and never trained, with a random adapter as its product: made in a second, without a backend."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from localtune.adapter import CONFIG_FILE, PREFIX, WEIGHTS_FILE, Lora, peft_config
from localtune.backend import Device
from localtune.cli.options import read_recipe
from localtune.data.prepare import prepare
from localtune.data.tokenizer import Tokenizer
from localtune.launch import Ready, create_run
from localtune.model import ModelFiles, resolve
from localtune.plan import make_plan
from localtune.runs.files import new_folder
from localtune.runs.folder import Run
from localtune.saved import write_json
from tests.command import MODEL, short

DEVICE = Device("torch", "cpu", "a processor", 16 << 30, ("float32",), {}, "for the test")
LORA = Lora(4, 8.0, targets=("q_proj", "o_proj"))


def ready(folder: Path, model: Path = MODEL) -> Ready:
    """What a run is made of; its rows lie in `folder`."""
    data, _, _, *flags = short(folder, steps=2)
    overrides = tuple(flag.removeprefix("--set=") for flag in flags)
    loaded = read_recipe(str(data), str(model), overrides, None, "made")
    files, recipe = resolve(str(model), folder), loaded.recipe
    rows, learn, seed = files.config.vocabulary, recipe.train.learn, recipe.train.seed
    prepared = prepare(recipe.data, Tokenizer(files.folder), learn=learn, seed=seed, base=loaded.base, vocabulary=rows)
    return Ready(loaded, files, prepared, make_plan(recipe, files, prepared, DEVICE))


def make_run(folder: Path, model: Path = MODEL) -> Run:
    """A run with an adapter, in the folder of runs that is set."""
    made = ready(folder, model)
    run = create_run(made)
    with new_folder(run.adapter) as temporary:
        write_adapter(temporary, made.model, seed=1)
    return run


def write_adapter(folder: Path, model: ModelFiles, *, seed: int) -> Path:
    """Write a random adapter of `model` into the existing `folder`."""
    draw = np.random.default_rng(seed)
    shapes = {tensor.name: tensor.shape for tensor in model.tensors}
    endings = tuple(f"{target}.weight" for target in LORA.targets)
    modules = [name.removesuffix(".weight") for name in shapes if name.endswith(endings)]
    arrays = {f"{PREFIX}{module}.lora_{side}.weight": draw.normal(0, 0.3, shape).astype(np.float32)
              for module in modules for side, shape in _pair(shapes[f"{module}.weight"])}  # fmt: skip
    save_file(arrays, folder / WEIGHTS_FILE)
    write_json(folder / CONFIG_FILE, peft_config(LORA, modules, model.name, model.revision))
    return folder


def _pair(shape: Sequence[int]) -> list[tuple[str, tuple[int, int]]]:
    rows, columns = shape
    return [("A", (LORA.rank, columns)), ("B", (rows, LORA.rank))]
