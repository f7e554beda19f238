"""What an attack is: a folder that holds it, who opens it, and how that must end."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.faults.fuzz import seeds
from tests.unit.data.builders import CHATML

Opener = Literal["model", "adapter", "gguf", "data", "recipe", "template", "names", "encode", "merge"]


@dataclass(frozen=True)
class Case:
    """One attack."""

    opener: Opener
    code: str
    """Of the problem that it must end as; "" = it is harmless, and opens."""
    build: Callable[[Path, Path], None]
    """Writes it into a folder; run, it would write the second path."""
    words: str = ""
    """Part of what is said."""


Cases = dict[str, Case]

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 4,
    "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 16, "max_position_embeddings": 32,
    "tie_word_embeddings": True,
}  # fmt: skip
EMBEDDING = "model.embed_tokens.weight"
ENTRY = {"dtype": "F32", "shape": [16, 4], "data_offsets": [0, 256]}


def safetensors(header: Mapping[str, Any] | bytes, data: bytes = bytes(256)) -> bytes:
    """A file with that header, whatever it says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def pickled(canary: Path) -> bytes:
    """What `pickle.loads` would run, in protocol 0."""
    return f"cposix\nsystem\n(S'touch {canary}'\ntR.".encode()


def program(canary: Path) -> str:
    """What importing would run."""
    return f"open({str(canary)!r}, 'w').close()\n"


def base(folder: Path, **config: Any) -> None:
    """A sound model of one tensor; None leaves a key of `config.json` out."""
    folder.mkdir(parents=True, exist_ok=True)
    stated = {key: value for key, value in (CONFIG | config).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(stated))
    (folder / "model.safetensors").write_bytes(safetensors({EMBEDDING: ENTRY}))
    (folder / "tokenizer.json").write_bytes(seeds.tokenizer_states()[0])
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "chat_template": CHATML}))


def with_files(**files: str | bytes) -> Callable[[Path, Path], None]:
    """A sound model in which these files are others; "__" stands for a dot, CANARY for what would be written."""

    def build(folder: Path, canary: Path) -> None:
        base(folder)
        for name, content in files.items():
            raw = content.encode() if isinstance(content, str) else content
            (folder / name.replace("__", ".")).write_bytes(raw.replace(b"CANARY", str(canary).encode()))

    return build


def config(**changes: Any) -> Callable[[Path, Path], None]:
    """A sound model but for these keys of `config.json`, with code beside it."""

    def build(folder: Path, canary: Path) -> None:
        base(folder, **changes)
        for name in ("evil", "modeling_llama", "configuration_llama", "tokenization_llama"):
            (folder / f"{name}.py").write_text(program(canary))

    return build


def one_file(name: str, content: str | bytes) -> Callable[[Path, Path], None]:
    """A folder with one file; CANARY stands for what would be written."""

    def build(folder: Path, canary: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        (folder / name).write_bytes(raw.replace(b"CANARY", str(canary).encode()))

    return build
