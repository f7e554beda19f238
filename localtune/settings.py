"""Every setting of a recipe, declared once: type, bounds, default and one sentence.

The recipe file, `--set`, the JSON Schema, the README's table and the terminal UI's form all come from here. Sizes are
bytes in code; a recipe may write "8GB".
"""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names become folder and file names: a safe alphabet, no leading dot."""

PATH_SETTINGS = ("data.train", "data.valid", "data.test", "model")
"""Settings that may name a file or folder; where they stand decides what they are relative to."""

NOT_PATHS = ("auto", "none")
"""Words of a path setting that name no file."""

_HUB_DATA = re.compile(
    r"hf://datasets/\S+|"
    r"(?!\.)[\w.-]+/(?![\w.-]*\.(?:jsonl?|ndjson|csv|tsv|parquet|txt|text|md|gz)(?:[@:]|$))[\w.-]+(?:[@:][\w./-]+)*"
)


def is_hub_data(name: str) -> bool:
    """Whether `name` could be a data set of the hub: owner/name[:configuration][@revision] without a file's suffix.

    A file or folder of that name wins; that is for the caller to see.
    """
    return _HUB_DATA.fullmatch(name) is not None


_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?((?:[KMGT]I?)?B)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def _bytes(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError("expected a size such as 8GB")
    return int(float(match[1]) * _UNITS[(match[2] or "").upper().removesuffix("B")])


_SIZE_SCHEMA = {
    "description": "a size such as 8GB",
    "anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string", "pattern": "[0-9] ?([KMGT]i?)?B$"}],
}
Size = Annotated[int, BeforeValidator(_bytes), Field(gt=0), WithJsonSchema(_SIZE_SCHEMA)]
Share = Annotated[str, Field(pattern=r"^(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?)%$", description="a share such as 3%")]
Warmup = Share | Annotated[int, Field(ge=0)]
Name = Annotated[
    str,
    Field(pattern=NAME, description="a name of up to 64 letters, digits, dots, dashes and underscores"),
]
FileName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=4096)]
_NAMES_SCHEMA = {
    "description": "a file, folder, pattern such as data/*.jsonl, hub data set, or a list of these",
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1000},
    ],
}
FileNames = Annotated[
    FileName | Annotated[list[FileName], Field(min_length=1, max_length=1000)], WithJsonSchema(_NAMES_SCHEMA)
]

Shape = Literal["messages", "prompt-completion", "alpaca", "sharegpt", "preference", "kto", "text", "fim"]
"""What a row of the user's data is."""
Column = Literal[
    "messages", "tools", "prompt", "completion", "system", "input", "history", "chosen", "rejected", "label",
    "text", "prefix", "suffix", "middle", "group",
]  # fmt: skip
"""What a row may keep under a key of another name."""

Gguf = Literal["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S"]
"""Types of GGUF files that are written here, those that round less first."""

