"""What a file calls itself: its name by the GGUF convention, and the `general.*` and `localtune.*` keys.

Names are read from a model's name as gguf reads them (gguf.Metadata): a model that was trained here takes base name and
size from its base, a model as it is keeps its own fine-tune and version too. A size label that the name lacks is the
number of parameters. Licence, languages and tags are what the model's README.md states. No path goes into a file: of a
folder the last part counts, or that before it where the last says nothing; of a data file its name. llama.cpp treats
blanks in another way in a model whose general.name contains "phi3", "phi-3" or "modern-bert", whatever it is: such a
name is written apart.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

import gguf

from localtune import __version__
from localtune.errors import InputError
from localtune.model import ModelFiles
from localtune.model.config import GENERATION
from localtune.model.json_object import read_object
from localtune.modelcard import stated
from localtune.titles import cached

VERSION = "v1.0"
"""Of a model whose name states none, as the naming convention has it."""
_STEERING = re.compile(r"(phi)-?(3)|(modern)-(bert)", re.IGNORECASE)
_UNTELLING = ("model", "base", "fused", "hf")
"""Names of folders that tell less than that of the folder they are in."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_PORTS = (f"{port}{number}" for port in ("COM", "LPT") for number in range(10))
_RESERVED = frozenset({"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", *_PORTS})
"""What Windows takes for a device, whatever follows a dot."""


Kind = Literal["", "LoRA"]
"""What a file is, as the naming convention's last part: "" for a model."""


@dataclass(frozen=True)
class DataSet:
    """What a model was trained on, as far as others may know: no row, no path."""

    name: str
    """Of a data set of the hub owner/name, of a file its name; folders before it are left out."""
    rows: int | None = None
    """Rows in use; None where they were not counted."""
    hub: bool = False
    """It is a data set of the hub."""
    revision: str = ""
    """Commit on the hub."""

    @property
    def title(self) -> str:
        """What may be shown: the hub's id, or the last part of a path."""
        return self.name if self.hub else PurePath(self.name.replace("\\", "/")).name[:200]

    def metadata(self, number: int) -> dict[str, Any]:
        """Keys general.dataset.`number`.*, empty where something is not known."""
        organization, _, name = self.title.rpartition("/")
        keys = {
            "name": name,
            "organization": organization,
            "version": self.revision,
            "description": "" if self.rows is None else f"{self.rows} rows",
            "repo_url": f"https://huggingface.co/datasets/{self.name}" if self.hub else "",
        }
        return {f"general.dataset.{number}.{key}": value for key, value in keys.items()}


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
    """Hub id, or last part of the folder, of the model it was trained from; "" for a model as it is."""
    revision: str = ""
    """Commit of the base on the hub; "" for a folder."""
    license: str = ""
    """As the hub names it, such as "apache-2.0" or "other"."""
    license_name: str = ""
    license_link: str = ""
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    sampling: Mapping[str, int | float] = field(default_factory=dict)
    """top_k, top_p, min_p, temp, penalty_repeat, where the model states them."""
    lineage: Mapping[str, str] = field(default_factory=dict)
    """Written as localtune.<key>."""
    source: str = ""
    """Hub id of a model as it is; "" for one that was trained here or lies in a folder."""
    datasets: tuple[DataSet, ...] = ()
    """What it was trained on."""

    @property
    def name(self) -> str:
        """What programs show."""
        version = "" if self.version == VERSION else self.version
        words = f"{self.basename} {self.size_label} {self.finetune} {version}".replace("-", " ").split()
        return harmless(" ".join(words))

    def metadata(self, *, quantized: bool = False) -> dict[str, Any]:
        """Keys of the file; those that are not known are left out. `quantized`: its weights are, by this program."""
        keys: dict[str, Any] = {
            "general.name": self.name,
            "general.basename": self.basename,
            "general.finetune": self.finetune,
            "general.size_label": self.size_label,
            "general.version": self.version,
            "general.license": self.license,
            "general.license.name": self.license_name,
            "general.license.link": self.license_link,
            "general.tags": list(self.tags),
            "general.languages": list(self.languages),
            "general.quantized_by": f"localtune {__version__}" if quantized else "",
            **self._base_model(),
            **self._source(),
            **self._datasets(),
            **{f"general.sampling.{key}": value for key, value in self.sampling.items()},
            **{f"localtune.{key}": value for key, value in self.lineage.items()},
        }
        return {key: _text(value) for key, value in keys.items() if value not in ("", [])}

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

    def _source(self) -> dict[str, Any]:
        if not self.source:
            return {}
        organization = self.source.rpartition("/")[0]
        return {
            "general.organization": organization,
            "general.source.repo_url": f"https://huggingface.co/{self.source}",
        }

    def _datasets(self) -> dict[str, Any]:
        """Each data set by number, and the ids of those on the hub as general.datasets, which older readers know."""
        keys: dict[str, Any] = {"general.dataset.count": len(self.datasets)} if self.datasets else {}
        for number, data in enumerate(self.datasets):
            keys |= data.metadata(number)
        return keys | {"general.datasets": list(dict.fromkeys(data.name for data in self.datasets if data.hub))}


