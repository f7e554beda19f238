"""Several LoRA adapters of one base as one: a weighted sum of what they change, TIES, or DARE, in numpy.

An adapter changes W by delta = scale * B A. Linear: sum of w_i delta_i, exact but for float32 rounding of w_i scale_i
A_i, because A and B are put side by side and the ranks add up. TIES (Yadav et al. 2023): of each delta the `density` of
its values that are largest stay, each place takes the sign of their sum, and the mean of w_i times the values of that
sign. DARE (Yu et al. 2024): each value stays with the probability `density` and is divided by it, then the weighted
sum. Trim, sign and drop are per module, as in peft. Results of TIES and DARE, and of linear where a lower rank is asked
for, are cut to their rank by a singular value decomposition, and the share of their squares that is left is measured.
A merged change that is 0, up to float32 rounding of what was summed, is refused, and one beyond float32. rsLoRA, other
scales, ranks and targets are fine; DoRA is not linear in its parts and is refused. Memory is some
(adapters + 5) times the largest adapted weight in float32.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from localtune import __version__
from localtune.adapter import CONFIG_FILE, PREFIX, WEIGHTS_FILE, Lora, peft_config
from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.merging.energy import Energy, energy, product_energy, refuse_nothing, refuse_overflow, together
from localtune.merging.formulas import drop, elected_mean, trim, truncated, weighted_sum
from localtune.merging.sources import Source, base_and_commit, read_source, refuse_too_large, shapes_of
from localtune.model.tensors import TensorInfo
from localtune.model.weights import Piece, write_shard
from localtune.modelcard import CARD, model_card, stated_licence
from localtune.runs.files import new_folder, write_bytes
from localtune.typed import typed

How = Literal["linear", "ties", "dare"]


@dataclass(frozen=True)
class Merged:
    """What was done."""

    rank: int
    modules: tuple[str, ...]
    kept: float
    """Share of the sum of squares of the merged change that is left at this rank, over all modules; 1 = all."""
    kept_least: tuple[str, float]
    """The module that keeps least, and its share."""
    seconds: float


def merge(
    adapters: Sequence[Path],
    folder: Path,
    *,
    how: How = "linear",
    weights: Sequence[float] | None = None,
    density: float = 0.5,
    seed: int = 0,
    rank: int | None = None,
) -> Merged:
    """Write one PEFT adapter made of `adapters` to `folder`, which appears complete or not at all.

    `weights`: one per adapter; default: equal ones whose sum is 1, for TIES, which takes a mean, 1 each. `rank`
    default: the sum of the ranks for linear, else the largest. Raises `InputError` (merge.few, .weights, .density,
    .rank, .exists, .base, .shape, .dora, .not-finite, .nothing, and the codes of reading an adapter), `ResourceError`
    (merge.memory).
    """
    began = time.monotonic()
    _refuse_settings(adapters, folder, how, weights, density, rank)
    count = len(adapters)
    chosen = list(weights) if weights is not None else [1.0 if how == "ties" else 1 / count] * count
    sources = [read_source(path, weight) for path, weight in zip(adapters, chosen, strict=True)]
    base = base_and_commit(sources)
    shapes = shapes_of(sources)
    most = sum(source.lora.rank for source in sources)
    ranks = rank or (most if how == "linear" else max(source.lora.rank for source in sources))
    exact = how == "linear" and ranks >= most
    refuse_too_large({"the product of all ranks": (most, most)} if exact else shapes, count)
    merging = _Merging(sources, how, density, seed, ranks, exact)
    with new_folder(folder) as temporary:
        write_shard(temporary / WEIGHTS_FILE, _tensors(shapes, ranks), _Content(merging))
        refuse_nothing(together(merging.energies.values()), how)
        done = _summary(merging, tuple(shapes), time.monotonic() - began)
        config = _config(sources, ranks, base)
        write_bytes(temporary / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())
        write_bytes(temporary / CARD, _card(folder.name, merging, done, base).encode())
    return done


@dataclass
class _Merging:
    """The merged factors, module by module, and what they keep."""

    sources: Sequence[Source]
    how: How
    density: float
    seed: int
    rank: int
    exact: bool
    """The ranks add up, and nothing is cut."""
    energies: dict[str, Energy] = field(default_factory=dict)
    """By module."""

    @np.errstate(all="ignore")  # what is not finite shows in the energies
    def factors(self, module: str) -> tuple[Floats, Floats]:
        """A [rank, in] and B [out, rank] of the merged adapter, whose scale is 1."""
        having = [(number, source) for number, source in enumerate(self.sources) if module in source.updates]
        if self.exact:
            a, b = _side_by_side([source for _, source in having], module, self.rank)
            given = sum(source.weight * source.weight * product_energy(*source.factors(module)) for _, source in having)
            merged = product_energy(a, b)
            self._keep(module, Energy(given, merged, merged))
            return a, b
        delta, given = self._delta(having, module)
        merged = energy(delta)
        self._keep(module, Energy(given, merged, merged))
        a, b = truncated(delta, self.rank, _generator(self.seed, "svd", module))
        delta -= b @ a
        self._keep(module, Energy(given, merged, merged - energy(delta)))
        return a, b

    def _delta(self, having: Sequence[tuple[int, Source]], module: str) -> tuple[Floats, float]:
        """The merged change [out, in], and the energy of what was summed."""
        deltas, weights = [], []
        for number, source in having:
            a, b = source.factors(module)
            delta = b @ a
            if self.how == "ties":
                trim(delta, self.density)
            if self.how == "dare":
                drop(delta, self.density, _generator(self.seed, str(number), module))
            deltas.append(delta)
            weights.append(source.weight)
        given = sum(weight * weight * energy(delta) for delta, weight in zip(deltas, weights, strict=True))
        return (elected_mean if self.how == "ties" else weighted_sum)(deltas, weights), given

    def _keep(self, module: str, found: Energy) -> None:
        refuse_overflow(found, module, self.how)
        self.energies[module] = found


def _side_by_side(sources: Sequence[Source], module: str, rank: int) -> tuple[Floats, Floats]:
    outputs, inputs = sources[0].shape(module)
    a, b, at = np.zeros((rank, inputs), np.float32), np.zeros((outputs, rank), np.float32), 0
    for source in sources:
        part = slice(at, at + source.lora.rank)
        a[part], b[:, part] = source.factors(module)
        a[part] *= np.float32(source.weight)
        at += source.lora.rank
    return a, b


def _generator(seed: int, who: str, module: str) -> np.random.Generator:
    key = hashlib.sha256(f"{seed}:{who}:{module}".encode()).digest()
    return np.random.Generator(np.random.Philox(int.from_bytes(key[:16], "little")))


class _Content:
    """The pieces of a tensor; a module's B is kept from when its A was asked for."""

    def __init__(self, merging: _Merging) -> None:
        self._merging = merging
        self._b: Floats | None = None

    def __call__(self, tensor: TensorInfo) -> Iterator[Piece]:
        module, found, _ = tensor.name.removeprefix(PREFIX).rpartition(".lora_A.weight")
        if found:
            a, self._b = self._merging.factors(module)
            yield a
        else:
            assert self._b is not None
            yield self._b


