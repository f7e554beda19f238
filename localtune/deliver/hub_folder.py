"""What of a product's folder goes to others: an adapter, a fused model or GGUF files, chosen by name, looked through.

Only names that belong to such a folder are taken: never rows, logs, recipes or records of a run. A path of this machine
as the base's name in a configuration becomes its last part. Every other mention of the home folder, and whatever looks
like a token or a private key, stops it all: searched is every byte but the weights themselves.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from localtune.adapter import CONFIG_FILE, WEIGHTS_FILE
from localtune.deliver.ollama import MODELFILE
from localtune.errors import InputError, Problem
from localtune.export.read import read_gguf
from localtune.fuse import COMPANIONS
from localtune.model.json_object import read_object
from localtune.model.links import refuse_links_out
from localtune.model.tensors import INDEX, INDEX_LIMIT
from localtune.modelcard import CARD, Kind
from localtune.titles import cached

_LICENCES = ("license*", "licence*", "notice*", "use_policy*")
_CHOSEN: dict[Kind, tuple[str, ...]] = {
    "adapter": (CONFIG_FILE, WEIGHTS_FILE, CARD.lower(), *_LICENCES),
    "fused": (*COMPANIONS, "*.safetensors", INDEX, CARD.lower()),
    "gguf": ("*.gguf", "modelfile", CARD.lower(), *_LICENCES),
}
_NOT_CHOSEN = ("*.failed.gguf", "*.partial", WEIGHTS_FILE)
"""What failed its proof, what is half written, and an adapter beside a model's weights."""
_NAMES_OF_BASES = {CONFIG_FILE: "base_model_name_or_path", "config.json": "_name_or_path"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_TOKENS = re.compile(
    rb"hf_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,}|"
    rb"\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[A-Za-z0-9-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_BLOCK, _OVERLAP = 4 << 20, 4096
"""Bytes that are looked through at once, and those that the next block begins with again."""


@dataclass(frozen=True)
class Sent:
    """A file that goes to others."""

    name: str
    """Its path there."""
    content: Path | bytes
    """The file here, or what is sent in its place."""

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def kind_of(folder: Path) -> Kind:
    """What `folder` holds. Raises `InputError` where it is none of the three."""
    if (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file():
        return "adapter"
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        return "fused"
    if any(folder.glob("*.gguf")):
        return "gguf"
    what = "holds no adapter, no model and no GGUF file"
    raise InputError(Problem("push.folder", what, str(folder), fix="name a run, or a folder that fuse or export wrote"))


def chosen(
    folder: Path,
    kind: Kind,
    *,
    card: str | None = None,
    only: Collection[str] | None = None,
    secrets: Sequence[str] = (),
) -> tuple[Sent, ...]:
    """The files of `folder` that go to others as a `kind`, with `card` as their README.md, in the order of their names.

    Of GGUF files those in `only`, and a Modelfile where it is of one of them. `secrets` are texts that must be in none
    of them. Raises `InputError` (push.incomplete, push.private, model.link).
    """
    files = {path.relative_to(folder).as_posix(): path for path in _files(folder, kind)}
    refuse_links_out(folder, files.values())
    if only is not None:
        files = {name: path for name, path in files.items() if not _is_of_others(path, only)}
    found = {name: Sent(name, _without_path(path)) for name, path in files.items()}
    if card is not None:
        found[CARD] = Sent(CARD, card.encode())
    _refuse_incomplete(folder, kind, set(found))
    problems = [problem for sent in found.values() for problem in _private(sent, secrets)]
    if problems:
        raise InputError(*problems)
    return tuple(found[name] for name in sorted(found))


def _files(folder: Path, kind: Kind) -> Iterator[Path]:
    for path in sorted((*folder.glob("*"), *folder.glob("additional_chat_templates/*"))):
        name = path.relative_to(folder).as_posix().lower()
        left = any(fnmatchcase(name, pattern) for pattern in _NOT_CHOSEN if pattern not in _CHOSEN[kind])
        if path.is_file() and not left and any(fnmatchcase(name, pattern) for pattern in _CHOSEN[kind]):
            yield path


_FROM = re.compile(r"^FROM \./(.+\.gguf)$", re.MULTILINE | re.IGNORECASE)


def _is_of_others(path: Path, only: Collection[str]) -> bool:
    """Whether `path` is a GGUF file, or the Modelfile of one, that is not among `only`."""
    name: str | None = path.name
    if path.name == MODELFILE:
        found = _FROM.search(path.read_text(encoding="utf-8", errors="replace"))
        name = found[1] if found else None
    return name is not None and name.lower().endswith(".gguf") and name not in only


def _without_path(path: Path) -> Path | bytes:
    """The file itself, or a configuration whose base is named by the last part of its path, or what the cache holds."""
    key = _NAMES_OF_BASES.get(path.name)
    if key is None:
        return path
    config = read_object(path)
    base = config.get(key)
    if not isinstance(base, str) or not base or _HUB_ID.fullmatch(base.partition("@")[0]):
        return path
    name = cached(base) or PurePath(base.replace("\\", "/")).name
    return f"{json.dumps(config | {key: name}, indent=2, ensure_ascii=False)}\n".encode()


def _refuse_incomplete(folder: Path, kind: Kind, names: set[str]) -> None:
    lacking = {
        "adapter": {CONFIG_FILE, WEIGHTS_FILE} - names,
        "fused": {"config.json", *_shards(folder)} - names,
        "gguf": set() if any(name.lower().endswith(".gguf") for name in names) else {"*.gguf"},
    }[kind]
    if lacking:
        what = f"is no complete {kind}: {', '.join(sorted(lacking))} is missing"
        raise InputError(Problem("push.incomplete", what, str(folder), fix="fuse or export again, then push"))


def _shards(folder: Path) -> set[str]:
    """Names of the files of weights that a model consists of."""
    if not (folder / INDEX).is_file():
        return {"model.safetensors"}
    places = read_object(folder / INDEX, INDEX_LIMIT).get("weight_map")
    return {str(name) for name in places.values()} if isinstance(places, dict) else {INDEX}


def _private(sent: Sent, secrets: Sequence[str]) -> Iterator[Problem]:
    """What in a file is nobody else's business; it is not shown."""
    looked_for = [(_TOKENS, "looks like a token or a private key"), (_home(), "names your home folder")]
    looked_for += [
        (re.compile(re.escape(secret.encode())), "is your token for the hub") for secret in secrets if secret
    ]
    found = {what for block in _text_of(sent) for pattern, what in looked_for if pattern.search(block)}
    for what in sorted(found):
        said = f"a text in it {what}; nothing was sent"
        yield Problem("push.private", said, sent.name, fix="remove it, then push again")


def _home() -> re.Pattern[bytes]:
    """The home folder and what follows, also as JSON writes it; alone, like "/root", it may be a tokenizer's word."""
    home = Path.home()
    separator = rb"(?:/|\\{1,2})"
    parts = [re.escape(part.strip("/\\").encode()) for part in home.parts]
    return re.compile(separator.join(parts) + separator + rb"[\w.~-]" if len(parts) > 1 else rb"(?!)", re.IGNORECASE)


def _text_of(sent: Sent) -> Iterator[bytes]:
    """What is in a file but for weights, in blocks that overlap."""
    if isinstance(sent.content, bytes):
        yield sent.content
        return
    left = _length_of_text(sent.content)
    with sent.content.open("rb") as file:
        before = b""
        while left > 0 and (block := file.read(min(_BLOCK, left))):
            left -= len(block)
            yield before + block
            before = block[-_OVERLAP:]


def _length_of_text(path: Path) -> int:
    """Bytes before the weights: of safetensors the header, of GGUF everything before the first tensor's data."""
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            return 8 + int.from_bytes(file.read(8), "little")
    if path.suffix.lower() == ".gguf":
        return min(tensor.offset for tensor in read_gguf(path).tensors)
    return path.stat().st_size
