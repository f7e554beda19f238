"""What a file calls itself: its name by the GGUF convention, and the `general.*` and `localtune.*` keys.

Names are read from the base model's name as gguf reads them (gguf.Metadata); a size label that the name lacks is the
number of parameters. Licence, languages and tags are what the head of the model's README.md states; a README that
cannot be understood states nothing. llama.cpp treats blanks in another way in a model whose general.name contains
"phi3", "phi-3" or "modern-bert", whatever it is: such a name is written apart.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import gguf

from localtune.errors import InputError
from localtune.model import ModelFiles
from localtune.model.config import GENERATION
from localtune.model.json_object import read_object

_HEAD = 64 << 10
_LISTED = 32
_STEERING = re.compile(r"(phi)-?(3)|(modern)-(bert)", re.IGNORECASE)
_UNTELLING = ("model", "base", "fused", "hf")
"""Names of folders that tell less than that of the folder they are in."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_WORD = re.compile(r"[\w .+-]{1,64}")


@dataclass(frozen=True)
class Identity:
    """Who a model is."""

    basename: str
    size_label: str
    """Such as "0.6B"."""
    finetune: str
    version: str
    """Such as "v1.0"."""
    base: str = ""
    """Hub id, or last part of the folder, of the model it was trained from."""
    revision: str = ""
    """Commit of the base on the hub; "" for a folder."""
    license: str = ""
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    sampling: Mapping[str, int | float] = field(default_factory=dict)
    """top_k, top_p, min_p, temp, penalty_repeat, where the model states them."""
    lineage: Mapping[str, str] = field(default_factory=dict)
    """Written as localtune.<key>."""

    @property
    def name(self) -> str:
        """What programs show."""
        words = f"{self.basename} {self.size_label} {self.finetune}".replace("-", " ").split()
        return harmless(" ".join(words))

    def metadata(self) -> dict[str, Any]:
        """Keys of the file; those that are not known are left out."""
        keys: dict[str, Any] = {
            "general.name": self.name,
            "general.basename": self.basename,
            "general.finetune": self.finetune,
            "general.size_label": self.size_label,
            "general.version": self.version,
            "general.license": self.license,
            "general.tags": list(self.tags),
            "general.languages": list(self.languages),
            **self._base_model(),
            **{f"general.sampling.{key}": value for key, value in self.sampling.items()},
            **{f"localtune.{key}": value for key, value in self.lineage.items()},
        }
        return {key: value for key, value in keys.items() if value not in ("", [])}

    def _base_model(self) -> dict[str, Any]:
        if not self.base:
            return {}
        organization, _, name = self.base.rpartition("/")
        keys: dict[str, Any] = {
            "general.base_model.count": 1,
            "general.base_model.0.name": name,
            "general.base_model.0.version": self.revision,
            "general.base_model.0.organization": organization,
        }
        if organization:
            keys["general.base_model.0.repo_url"] = f"https://huggingface.co/{self.base}"
        return keys


def identify(
    model: ModelFiles,
    *,
    finetune: str,
    version: str = "v1.0",
    base: str | None,
    revision: str | None,
    lineage: Mapping[str, str],
) -> Identity:
    """Who `model` is, trained as `finetune` from `base`: a hub id with its `revision`, or a folder; None = `model`."""
    origin = _origin(base if base is not None else model.name, revision, model.folder)
    last = origin.rpartition("/")[2]
    full, _, basename, _, _, size = gguf.Metadata.get_model_id_components(last, model.parameters)
    stated = _readme(model.folder / "README.md")
    basename = (basename or full or last)[:80]
    return Identity(
        basename=basename,
        size_label=size or gguf.size_label(model.parameters, 0, 0, 0),
        finetune="" if finetune.lower() == basename.lower() else finetune,
        version=version,
        base=origin,
        revision=revision or "",
        license=next(iter(stated.get("license", ())), ""),
        languages=stated.get("language", ()),
        tags=stated.get("tags", ()),
        sampling=_sampling(model.folder / GENERATION),
        lineage=dict(lineage),
    )


def file_name(identity: Identity, encoding: str) -> str:
    """BaseName-SizeLabel-FineTune-Version-Encoding.gguf, of letters, digits, and . _ - alone, at most 200 long."""
    parts = (identity.basename, identity.finetune[:80], identity.version[:20], identity.size_label[:20])
    basename, finetune, version, size = (_plain(part) or None for part in parts)
    return gguf.naming_convention(None, basename or "model", finetune, version, size, encoding) + ".gguf"


def harmless(name: str) -> str:
    """`name` without what steers llama.cpp's tokenizer."""
    return _STEERING.sub(lambda found: " ".join(part for part in found.groups() if part), name)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")


def _origin(name: str, revision: str | None, folder: Path) -> str:
    """A hub id, which has a revision, or the last part of a folder: no path of this machine goes into a file."""
    found = _HUB_ID.fullmatch(name.partition("@")[0])
    if found and revision:
        return found.group()
    parts = PurePath(name.replace("\\", "/")).parts[-2:] or folder.resolve().parts[-2:]
    return parts[0] if parts[-1].lower() in _UNTELLING else parts[-1]


def _readme(path: Path) -> dict[str, tuple[str, ...]]:
    """license, language and tags in the head of a model card; what is not plain words is left out."""
    try:
        with path.open("rb") as file:
            lines = file.read(_HEAD).decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    if not lines or lines[0].strip() != "---":
        return {}
    stated: dict[str, list[str]] = {}
    key = ""
    for line in lines[1:]:
        if line.strip() == "---":
            break
        found = re.match(r"([\w-]+):(.*)", line)
        key = found[1] if found else key
        values = found[2].strip().strip("[]").split(",") if found else [line.strip().removeprefix("- ")]
        words = [value.strip().strip("'\"") for value in values]
        stated.setdefault(key, []).extend(word for word in words if _WORD.fullmatch(word))
    return {key: tuple(stated[key][:_LISTED]) for key in ("license", "language", "tags") if stated.get(key)}


_SAMPLED = {
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
    "min_p": ("min_p", float),
    "temperature": ("temp", float),
    "repetition_penalty": ("penalty_repeat", float),
}


def _sampling(path: Path) -> dict[str, int | float]:
    try:
        stated = read_object(path) if path.is_file() else {}
    except InputError:
        return {}
    if stated.get("do_sample") is False:
        return {"temp": 0.0}
    found: dict[str, int | float] = {}
    for key, (name, kind) in _SAMPLED.items():
        value = stated.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6:
            found[name] = kind(value)
    return found
