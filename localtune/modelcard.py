"""The README.md of a fused model, and what a base's README states of its licence, languages and tags.

The YAML head is the hub's ("Model Cards", metadata specification). Nothing of the data is in it: only figures that the
caller passes. A base that is a folder here has no name on the hub, so the head names none; its folder's name stands in
the text.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localtune.errors import InputError, safe
from localtune.recipe.yaml import LIMIT, read, write_value

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
) -> str:
    """The card of the model `name`, fused from an adapter trained by `method` ("LoRA", "QLoRA", …).

    `base` is a hub id with the `revision` (commit) it was trained on, or a folder, which has none. `licence` is what
    `stated_licence` found. `recipe`, `measured` and `versions` become tables as they are: plain values, no rows.
    """
    hub_id, shown = base.partition("@")[0], _shown(base, revision)
    head: dict[str, object] = {"base_model": hub_id, "base_model_relation": "finetune"} if revision else {}
    head |= {"library_name": "transformers", "pipeline_tag": "text-generation", **licence}
    head["tags"] = ["lora", "sft", "localtune"]
    parts = [
        "---\n" + "".join(f"{key}: {write_value(value)}\n" for key, value in head.items()) + "---",
        f"# {_plain(name)}",
        f"{shown}, fine-tuned by {_plain(method)} with localtune. The adapter is fused into the base's own weights: "
        "this folder is a complete model, and its tokenizer and chat template are those of the base.",
        _table("Training", "setting", recipe),
        _table("Measured", "figure", measured),
        _table("Made with", "package", versions),
        _LOADING,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_LOADING = """## Loading

In this folder, with transformers:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained(".")
```

On Apple silicon: `mlx_lm.chat --model .`"""


def _shown(base: str, revision: str | None) -> str:
    if revision is None:
        return f"A model made from the folder {_plain(Path(base).name)}"
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
