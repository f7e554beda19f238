"""A weight that is stored in few bits: what it is once dequantised, and how its rows are read."""

from collections.abc import Callable
from dataclasses import dataclass

from localtune.batch import Floats
from localtune.model.tensors import TensorInfo


@dataclass(frozen=True)
class Packed:
    """One quantised weight of a checkpoint."""

    plain: TensorInfo
    """Its name, shape, type and size once dequantised, and the file it lies in."""
    rows: Callable[[int, int], Floats]
    """Rows from a first to before a last of the matrix [product of all dimensions but the last, last], float32."""
    beside: tuple[str, ...]
    """Names of the tensors that say what its codes mean: scales, tables."""