Quantizer = Literal[
    "auto", "nf4", "affine2", "affine3", "affine4", "affine6", "affine8", "mxfp4", "nvfp4", "mxfp8"
]  # fmt: skip
"""How qlora stores the base: NF4 of bitsandbytes, or a mode of MLX with its bits per weight."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataSettings(_Section):
    """Which rows, and how they become tokens."""

    train: FileNames = Field(
        description="Training rows: JSONL, JSON, CSV, TSV, Parquet, text or .gz of these; relative to the recipe."
    )
    valid: FileNames = Field(
        "auto", description="Validation rows; auto = what lies beside train, else 5 % of it (20 to 200 rows); none."
    )
    test: FileNames | None = Field(None, description="Test rows, answered before and after and scored exactly.")
    format: Literal["auto", Shape] = Field("auto", description="Shape of a row; auto decides by its keys and says why.")
    columns: dict[Column, str] = Field(
        default_factory=dict, description="Where a row keeps what, such as {prompt: question, completion: answer}."
    )
    separator: str | None = Field(
        None, min_length=1, max_length=200, description="What stands between the documents of a text file."
    )
    system: str | None = Field(None, description="System turn for conversations that have none.")
    max_tokens: int = Field(2048, ge=8, le=1_048_576, description="Longest example, and length of a packed row.")
    too_long: Literal["auto", "cut", "drop", "error", "split"] = Field(
        "auto", description="Longer examples: split keeps all of a text in several; auto = split for text, else cut."
    )
    on_error: Literal["stop", "skip"] = Field(
        "skip", description="Rows that cannot be used: skip and count them, at most 1 % of all; or stop at the first."
    )


class TrainSettings(_Section):
    """How it trains."""

    method: Literal["lora", "qlora", "full"] = Field(
        "lora", description="LoRA, LoRA over a quantised base, or every weight."
    )
    quantize: Quantizer = Field(
        "auto", description="How qlora stores the frozen base; auto = nf4 with PyTorch, affine4 with MLX."
    )
    learn: Literal["answers", "all", "last"] = Field(
        "answers", description="Tokens that are learned: all answers, everything, or the last answer only."
    )
    epochs: float = Field(2.0, gt=0, le=1000, description="Passes over the training rows.")
    steps: int | None = Field(None, ge=1, description="Updates; wins over epochs.")
    learning_rate: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = Field(
        "auto", description="Highest learning rate; auto = 2e-4, for full 2e-5; lion a fifth of it, adafactor 0.01."
    )
    schedule: Literal["constant", "linear", "cosine"] = Field("cosine", description="Learning rate after the warm-up.")
    warmup: Warmup = Field("3%", description="Updates of the warm-up, as a count or a share.")
    batch_size: int = Field(8, ge=1, le=65536, description="Examples per update, however they are split or packed.")
    pack: bool = Field(True, description="Several examples in one row; they never see each other.")
    optimizer: Literal["adamw", "adafactor", "lion"] = Field(
        "adamw", description="AdamW with bias correction, Adafactor or Lion; decay is decoupled in all."
    )
    weight_decay: float = Field(0.0, ge=0, le=1, description="Decoupled weight decay.")
    clip: float = Field(1.0, ge=0, description="Largest global gradient norm; 0 = no clipping.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Compute type; auto = bfloat16 where the device is fast at it, else float32."
    )
    checkpointing: Literal["auto", "none", "blocks"] = Field(
        "auto", description="Recompute activations per block to save memory; auto = only if it does not fit otherwise."
    )
    memory_limit: Literal["auto"] | Size = Field("auto", description="Memory a run may use, such as 8GB.")
    rows: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="Packed rows computed at once: memory and speed. The result stays, but for dropout."
    )
    seed: int = Field(42, ge=0, lt=2**32, description="Decides order, initial adapter, dropout and samples.")


class LoraSettings(_Section):
    """The adapter."""

    rank: int = Field(16, ge=1, le=1024, description="Rank of the update.")
    alpha: float = Field(32.0, gt=0, description="Scale numerator: the update is scaled by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the adapter.")
    targets: Literal["all-linear", "attention"] | list[str] = Field(
        "all-linear", description="Layers that get an adapter, or a list of module names."
    )
    dora: bool = Field(False, description="Weight-decomposed LoRA: also trains a magnitude per output.")
    rslora: bool = Field(False, description="Scale by alpha / sqrt(rank).")


class StopSettings(_Section):
    """When to stop early."""

    val_loss_rises: int | None = Field(
        None, ge=1, description="Stop after this many evaluations in a row without a new best validation loss."
    )


class WatchSettings(_Section):
    """What is measured and kept while it trains."""

    eval_every: int = Field(100, ge=1, description="Updates between two evaluations on the validation rows.")
    save_every: int = Field(100, ge=1, description="Updates between two checkpoints; last two and best are kept.")
    samples: list[str] = Field(default_factory=list, max_length=8, description="Prompts answered at each evaluation.")
    answer_tokens: int = Field(128, ge=1, le=32768, description="Longest answer to samples and test rows.")
    stop_if: StopSettings = Field(default_factory=StopSettings, description="When to stop early.")


class ExportSettings(_Section):
    """What is made of the result."""

    gguf: list[Gguf] = Field(
        default_factory=list,
        max_length=8,
        description="GGUF files written and proven after training, such as [Q8_0, Q4_K_M].",
    )
    to: list[Literal["ollama", "lm-studio"]] = Field(
        default_factory=list, max_length=2, description="Programs of this machine that get the first of these files."
    )


class Recipe(_Section):
    """One fine-tune, from data to a file to chat with."""

    version: Literal[1] = Field(1, description="Version of the recipe format.")
    name: Name | None = Field(None, description="Name of the run; default: the recipe's file name.")
    model: FileName = Field(description="Hub id, with @REVISION to pin, or a folder relative to the recipe.")
    backend: Literal["auto", "torch", "mlx"] = Field(
        "auto", description="What computes; auto = what works here: mlx before torch on Apple silicon, else after it."
    )
    data: DataSettings = Field(description="Which rows, and how they become tokens.")
    train: TrainSettings = Field(default_factory=TrainSettings, description="How it trains.")
    lora: LoraSettings = Field(default_factory=LoraSettings, description="The adapter.")
    watch: WatchSettings = Field(default_factory=WatchSettings, description="What is measured while it trains.")
    export: ExportSettings = Field(default_factory=ExportSettings, description="What is made of the result.")
