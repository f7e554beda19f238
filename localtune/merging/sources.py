"""The adapters that are merged: read, each sound in itself, and all of one base."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import psutil

from localtune.adapter import CONFIG_FILE, Lora, Update, base_of, read_peft_config, read_updates
from localtune.batch import Floats
from localtune.errors import InputError, Problem, ResourceError
from localtune.model.json_object import read_object
from localtune.model.weights import Weights
from localtune.sizes import readable
from localtune.titles import may_be_one, title


@dataclass(frozen=True)
class Source:
    """One adapter."""

    folder: Path
    lora: Lora
    updates: dict[str, Update]
    weights: Weights
    weight: float

    def factors(self, module: str) -> tuple[Floats, Floats]:
        """scale * A [rank, in] and B [out, rank]; both float32."""
        update = self.updates[module]
        a, b = (self.weights.rows(name, 0, self.weights[name].shape[0]) for name in (update.a, update.b))
        a *= np.float32(self.lora.scale)
        return a, b

    def shape(self, module: str) -> tuple[int, int]:
        """Outputs and inputs."""
        update = self.updates[module]
        return self.weights[update.b].shape[0], self.weights[update.a].shape[1]


def read_source(folder: Path, weight: float) -> Source:
    """The adapter in `folder`, sound in itself."""
    lora = read_peft_config(folder)
    if lora.dora:
        what, fix = "is a DoRA adapter, whose changes do not add up", "fuse it:  localtune fuse ADAPTER -o FUSED"
        raise InputError(Problem("merge.dora", what, str(folder), fix=fix))
    updates, weights = read_updates(folder, lora)
    source = Source(folder, lora, updates, weights, weight)
    wrong = []
    for module, update in updates.items():
        a, b = weights[update.a].shape, weights[update.b].shape
        if not (len(a) == len(b) == 2 and a[0] == b[1] == lora.rank and a[1] and b[0]):
            wrong.append(f"{module[:200]}: A {list(a)} and B {list(b)} are not of rank {lora.rank}")
    if wrong:
        what, fix = "its tensors are not of its rank", "get a fresh copy of the adapter"
        raise InputError(Problem("merge.shape", what, str(folder), "\n".join(wrong[:5]), fix))
    bad = [name for name in weights if not all(np.isfinite(rows).all() for _, rows in weights.blocks(name))]
    if bad:
        what, fix = "holds values that are not finite numbers", "train again with a lower learning rate"
        raise InputError(Problem("merge.not-finite", what, str(folder), "\n".join(bad[:5]), fix))
    return source


def base_and_commit(sources: Sequence[Source]) -> tuple[str, str | None]:
    """The base that all of them name, by its hub id where one does, and its commit.

    Raises `InputError` where two name different ones.
    """
    named = [(source, base_of(source.folder) or "") for source in sources]
    bases = [base for _, base in named if base]
    commits = [read_object(source.folder / CONFIG_FILE).get("revision") for source in sources]
    known = [commit for commit in commits if isinstance(commit, str) and commit]
    if not all(may_be_one(*pair) for pair in combinations(bases, 2)) or len(set(known)) > 1:
        what = "the adapters were trained on different models, or on different revisions of one"
        lines = [f"{source.folder.name}: {base or 'does not say'} {commit or ''}"
                 for (source, base), commit in zip(named, commits, strict=True)]  # fmt: skip
        raise InputError(Problem("merge.base", what, evidence="\n".join(lines), fix="merge adapters of one base"))
    return next((base for base in bases if title(base)[0]), (bases or [""])[0]), next(iter(known), None)


def shapes_of(sources: Sequence[Source]) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of every module that any of them adapts. Raises `InputError` where two contradict."""
    shapes: dict[str, tuple[int, int]] = {}
    wrong = []
    for source in sources:
        for module in source.updates:
            shape = source.shape(module)
            if shapes.setdefault(module, shape) != shape:
                wrong.append(f"{module[:200]}: {list(shape)} in {source.folder.name}, {list(shapes[module])} before")
    if wrong:
        what = f"the adapters are for models of different shapes: {len(wrong)} modules differ"
        raise InputError(Problem("merge.shape", what, evidence="\n".join(wrong[:5]), fix="merge adapters of one base"))
    return shapes


def refuse_too_large(shapes: Mapping[str, tuple[int, int]], adapters: int) -> None:
    """Raise `ResourceError` where whole changes of `shapes` do not fit: small factors can stand for any size."""
    module = max(shapes, key=lambda name: shapes[name][0] * shapes[name][1])
    needed, there = (adapters + 5) * 4 * shapes[module][0] * shapes[module][1], psutil.virtual_memory().available
    if needed > there:
        what = f"{module[:200]} {list(shapes[module])} needs {readable(needed)}, {readable(there)} are free"
        raise ResourceError(Problem("merge.memory", what, fix="--how linear without --rank  merges the factors alone"))
