"""What a GGUF is made of: every tensor with where its values come from, and the hyperparameters beside them."""

from dataclasses import dataclass
from typing import Any

from localtune.batch import Floats

Metadata = dict[str, Any]
"""Key -> str, bool, int (uint32), float (float32), or a list of one of them (int32)."""


@dataclass(frozen=True, eq=False)
class Placed:
    """One tensor of the file."""

    name: str
    shape: tuple[int, ...]
    """Rows first, as numpy has it; the first dimension counts `sources` where there are several."""
    sources: tuple[str, ...] = ()
    """Tensors of the model; several lie one after the other (experts). () for one that is computed."""
    heads: int = 0
    """In how many heads the rows are regrouped for llama.cpp's rotary layout; 0 = they stay."""
    added: float = 0.0
    """Added to every value, in float32."""
    values: Floats | None = None
    """What is written where there is no source."""


@dataclass(frozen=True)
class Conversion:
    """How a model is written."""

    architecture: str
    """llama.cpp's name."""
    tensors: tuple[Placed, ...]
    metadata: Metadata
    notes: tuple[str, ...] = ()
    """Where llama.cpp will compute otherwise than the model, one sentence each."""