def identify(
    model: ModelFiles,
    *,
    finetune: str,
    version: str = VERSION,
    base: str | None,
    revision: str | None,
    lineage: Mapping[str, str],
    datasets: Sequence[DataSet] = (),
) -> Identity:
    """Who `model` is, trained as `finetune` on `datasets` from `base`: a hub id with its `revision`, or a folder.

    With `base` None it is `model` as it is, and its own name says what it was tuned for and its version, where
    `finetune` is "".
    """
    origin = _origin(model.name if base is None else base, model.folder)
    last = origin.rpartition("/")[2][:200]
    full, _, basename, own, own_version, size = gguf.Metadata.get_model_id_components(last, model.parameters)
    if base is None:
        finetune, version = finetune or own or "", own_version or version
    basename = (basename or full or last)[:80]
    card = {key: [value] if isinstance(value, str) else value for key, value in stated(model.folder).items()}
    return Identity(
        basename=basename,
        size_label=size or gguf.size_label(model.parameters, 0, 0, 0),
        finetune="" if finetune.lower() == basename.lower() else finetune,
        version=version,
        base="" if base is None else origin,
        revision=revision or "",
        license=", ".join(card.get("license", ())),
        license_name=", ".join(card.get("license_name", ())),
        license_link=", ".join(card.get("license_link", ())),
        languages=tuple(card.get("language", ())),
        tags=tuple(card.get("tags", ())),
        sampling=_sampling(model.folder / GENERATION),
        lineage=dict(lineage),
        source=origin if base is None and _HUB_ID.fullmatch(origin) else "",
        datasets=tuple(datasets),
    )


def file_name(identity: Identity, encoding: str, kind: Kind = "") -> str:
    """BaseName-SizeLabel-FineTune-Version-Encoding[-LoRA].gguf, at most 200 bytes in UTF-8, safe on every file system.

    Letters and digits of any script stay, and `.` and `_`; everything else becomes `-`.
    """
    parts = ((identity.basename, 70), (identity.finetune, 70), (identity.version, 20), (identity.size_label, 20))
    basename, finetune, version, size = (_plain(part, most) or None for part, most in parts)
    name = gguf.naming_convention(None, basename or "model", finetune, version, size, encoding, kind or None) + ".gguf"
    device = unicodedata.normalize("NFKC", name.partition(".")[0]).upper() in _RESERVED
    return f"model-{name}" if device else name


def harmless(name: str) -> str:
    """`name` without what steers llama.cpp's tokenizer."""
    return _STEERING.sub(lambda found: " ".join(part for part in found.groups() if part), name)


def _plain(text: str, most: int) -> str:
    """`text` as part of a file name, at most `most` bytes; accents are composed and marks of a script stay."""
    letters = unicodedata.normalize("NFC", text)
    kept = "".join(c if c.isalnum() or c in "._" or unicodedata.category(c)[0] == "M" else "-" for c in letters)
    joined = re.sub("-+", "-", kept).strip("-.")
    return joined.encode()[:most].decode("utf-8", "ignore").strip("-.")


def _origin(name: str, folder: Path) -> str:
    """The hub id `name` without its revision, or what the hub's cache holds in a folder, or its last telling part.

    A name of the form org/model is a hub id unless that is where `folder` lies.
    """
    hub_id = name.partition("@")[0]
    if _HUB_ID.fullmatch(hub_id) and folder.parts[-2:] != PurePath(name).parts:
        return hub_id
    path = PurePath(name.replace("\\", "/"))
    if path.name in ("", ".."):
        path = folder.resolve()
    if held := cached(str(path)):
        return held
    parts = path.parts[-2:]
    tells_less = parts[-1].lower() in _UNTELLING and not parts[0].endswith(("/", "\\", ":", ".."))
    return parts[0] if tells_less else parts[-1]


def _text(value: Any) -> Any:
    """`value` with half characters, which a folder's name can hold, as question marks."""
    if isinstance(value, list):
        return [_text(one) for one in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


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
