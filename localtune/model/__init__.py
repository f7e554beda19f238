"""A model's files: found or downloaded, checked, and described by known keys. Nothing of a model is ever executed.

Of what is read, links are followed within the folder and to the contents of the hub's cache, and nowhere else; names
taken from a model's own files never leave its folder.
"""

import hashlib
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from localtune.errors import InputError, Problem
from localtune.model import bitsandbytes_layout
from localtune.model.config import ModelConfig as ModelConfig
from localtune.model.config import model_config, read_config, stop_ids
from localtune.model.hub import Download as Download
from localtune.model.hub import snapshot
from localtune.model.links import refuse_links_out
from localtune.model.quantized import unpacked
from localtune.model.tensors import TensorInfo as TensorInfo
from localtune.model.tensors import read_tensors
from localtune.model.weights import Weights

_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([\w./-]{1,200}))?", re.ASCII)

FINGERPRINTED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
)
"""Files beside the weights that decide what a model says."""


@dataclass(frozen=True)
class ModelFiles:
    """A model on this machine, ready to be opened."""

    name: str
    """What the user asked for: hub id or folder."""
    folder: Path
    revision: str | None
    """Commit of the hub snapshot; None for a folder."""
    config: ModelConfig
    tensors: tuple[TensorInfo, ...]
    stop_ids: tuple[int, ...]
    """Every eos id of `generation_config.json` and `config.json`, in that order."""

    @property
    def weights(self) -> tuple[TensorInfo, ...]:
        """The tensors with the shapes the model computes with: packed ones by what they stand for."""
        if self.config.quantized == "bitsandbytes":
            packed = bitsandbytes_layout.packed_weights(Weights(self), "F32")
            return bitsandbytes_layout.shapes(self.tensors, {one.plain.name: one for one in packed})
        how = self.config.quantization
        return self.tensors if how is None else unpacked(self.tensors, how)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(math.prod(tensor.shape) for tensor in self.weights)

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)


def resolve(
    name: str,
    base: Path,
    *,
    offline: bool | None = None,
    confirm: Callable[[Download], bool] | None = None,
) -> ModelFiles:
    """The model called `name`: a folder (absolute or relative to `base`), else a hub id `org/name[@rev]`.

    `offline` and `confirm` are for the hub, see `hub.snapshot`. Raises `InputError` for a model that is not there, is
    damaged, or wants to run code, and `MachineError` for one that this machine cannot get.
    """
    folder, revision = _locate(name, base, offline, confirm)
    refuse_links_out(folder)
    config = read_config(folder)
    tensors = read_tensors(folder)
    found = ModelFiles(name, folder, revision, model_config(config, tensors), tensors, stop_ids(folder, config))
    if found.config.quantized in ("mlx", "bitsandbytes"):
        _ = found.weights  # a contradiction is told now, not when sizes are asked for
    return found


def fingerprint(model: ModelFiles) -> dict[str, str]:
    """File name -> SHA-256 of every file that decides what the model says: configuration, tokenizer, weights."""
    names = [name for name in FINGERPRINTED if (model.folder / name).is_file()]
    return {name: _sha256(model.folder / name) for name in [*names, *sorted({t.shard for t in model.tensors})]}


def _locate(
    name: str, base: Path, offline: bool | None, confirm: Callable[[Download], bool] | None
) -> tuple[Path, str | None]:
    path = os.path.join(base, name)
    if os.path.isdir(path):
        return Path(path), None
    if os.path.isfile(path):
        raise InputError(Problem("model.file", "is a file; a model is a folder", name, fix=_file_fix(name)))
    match = _HUB_ID.fullmatch(name)
    if match is None or ".." in name:
        what = "there is no such folder, and a hub id has the form org/name or org/name@revision"
        raise InputError(Problem("model.not-found", what, name, fix="check the name; folders count from the recipe's"))
    return snapshot(match[1], match[2], offline=offline, confirm=confirm)


def _file_fix(name: str) -> str:
    return "GGUF is for answering; pass the original model" if name.endswith(".gguf") else "pass the folder it lies in"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
