"""The tensors of a decoder in a Hugging Face folder, with their shapes: what the supported families have in common.

Exact: a family is these tensors and no others. Names are those of transformers, or of mlx-lm where it stacks experts.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass

from localtune.model import ModelConfig

QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
ATTENTION = (*QKV, "self_attn.o_proj")
MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


@dataclass(frozen=True)
class Experts:
    """The experts of a layer, of which a router chooses some for each token."""

    count: int
    width: int
    """Numbers between an expert's two halves."""
    module: str
    """mlp or block_sparse_moe; the router is its `gate`."""
    parts: tuple[str, str, str]
    """What an expert calls its gate, up and down maps."""


@dataclass(frozen=True)
class Decoder:
    """How the layers of a family are made."""

    biased: frozenset[str] = frozenset()
    """Linear maps of a layer that have a bias."""
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    head_norms: bool = False
    """q and k are normalised within each head."""
    fused: bool = False
    """q, k and v are one map, gate and up another."""
    experts: Experts | None = None
    regrouped: bool = False
    """llama.cpp turns neighbouring pairs in this architecture, so the rows of q and k are regrouped."""
    norm_offset: float = 0.0
    """What the model adds to the weights of its norms before it multiplies by them; llama.cpp wants it in the file."""


@dataclass(frozen=True)
class Wanted:
    """One tensor of the file, by its origin."""

    name: str
    """What gguf's tensor map calls its origin."""
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    """Of the tensor in the file, rows first."""
    heads: int = 0
    """Heads whose rows are regrouped; 0 = they stay."""
    added: float = 0.0

    @property
    def source_shape(self) -> tuple[int, ...]:
        """Of each source."""
        return self.shape if len(self.sources) == 1 else self.shape[1:]


def wanted(shape: ModelConfig, decoder: Decoder, there: Container[str]) -> Iterator[Wanted]:
    """Every tensor of the model; `there` are the names it has, which tell how experts are stored."""
    yield _one("model.embed_tokens.weight", shape.vocabulary, shape.hidden)
    for layer in range(shape.layers):
        yield from _layer(f"model.layers.{layer}.", shape, decoder)
        if decoder.experts is not None:
            yield from _experts(layer, shape, decoder.experts, there)
    yield _one("model.norm.weight", shape.hidden, added=decoder.norm_offset)
    if not shape.tied:
        yield _one("lm_head.weight", shape.vocabulary, shape.hidden)


def _layer(before: str, shape: ModelConfig, decoder: Decoder) -> Iterator[Wanted]:
    for norm in decoder.norms:
        yield _one(f"{before}{norm}.weight", shape.hidden, added=decoder.norm_offset)
    if decoder.head_norms:
        for norm in ("q_norm", "k_norm"):
            yield _one(f"{before}self_attn.{norm}.weight", shape.head_dim, added=decoder.norm_offset)
    regrouped = {"self_attn.q_proj": shape.heads, "self_attn.k_proj": shape.kv_heads} if decoder.regrouped else {}
    for module, size in _maps(shape, decoder).items():
        heads = regrouped.get(module, 0)
        yield _one(f"{before}{module}.weight", *size, heads=heads)
        if module in decoder.biased:
            yield _one(f"{before}{module}.bias", size[0], heads=heads)


def _maps(shape: ModelConfig, decoder: Decoder) -> dict[str, tuple[int, int]]:
    """The linear maps of a layer, [out, in]."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    hidden, wide = shape.hidden, shape.feed_forward
    if decoder.fused:
        return {
            **{"self_attn.qkv_proj": (q + 2 * kv, hidden), "self_attn.o_proj": (hidden, q)},
            **{"mlp.gate_up_proj": (2 * wide, hidden), "mlp.down_proj": (hidden, wide)},
        }
    attention = dict(zip(ATTENTION, ((q, hidden), (kv, hidden), (kv, hidden), (hidden, q)), strict=True))
    mlp = dict(zip(MLP, ((wide, hidden), (wide, hidden), (hidden, wide)), strict=True))
    return attention if decoder.experts else attention | mlp


def _experts(layer: int, shape: ModelConfig, experts: Experts, there: Container[str]) -> Iterator[Wanted]:
    module = f"model.layers.{layer}.{experts.module}"
    yield _one(f"{module}.gate.weight", experts.count, shape.hidden)
    for place, (part, name) in enumerate(zip(experts.parts, ("gate_proj", "up_proj", "down_proj"), strict=True)):
        rows, width = (shape.hidden, experts.width) if place == 2 else (experts.width, shape.hidden)
        stacked = f"{module}.switch_mlp.{name}.weight"
        each = tuple(f"{module}.experts.{number}.{part}.weight" for number in range(experts.count))
        known_as = f"model.layers.{layer}.mlp.experts.{name}.weight"
        yield Wanted(known_as, (stacked,) if stacked in there else each, (experts.count, rows, width))


def _one(name: str, *shape: int, heads: int = 0, added: float = 0.0) -> Wanted:
    return Wanted(name, (name,), shape, heads, added)