def _tensors(shapes: dict[str, tuple[int, int]], rank: int) -> list[TensorInfo]:
    found = []
    for module, (outputs, inputs) in shapes.items():
        for part, shape in (("lora_A", (rank, inputs)), ("lora_B", (outputs, rank))):
            name = f"{PREFIX}{module}.{part}.weight"
            found.append(TensorInfo(name, shape, "F32", 4 * math.prod(shape), WEIGHTS_FILE))
    return found


def _summary(merging: _Merging, modules: tuple[str, ...], seconds: float) -> Merged:
    kept = {module: found.kept for module, found in merging.energies.items()}
    least = min(kept, key=lambda module: kept[module])
    return Merged(merging.rank, modules, together(merging.energies.values()).kept, (least, kept[least]), seconds)


def _config(sources: Sequence[Source], rank: int, base: tuple[str, str | None]) -> dict[str, Any]:
    """Each source's targets fit exactly its modules in the base, so all of them together fit the merged ones."""
    targets = sorted({target for source in sources for target in source.lora.targets})
    return peft_config(Lora(rank, float(rank)), targets, *base) | {"target_modules": targets}


def _card(name: str, merging: _Merging, done: Merged, base: tuple[str, str | None]) -> str:
    sources = merging.sources
    licences = [stated_licence(source.folder) for source in sources]
    settings: dict[str, object] = {
        "how": merging.how,
        "adapters": [source.folder.resolve().name for source in sources],
        "weights": [float(source.weight) for source in sources],
        "rank": done.rank,
    }
    if merging.how != "linear":
        settings |= {"density": merging.density}
    if merging.how == "dare":
        settings |= {"seed": merging.seed}
    return model_card(
        name=name,
        base=base[0] or "unknown",
        revision=base[1],
        method=f"merging {len(sources)} adapters ({merging.how})",
        licence=licences[0] if all(licence == licences[0] for licence in licences) else {},
        recipe=settings,
        measured={"share of the merged change that is left at this rank": done.kept},
        versions={"localtune": __version__},
        kind="adapter",
        tags=("lora", "merge", "localtune"),
    )


def _refuse_settings(
    adapters: Sequence[Path],
    folder: Path,
    how: How,
    weights: Sequence[float] | None,
    density: float,
    rank: int | None,
) -> None:
    problems = []
    if len(adapters) < 2:
        problems.append(Problem("merge.few", "merging needs two adapters or more", fix="localtune merge A B -o C"))
    if weights is not None and (len(weights) != len(adapters) or not all(map(math.isfinite, weights))):
        what = f"{len(weights)} weights for {len(adapters)} adapters, or one that is no number"
        problems.append(Problem("merge.weights", what, fix="--weights 0.5,0.5"))
    if how != "linear" and not 0 < density <= 1:
        what = f"the density is {density:g}; it is a share above 0 and at most 1"
        problems.append(Problem("merge.density", what, fix="--density 0.5"))
    if rank is not None and not 1 <= rank <= 65536:
        problems.append(Problem("merge.rank", f"the rank is {rank}; it is from 1 to 65536", fix="--rank 16"))
    if folder.exists() or folder.is_symlink():
        problems.append(
            Problem("merge.exists", "is there already", str(folder), fix=f"move it away, or  -o {typed(f'{folder}-2')}")
        )
    if problems:
        raise InputError(*problems)
