"""From the tensors of a model to those of a file: every one that is wanted, in its shape, and no other."""

from collections.abc import Mapping, Sequence

import gguf

from localtune.errors import Problem
from localtune.export.families.decoder import Wanted
from localtune.export.families.reading import FRESH
from localtune.export.placed import Placed
from localtune.export.problems import Problems
from localtune.export.tokens import ANOTHER
from localtune.model import ModelFiles, TensorInfo
from localtune.model.plain import plain_tensors
from localtune.model.weights import DTYPES


def stored(model: ModelFiles) -> dict[str, TensorInfo]:
    """The tensors that count, dequantised; rotary buffers and a head beside a tied one say nothing.

    Raises `InputError` where quantised tensors contradict each other.
    """
    skipped = {"lm_head.weight"} if model.config.tied else set()
    return {
        tensor.name: tensor
        for tensor in plain_tensors(model)
        if tensor.name not in skipped and not tensor.name.endswith(".rotary_emb.inv_freq")
    }


def placed(
    model: ModelFiles,
    found: Mapping[str, TensorInfo],
    every: Sequence[Wanted],
    arch: gguf.MODEL_ARCH,
    problems: Problems,
) -> list[Placed]:
    """The tensors in the order of `every`; what is missing, unknown, of another shape or type is a problem."""
    names = gguf.get_tensor_name_map(arch, model.config.layers)
    tensors, wrong = [], []
    for one in every:
        wrong += [_misfit(found[name], one) for name in one.sources if name in found]
        target = names.get_name(one.name, try_suffixes=(".weight", ".bias"))
        tensors.append(Placed(str(target), one.shape, one.sources, heads=one.heads, added=one.added))
    known = [name for one in every for name in one.sources]
    missing, unknown = [name for name in known if name not in found], sorted(found.keys() - set(known))
    if missing:
        problems.add(_problem(model, "lacks", missing, FRESH))
    if unknown:
        problems.add(_problem(model, "has unknown tensors:", unknown, ANOTHER))
    if any(wrong):
        problems.add(_problem(model, "holds tensors that do not fit:", list(filter(None, wrong)), FRESH))
    return tensors


def _misfit(tensor: TensorInfo, one: Wanted) -> str:
    if tensor.shape != one.source_shape:
        return f"{tensor.name} is {list(tensor.shape)}, expected {list(one.source_shape)}"
    if tensor.dtype not in DTYPES:
        return f"{tensor.name} is stored as {tensor.dtype}, expected F32, F16 or BF16"
    return ""


def _problem(model: ModelFiles, words: str, some: Sequence[str], fix: str) -> Problem:
    shown = ", ".join(name[:120] for name in some[:3]) + (f" and {len(some) - 3} more" if len(some) > 3 else "")
    what = f"{model.config.architecture} with this config.json {words} {shown}"
    return Problem("gguf.tensors", what, model.folder.name, fix=fix)
