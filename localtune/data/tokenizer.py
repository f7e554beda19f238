"""A model's tokenizer, read from `tokenizer.json` with the tokenizers library: the ids llama.cpp agrees with.

Padding and truncation are off. Four files count: `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`,
`chat_template.jinja` (which wins over the configuration's template); `fingerprint` is their hash. Offsets are in
characters and include blanks, whatever the file says about trimming them.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import tokenizers

from localtune.data.control import Control, looks_like_control
from localtune.errors import InputError, Problem, safe
from localtune.model.json_object import read_object, recoded

P = ParamSpec("P")
T = TypeVar("T")

FILES = ("chat_template.jinja", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")
LIMIT, VALUES = 64_000_000, 3_000_000
"""Bytes and values of a file; the largest honest one, of 262 thousand tokens and 515 thousand merges, has 33 MB and 2.2
million."""
TEMPLATE_LIMIT = 1_000_000
"""Bytes of a chat template."""
_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


class Tokenizer:
    """Text to ids and back. Every id list is plain integers."""

    def __init__(self, folder: Path) -> None:
        """Read the files in `folder`. Raises `InputError` for missing or broken ones."""
        self.folder = folder
        self._state = _read_state(folder)
        config = _read_json(folder / "tokenizer_config.json")
        self.names: dict[str, str] = _special_names(config, _read_json(folder / "special_tokens_map.json"))
        """bos_token, eos_token, … -> string, where there is one."""
        self.template = _template_text(folder, config)
        """Source of the chat template; None for a base model."""
        self._plain = _build(self._state, folder)
        self._variants: dict[tuple[bool, bool], tuple[tokenizers.Tokenizer, dict[int, int]]] = {}
        self._add_bos = bool(config.get("add_bos_token"))
        added = {str(token["content"]): bool(token["special"]) for token in self._state.get("added_tokens", [])}
        self.control = Control([s for s, special in added.items() if looks_like_control(s, special, self._source)])
        """Strings of the control tokens."""

    @property
    def state(self) -> dict[str, Any]:
        """The object of `tokenizer.json`, without padding and truncation. To be read, not changed."""
        return self._state

    @property
    def _source(self) -> str:
        return self.template or ""

    @cached_property
    def bos_id(self) -> int | None:
        """Begin of a text."""
        return self._plain.token_to_id(self.names["bos_token"]) if "bos_token" in self.names else None

    @cached_property
    def eos_id(self) -> int | None:
        """End of a text."""
        return self._plain.token_to_id(self.names["eos_token"]) if "eos_token" in self.names else None

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """Ids of the control tokens."""
        return frozenset(self.id_of(string) for string in self.control.strings)

    @cached_property
    def vocabulary(self) -> int:
        """Largest id + 1."""
        return max(self._plain.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def prefix(self) -> tuple[int, ...]:
        """Ids before a raw text: what the post-processor puts there, or BOS where only the configuration says so."""
        ids = _sound(self._plain.encode, "a").ids
        bare = _sound(self._plain.encode, "a", add_special_tokens=False).ids
        before = next((i for i in range(len(ids)) if ids[i : i + len(bare)] == bare), 0)
        if any(self._plain.id_to_token(number) is None for number in ids[:before]):
            what = f"puts the ids {ids[:before][:8]} before a text, and has no such tokens"
            raise InputError(Problem("tokenizer.broken", what, "tokenizer.json", fix="download the model again"))
        if before == 0 and self._add_bos and self.bos_id is not None:
            return (self.bos_id,)
        return tuple(ids[:before])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names and bytes of the four files, in hexadecimal."""
        total = hashlib.sha256()
        for name in FILES:
            if (self.folder / name).is_file():
                content = (self.folder / name).read_bytes()
                total.update(f"{name}\0{len(content)}\0".encode() + content)
        return total.hexdigest()

    def id_of(self, token: str) -> int:
        """Id of the token written `token`. Raises `KeyError`."""
        number = self._plain.token_to_id(token)
        if number is None:
            raise KeyError(token)
        return number

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Ids of `text`, with `special` after the prefix of a raw text, unless `text` begins with BOS itself."""
        ids: list[int] = _sound(self._plain.encode, text, add_special_tokens=False).ids
        return self.with_prefix(ids) if special else ids

    def with_prefix(self, ids: list[int]) -> list[int]:
        """`ids` of a raw text after its prefix; BOS is never doubled."""
        if self.prefix and ids[:1] == [self.prefix[0]]:
            return ids
        return [*self.prefix, *ids]

    def encode_texts(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        """Encodings of many texts without special tokens, on all cores."""
        return _sound(self._plain.encode_batch, list(texts), add_special_tokens=False)

    def encode_framed(self, text: str) -> tuple[list[int], tokenizers.Encoding]:
        """Ids and offsets of a text whose true control tokens are framed; everything else is plain text.

        Raises `ValueError` if a control id came out of plain text all the same.
        """
        return self._framed_ids(text, continuing=False)

    def encode_raw(self, texts: Sequence[str], *, continuing: bool) -> list[list[int]]:
        """Ids of raw texts in which control strings are plain text.

        With `continuing` the texts follow another text: no blank is put before them. Raises `ValueError` as above.
        """
        variant, _ = self._variant(framed=False, continuing=continuing)
        batch = _sound(variant.encode_batch_fast, list(texts), add_special_tokens=False)
        return [
            self._framed_ids(text, continuing)[0] if self.control.pattern.search(text) else encoding.ids
            for text, encoding in zip(texts, batch, strict=True)
        ]

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        """Text of `ids`."""
        return str(_sound(self._plain.decode, list(ids), skip_special_tokens=skip_special))

    def _framed_ids(self, text: str, continuing: bool) -> tuple[list[int], tokenizers.Encoding]:
        variant, real = self._variant(framed=True, continuing=continuing)
        encoding = _sound(variant.encode, text, add_special_tokens=False)
        ids = [real.get(i, i) for i in encoding.ids]
        if sum(i in self.control_ids for i in ids) != self.control.frames(text):
            raise ValueError("a control token came out of plain text")
        return ids, encoding

    def _variant(self, framed: bool, continuing: bool) -> tuple[tokenizers.Tokenizer, dict[int, int]]:
        """Another reading of the same file, made once, and its ids of added tokens -> the real ones."""
        if (framed, continuing) not in self._variants:
            self._variants[framed, continuing] = self._made(framed, continuing)
        return self._variants[framed, continuing]

    def _made(self, framed: bool, continuing: bool) -> tuple[tokenizers.Tokenizer, dict[int, int]]:
        state = json.loads(json.dumps(self._state))
        if continuing:
            state["normalizer"] = _without_prepend(state.get("normalizer"))
            state["pre_tokenizer"] = _without_prepend(state.get("pre_tokenizer"))
        if not framed:
            unchanged = all(state.get(k) == self._state.get(k) for k in ("normalizer", "pre_tokenizer"))
            return (self._plain if unchanged else _build(state, self.folder)), {}
        names = {string: self.control.framed(string) for string in self.control.strings}
        _hide(state["model"], names)
        for token in state["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        variant = _build(state, self.folder)
        added = [str(token["content"]) for token in self._state["added_tokens"]]
        pairs = ((variant.token_to_id(names.get(s, s)), self.id_of(s)) for s in added)
        return variant, {number: real for number, real in pairs if number is not None}


def _read_state(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer.json"
    if not path.is_file():
        if (folder / "tokenizer.model").is_file():
            what = "only tokenizer.model is there; tokenizer.json is what is read"
            fix = "take tokenizer.json from the model's hub page, or save it once with AutoTokenizer.save_pretrained"
        else:
            what, fix = "no tokenizer.json", "name a complete model folder or a hub id"
        raise InputError(Problem("tokenizer.missing", what, folder.name, fix=fix))
    state = _read_json(path)
    state["padding"] = state["truncation"] = None
    state["post_processor"] = _untrimmed(state.get("post_processor"))
    return state


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return read_object(path, LIMIT, VALUES)
    except InputError as error:
        raise recoded(error, "tokenizer.broken", "download the model again") from None


def _build(state: dict[str, Any], folder: Path) -> tokenizers.Tokenizer:
    try:
        return _sound(tokenizers.Tokenizer.from_str, json.dumps(state))
    except InputError as error:
        what = f"tokenizer.json cannot be read: {error.problems[0].what}"
        raise InputError(Problem("tokenizer.broken", what, folder.name, fix="download the model again")) from None


def _sound(call: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """What `call` of the library returns. Raises `InputError` for whatever it raises: it has no narrower errors, and
    none that is an `Exception` where its Rust code panics (a table of characters that is none, a pattern without end).
    """
    try:
        return call(*given, **named)
    except MemoryError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        what = safe(str(error), 200)
        raise InputError(Problem("tokenizer.broken", what, "tokenizer.json", fix="download the model again")) from None


def _special_names(*sources: dict[str, Any]) -> dict[str, str]:
    """Names of the first source win; a token is a string or an object with its content."""
    names: dict[str, str] = {}
    for name in _NAMES:
        for source in sources:
            value = source.get(name)
            value = value.get("content") if isinstance(value, dict) else value
            if isinstance(value, str) and name not in names:
                names[name] = value
    return names


def _template_text(folder: Path, config: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    value = _read_template(path) if path.is_file() else config.get("chat_template")
    if isinstance(value, list):
        named = [entry.get("template") for entry in value if isinstance(entry, dict) and entry.get("name") == "default"]
        value = named[-1] if named else None
    if not isinstance(value, str):
        return None
    if len(value) > TEMPLATE_LIMIT:
        what = f"the chat template is larger than {TEMPLATE_LIMIT:,} bytes"
        raise InputError(Problem("tokenizer.broken", what, folder.name, fix="use the model's original chat template"))
    return value


def _read_template(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(TEMPLATE_LIMIT + 1).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        raise InputError(Problem("tokenizer.broken", "is not UTF-8", path.name, fix="download it again")) from None


def _untrimmed(part: Any) -> Any:
    """A post-processor whose offsets keep their blanks."""
    if not isinstance(part, dict):
        return part
    processors = [_untrimmed(inner) for inner in part.get("processors", [])]
    return part | ({"trim_offsets": False} if "trim_offsets" in part else {}) | (
        {"processors": processors} if processors else {})  # fmt: skip


def _without_prepend(part: Any) -> Any:
    """A normalizer or pre-tokenizer that puts nothing before a text."""
    if not isinstance(part, dict) or part.get("type") == "Prepend":
        return None
    for key in ("normalizers", "pretokenizers"):
        if key in part:
            return part | {key: [inner for old in part[key] if (inner := _without_prepend(old)) is not None]}
    if part.get("type") == "Metaspace":
        return {k: v for k, v in part.items() if k != "add_prefix_space"} | {"prepend_scheme": "never"}
    return part | {"add_prefix_space": False} if "add_prefix_space" in part else part


def _hide(model: dict[str, Any], names: dict[str, str]) -> None:
    """Rename control pieces in the vocabulary of models that could find them in plain text."""
    vocabulary = model["vocab"]
    if model.get("type") == "Unigram" or isinstance(vocabulary, list):
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    elif model.get("type") in ("WordLevel", "WordPiece") or model.get("ignore_merges"):
        kept = {model.get("unk_token"), *(_merged(model.get("merges", [])))}
        model["vocab"] = {p if p in kept else names.get(p, p): i for p, i in cast(dict[str, int], vocabulary).items()}


def _merged(merges: list[Any]) -> list[str]:
    return ["".join(pair.split(" ") if isinstance(pair, str) else pair) for pair in merges]
