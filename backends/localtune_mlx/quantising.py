"""The grids on which MLX stores a frozen base, and which width each takes.

affineN: w = scale q + bias with N bits and one scale and bias per group (Apple's MLX, `mx.quantize`). mxfp4, mxfp8: the
OCP microscaling formats, a power of two per 32. nvfp4: 4-bit floats with an 8-bit float per 16.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """How the weights of a group are stored."""

    mode: str
    """MLX's name."""
    bits: int
    groups: tuple[int, ...]
    """Weights that share a scale; the first that divides a layer's width is taken."""


GRIDS = {
    **{f"affine{bits}": Grid("affine", bits, (64, 32)) for bits in (2, 3, 4, 6, 8)},
    "mxfp4": Grid("mxfp4", 4, (32,)),
    "nvfp4": Grid("nvfp4", 4, (16,)),
    "mxfp8": Grid("mxfp8", 8, (32,)),
}
"""By the name of a `Precision`'s storage."""


def group_for(grid: Grid, width: int) -> int:
    """Weights per group in a layer with `width` inputs. Raises `ValueError` where no group divides it."""
    for group in grid.groups:
        if width % group == 0:
            return group
    raise ValueError(
        f"{grid.mode} stores groups of {' or '.join(map(str, grid.groups))} weights; {width} is no multiple"
    )
