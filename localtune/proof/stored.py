"""Every tensor of a file, read back and compared with the values it was made of.

A divergence over some hundred positions may stay under the limit of a coarse type though one tensor of many is wrong.
So the numbers themselves are compared, all of them: the relative error |file - wanted| / |wanted| (Euclidean norms) of
each row is a few times below its limit where the type was computed as it should be, and near or above 1 where a row is
another one, moved or zero. That a tensor is placed where it belongs is not seen here, but in what the file says.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from localtune.batch import Floats
from localtune.export import Exportable
from localtune.export.read import StoredTensor, read_gguf
from localtune.export.values import values_of
from localtune.model.plain import plain_weights
from localtune.model.weights import BLOCK
from localtune.proof.checks import Check
from localtune.score import nothing_asked
from localtune.threads import in_order

LIMITS = {
    **{"F32": (0.0, 0), "F16": (1e-3, 1), "BF16": (5e-3, 1), "Q8_0": (3e-2, 127), "Q6_K": (8e-2, 128 * 32)},
    **{"Q5_K": (0.15, 64 * 32), "Q5_0": (0.15, 16), "Q5_1": (0.15, 32)},
    **{"Q4_K": (0.3, 64 * 16), "Q4_0": (0.3, 8), "Q4_1": (0.3, 16)},
}
"""Type -> largest relative error of a row, a fifth or more above that of heavy tails, lone values or fading blocks, and
how many times `SMALLEST` a value may be lost beside that: as much as the codes of a block enlarge its scale. BF16 loses
nothing, but the F16 file that it may be compared with does."""
OTHER = (0.9, 128 * 32)
"""Of any other type, of whatever few bits."""
SMALLEST = 2.0**-25
"""Half of the least F16, in which a scale is stored: weights near zero may be lost whole."""
LOOK = "how those tensors were placed and quantised"


@dataclass(frozen=True)
class Wanted:
    """What a file should hold."""

    shapes: Mapping[str, tuple[int, ...]]
    blocks: Callable[[str], Iterator[Floats]]
    """Name of a tensor -> its values in blocks of rows, in order; [rows, width], or [width]."""


def of_weights(ready: Exportable) -> Wanted:
    """What is placed of a model's weights."""
    weights, placed = plain_weights(ready.model), {placed.name: placed for placed in ready.conversion.tensors}
    shapes = {name: one.shape for name, one in placed.items()}
    return Wanted(shapes, lambda name: values_of(placed[name], weights, ready.model.config.head_dim))


def of_file(path: Path) -> Wanted:
    """What another GGUF holds: the exact one that a coarse one was made of."""
    there = {tensor.name: tensor for tensor in read_gguf(path).tensors}

    def blocks(name: str) -> Iterator[Floats]:
        rows = _rows_of(path, there[name])
        for start, stop in _steps(len(rows), there[name].shape[-1]):
            yield _values(rows[start:stop], there[name])

    return Wanted({name: tensor.shape for name, tensor in there.items()}, blocks)


def stored(path: Path, wanted: Wanted, check: Callable[[], None] = nothing_asked) -> Check:
    """The file at `path` holds what is `wanted`, as exactly as its types can; `check` may raise between two blocks."""
    there = {tensor.name: tensor for tensor in read_gguf(path).tensors}
    apart = [*(wanted.shapes.keys() - there.keys()), *(there.keys() - wanted.shapes.keys())]
    apart += [name for name in wanted.shapes.keys() & there.keys() if there[name].shape != wanted.shapes[name]]
    if apart:
        text = f"{len(apart)} tensors are missing, too many, or of another shape: {', '.join(sorted(apart)[:3])}"
        return Check("tensors", False, text, {"wrong": len(apart)}, LOOK)
    read = [tensor for tensor in there.values() if _is_read(tensor)]
    if not read:
        return Check("tensors", None, "none is of a type that is read here")
    return _told(_compared(path, read, wanted, check), len(there) - len(read))


