"""The README.md of an adapter, a fused model or GGUF files, and what a base's README states of licence and languages.

The YAML head is the hub's ("Model Cards", metadata specification). Nothing of the data is in it: only figures that the
caller passes. A base that is a folder here has no name on the hub, so the head names none; its folder's name stands in
the text.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from localtune.errors import InputError, safe
from localtune.recipe.yaml import LIMIT, read, write_value
from localtune.titles import cached

CARD = "README.md"
_STATED = {"license": 8, "license_name": 8, "license_link": 8, "language": 200, "tags": 100}
"""Key of the hub's metadata -> how many texts a list of it holds at most."""
_HEAD = re.compile(rb"\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)


def stated(folder: Path) -> dict[str, str | list[str]]:
    """What the head of the README in `folder` states under the keys of `_STATED`; empty without one.

    A head that cannot be understood states nothing, and neither does a value that is no text and no list of texts.
    """
    try:
        with (folder / CARD).open("rb") as file:
            match = _HEAD.match(file.read(LIMIT).removeprefix(b"\xef\xbb\xbf"))
        head = read(match[1], CARD).value if match else None
    except (OSError, InputError):
        return {}
    found = head if isinstance(head, dict) else {}
    return {key: found[key] for key, most in _STATED.items() if _is_text(found.get(key), most)}


def stated_licence(folder: Path) -> dict[str, str | list[str]]:
    """`license`, `license_name` and `license_link` alone, as `stated` finds them."""
    return {key: value for key, value in stated(folder).items() if key.startswith("license")}


Kind = Literal["adapter", "fused", "gguf"]
"""What a folder holds: a PEFT adapter, a complete model, or GGUF files."""
_LIBRARIES: dict[Kind, tuple[str, str]] = {
    "adapter": ("peft", "adapter"),
    "fused": ("transformers", "finetune"),
    "gguf": ("gguf", "quantized"),
}
"""library_name and base_model_relation."""
NOTHING: Mapping[str, object] = {}


def model_card(
    *,
    name: str,
    base: str,
    revision: str | None,
    method: str,
    licence: Mapping[str, str | list[str]],
    recipe: Mapping[str, object],
    measured: Mapping[str, object],
    versions: Mapping[str, str],
    kind: Kind = "fused",
    data: Mapping[str, object] = NOTHING,
    datasets: Sequence[str] = (),
    proof: Mapping[str, object] = NOTHING,
    files: Mapping[str, object] = NOTHING,
    tags: Sequence[str] = ("lora", "sft", "localtune"),
) -> str:
    """The card of the model `name`: what `kind` says, trained by `method` ("LoRA", "QLoRA", …).

    `base` is a hub id with the `revision` (commit) it was trained on, or a folder, which has none. `licence` is what
    `stated_licence` found, `datasets` ids of the hub. `data` (counts), `recipe`, `measured`, `proof`, `files` and
    `versions` become tables as they are: plain values, no rows of the data.
    """
    hub_id, shown = base.partition("@")[0], _shown(base, revision)
    library, relation = _LIBRARIES[kind]
    head: dict[str, object] = {"base_model": hub_id, "base_model_relation": relation} if revision else {}
    head |= {"library_name": library, "pipeline_tag": "text-generation", **licence}
    head |= {"datasets": list(datasets)} if datasets else {}
    head["tags"] = list(tags)
    parts = [
        "---\n" + "".join(f"{key}: {write_value(value)}\n" for key, value in head.items()) + "---",
        f"# {_plain(name)}",
        f"{shown}, fine-tuned by {_plain(method)} with localtune. {_WHAT[kind]}",
        _table("Data", "part", data),
        _table("Training", "setting", recipe),
        _table("Measured", "figure", measured),
        _table("Compared with what was trained", "check", proof),
        _table("Files", "file", files),
        _table("Made with", "package", versions),
        _LOADING[kind],
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_WHAT: dict[Kind, str] = {
    "adapter": "This folder is the adapter alone, in PEFT's layout: it needs that base, whose tokenizer and chat "
    "template it uses.",
    "fused": "This folder is a complete model that needs no adapter: what was learned is in the weights themselves. "
    "Its tokenizer and chat template are those of the base.",
    "gguf": "Each GGUF file is a complete model for llama.cpp, Ollama or LM Studio, with the base's tokenizer and chat "
    "template inside.",
}

_LOADING: dict[Kind, str] = {
    "adapter": """## Loading

In this folder, with peft:

```python
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained(".", dtype="auto")
```""",
    "fused": """## Loading

In this folder, with transformers:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained(".")
```

On Apple silicon: `mlx_lm.chat --model .`""",
    "gguf": """## Loading

With a FILE of this folder: `llama-cli -m FILE` chats, `llama-server -m FILE --jinja` serves it. With Ollama, where a
Modelfile is there: `ollama create NAME -f Modelfile`.""",
}


def _shown(base: str, revision: str | None) -> str:
    if revision is None:
        return f"A model made from the folder {_plain(cached(base) or Path(base).name)}"
    hub_id = base.partition("@")[0]
    return f"[{hub_id}](https://huggingface.co/{hub_id}) (revision {_plain(revision)})"


def _table(title: str, first: str, values: Mapping[str, object]) -> str:
    if not values:
        return ""
    rows = [f"| {_plain(key)} | {_plain(value)} |" for key, value in values.items()]
    return "\n".join([f"## {title}", "", f"| {first} | value |", "|---|---|", *rows])


_MARKDOWN = re.compile(r"([\\`*\[\]<>|#]|(?<!\w)_|_(?!\w))")


def _plain(value: object) -> str:
    """One line of Markdown that shows `value` as it is."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return _MARKDOWN.sub(r"\\\1", " ".join(safe(text, limit=300).split()))


def _is_text(value: Any, most: int) -> bool:
    texts = value if isinstance(value, list) else [value]
    return bool(texts) and len(texts) <= most and all(isinstance(text, str) and 0 < len(text) <= 300 for text in texts)