@dataclass
class _Tensor:
    """A tensor of the file, summed over its rows as they are compared."""

    tensor: StoredTensor
    off: float = 0.0
    size: float = 0.0
    rows: int = 0
    wrong: int = 0
    """Rows that their type does not explain."""

    @property
    def error(self) -> float:
        """Of the whole tensor; infinite where the file holds what is no number."""
        error = math.sqrt(self.off / self.size if self.size else self.off)
        return error if math.isfinite(error) else math.inf

    @property
    def missing(self) -> int:
        """Rows that are wrong, or were never compared."""
        return self.wrong + math.prod(self.tensor.shape[:-1]) - self.rows


def _told(found: Sequence[_Tensor], unread: int) -> Check:
    """What is said of all tensors together; `unread` are of types that are not read here."""
    worst, wrong = max(found, key=lambda one: one.error), [one for one in found if one.missing]
    figures: dict[str, float] = {"tensors": len(found), "wrong": len(wrong)}
    figures |= {"worst": worst.error} if math.isfinite(worst.error) else {}
    most = f"off by {worst.error:.1e} at most ({worst.tensor.kind})"
    text = f"{len(found)} tensors read back as the weights, row by row: {most}"
    if wrong:
        some = [f"{one.tensor.name} ({one.missing} of {math.prod(one.tensor.shape[:-1])} rows)" for one in wrong[:3]]
        text = f"{len(wrong)} of {len(found)} tensors are not the weights: {', '.join(some)}"
    text += f"; {unread} are of types that are not read here" if unread else ""
    return Check("tensors", not wrong, text, figures, LOOK)


def _compared(path: Path, read: Sequence[StoredTensor], wanted: Wanted, check: Callable[[], None]) -> Sequence[_Tensor]:
    """Every row of the tensors that are `read`, on the processor's cores."""
    found = {tensor.name: _Tensor(tensor) for tensor in read}

    def blocks() -> Iterator[tuple[_Tensor, npt.NDArray[np.uint8], Floats]]:
        for one in found.values():
            at, file = 0, _rows_of(path, one.tensor)
            for block in wanted.blocks(one.tensor.name):
                rows = block.reshape(-1, one.tensor.shape[-1])
                for start, stop in _steps(*rows.shape):  # the matrix of an expert comes as one block
                    yield one, file[at + start : at + stop], rows[start:stop]
                at += len(rows)

    with closing(in_order(_apart, blocks())) as done:
        for one, off, size, wrong in done:
            check()
            one.off, one.size = one.off + float(off.sum()), one.size + float(size.sum())
            one.rows, one.wrong = one.rows + len(off), one.wrong + wrong
    return tuple(found.values())


def _apart(
    block: tuple[_Tensor, npt.NDArray[np.uint8], Floats],
) -> tuple[_Tensor, npt.NDArray[np.float64], npt.NDArray[np.float64], int]:
    """Squared error and squared norm of every row of a block, and how many rows are further off than their type is."""
    one, file, rows = block
    relative, lost = LIMITS.get(one.tensor.kind, OTHER)
    with np.errstate(over="ignore", invalid="ignore"):
        apart = _values(file, one.tensor) - rows
    off, size = (np.einsum("rw,rw->r", each, each, dtype=np.float64) for each in (apart, rows))
    fits = off <= relative**2 * size + rows.shape[1] * (lost * SMALLEST) ** 2
    return one, off, size, int((~fits).sum())


def _is_read(tensor: StoredTensor) -> bool:
    if tensor.kind not in gguf.GGMLQuantizationType.__members__:
        return False
    try:
        _values(np.zeros((1, gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[tensor.kind]][1]), np.uint8), tensor)
    except NotImplementedError:
        return False
    return True


def _steps(rows: int, width: int) -> Iterator[tuple[int, int]]:
    """Where blocks of at most `BLOCK` bytes of float32, or one row, begin and end."""
    step = max(1, BLOCK // (4 * width))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def _rows_of(path: Path, tensor: StoredTensor) -> npt.NDArray[np.uint8]:
    """The bytes of a tensor as they lie in the file, a row each."""
    rows = math.prod(tensor.shape[:-1])
    return np.memmap(path, np.uint8, "r", tensor.offset, (rows, tensor.size // rows))


def _values(rows: npt.NDArray[np.uint8], tensor: StoredTensor) -> Floats:
    values: Floats = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[tensor.kind])
    return values
