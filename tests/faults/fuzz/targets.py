"""Every parser of our own, with valid seeds and what it may raise: whatever the bytes, nothing else comes of them.

`parse` takes the bytes of a file. Those that are read from a folder are written to one in memory where there is one.
Readers of others (Parquet, safetensors' own, tokenizers' Rust) are not ours; what wraps them is.
"""

import contextlib
import datetime
import io
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from localtune import events
from localtune.adapter import base_of, read_peft_config
from localtune.chat import pipe
from localtune.data.bounds import ENFORCED, _Memory
from localtune.data.reading import document, json_list, jsonl, strict, table
from localtune.data.reading.encoding import encoding_of
from localtune.data.reading.file import File, Kind
from localtune.data.rows import BadRows, Row
from localtune.data.shapes import examples
from localtune.data.shapes.values import Unusable, json_value
from localtune.data.template import ChatTemplate, Refused
from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError, LocaltuneError
from localtune.export import vocabulary
from localtune.export.read import parse_gguf
from localtune.model import bitsandbytes_layout
from localtune.model.config import model_config, stop_ids
from localtune.model.json_object import parse_object
from localtune.model.own_code import refuse_own_code
from localtune.model.tensors import TensorInfo, parse_header, shards_of
from localtune.recipe import load, safe_name, yaml
from localtune.recipe.layers import from_flag
from localtune.runs.files import MANIFEST, altered, is_complete
from localtune.runs.folder import Run
from localtune.settings import DataSettings, is_hub_data
from tests.faults.fuzz import seeds

_MEMORY = "/dev/shm"
TEMPORARY = tempfile.TemporaryDirectory(prefix="localtune-fuzz-", dir=_MEMORY if os.path.isdir(_MEMORY) else None)
FOLDER = Path(TEMPORARY.name)
SETTINGS = DataSettings(train="x")
TENSORS = (
    TensorInfo("model.embed_tokens.weight", (512, 64), "BF16", 65536, "model.safetensors"),
    TensorInfo("lm_head.weight", (512, 64), "BF16", 65536, "model.safetensors"),
)


@dataclass(frozen=True)
class Target:
    """One parser."""

    name: str
    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    allowed: tuple[type[Exception], ...] = (InputError,)
    """What it says that it raises."""

    def run(self, data: bytes) -> bool:
        """Whether `data` is read; False where it is refused. Raises what it may not raise."""
        try:
            self.parse(data)
        except self.allowed as error:
            _check_words(error)
            return False
        return True


def _check_words(error: Exception) -> None:
    for problem in error.problems if isinstance(error, LocaltuneError) else ():
        assert problem.code
        assert problem.what
        assert "Traceback" not in str(problem)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass" if b"\xed" in data else "replace")


def _lenient(data: bytes) -> str:
    try:
        return _text(data)
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _file(kind: Kind, **given: Any) -> File:
    return File(Path(f"x.{kind}"), f"x.{kind}", kind, False, 0, 0, **given)


def _used(rows: Iterator[Row], bad: BadRows) -> int:
    _, found = examples(rows, SETTINGS, bad)
    return sum(1 for _ in found) + bad.count


def _jsonl(data: bytes) -> int:
    bad = BadRows("skip")
    return _used(jsonl.rows_of(io.BytesIO(data), _file("jsonl"), 0, bad), bad)


def _json_list(data: bytes) -> int:
    bad = BadRows("skip")
    return _used(json_list.rows_of(io.BytesIO(data), _file("json"), 0, bad), bad)


def _table(data: bytes) -> int:
    bad, begin = BadRows("skip"), data.partition(b"\n")[0]
    mark = max(",;\t|", key=lambda mark: begin.count(mark.encode()))
    return _used(table.rows_of(io.BytesIO(data), _file("csv", delimiter=mark), 0, bad), bad)


def _document(data: bytes) -> list[Row]:
    separator = (None, "---", "\n\n")[len(data) % 3]
    return list(document.rows_of(io.BytesIO(data), _file("txt"), 0, BadRows("skip"), separator))


def _recipe(data: bytes) -> None:
    path = FOLDER / "recipe.yaml"
    path.write_bytes(data)
    loaded = load(path, environ={})
    assert yaml.read(yaml.write_value(loaded.recipe.model_dump()).encode(), "x").value


def _names(data: bytes) -> None:
    text = _lenient(data)
    name = safe_name(text)
    assert 0 < len(name) <= 64
    assert all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name)
    assert is_hub_data(text) in (True, False)
    layer = from_flag(text)
    assert layer.given or layer.problems or "=" in text


def _header(data: bytes) -> None:
    """The bytes are the JSON of the header; the file has the 24 bytes of data that the seeds have."""
    whole = len(data).to_bytes(8, "little") + data
    found = parse_header(io.BytesIO(whole), len(whole) + 24, "model.safetensors")
    assert sum(tensor.size for tensor in found) == 24


def _config(data: bytes) -> None:
    config = parse_object(data, "config.json")
    refuse_own_code(config, "config.json")
    found = model_config(config, TENSORS)
    assert found.layers <= 1000
    assert all(0 <= one < 2**31 for one in stop_ids(FOLDER, config))


class _OneTensor:
    """Just enough of `Weights` for the object beside 4-bit codes."""

    def __init__(self, data: bytes) -> None:
        self.size, self._data = len(data), data

    def __getitem__(self, name: str) -> "_OneTensor":
        return self

    def raw(self, name: str) -> bytes:
        return self._data


def _quant_state(data: bytes) -> None:
    bitsandbytes_layout._state(_OneTensor(data), "x")  # type: ignore[arg-type]


def _peft(data: bytes) -> None:
    (FOLDER / "adapter_config.json").write_bytes(data)
    assert read_peft_config(FOLDER).rank >= 1
    base_of(FOLDER)


def _status(data: bytes) -> None:
    run = Run(FOLDER)
    run.status_file.write_bytes(data)
    run.status()


def _manifest(data: bytes) -> None:
    (FOLDER / MANIFEST).write_bytes(data)
    for verify in (False, True):
        is_complete(FOLDER, verify=verify)
    altered(FOLDER)


def _tokenizer_from(name: str) -> Callable[[bytes], None]:
    """A folder in which all files but `name` are sound."""

    def parse(data: bytes) -> None:
        folder = FOLDER / name
        if not folder.is_dir():
            folder.mkdir()
            (folder / "tokenizer.json").write_bytes(_STATES[0])
            (folder / "tokenizer_config.json").write_bytes(seeds.dumped(seeds.TOKENIZER_CONFIG))
        (folder / name).write_bytes(data)
        tokenizer = Tokenizer(folder)
        assert tokenizer.vocabulary > max(tokenizer.prefix, default=-1)
        ids = tokenizer.encode("a <s> b é", special=True)
        tokenizer.decode(ids, skip_special=True)
        if tokenizer.control.strings and all(letter.isprintable() for letter in tokenizer.control.strings[0]):
            with contextlib.suppress(ValueError):  # a control token came out of plain text
                tokenizer.encode_framed(tokenizer.control.frame("a" + tokenizer.control.strings[0]))
        pieces = vocabulary._pieces(tokenizer.state, chat=len(data) % 2 == 0)
        pieces.differs(["a", " b"])

    return parse


class _Late(Exception):
    """A template has had its time: where it is used, its process would be ended."""


@contextlib.contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Time of the processor and memory as of a row in the process that renders."""

    def late(number: int, frame: FrameType | None) -> None:
        raise _Late

    before, memory = signal.signal(signal.SIGVTALRM, late), _Memory() if ENFORCED else None
    if memory:
        memory.limit()
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        try:  # the signal comes once, and may come here
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        finally:
            signal.signal(signal.SIGVTALRM, before)
            if memory:
                memory.restore()


def _template(data: bytes) -> None:
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    with _bounded(0.1):
        template = ChatTemplate(_lenient(data), names, datetime.date(2026, 1, 1))
        template.render(seeds.TURNS, prompt=True, tools=None)


def _event(data: bytes) -> None:
    event = events.from_json(data.decode("utf-8"))
    if not isinstance(event, events.Unknown):
        assert type(events.from_json(events.to_json(event, when=0.0, ascii_only=True))) is type(event)


def _strict(data: bytes) -> None:
    value = strict.parse(data.decode("utf-8", "replace"))
    if not isinstance(value, strict.Fault):
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


_STATES = seeds.tokenizer_states()
TARGETS = (
    Target("recipe: YAML", lambda data: yaml.read(data, "r.yaml"), (seeds.RECIPE,)),
    Target("recipe: settings", _recipe, (seeds.RECIPE,)),
    Target("names and --set", _names, (*seeds.FLAGS, b"org/name@main", b"hf://datasets/a/b", b"My File (1).jsonl")),
    Target("strict JSON", _strict, seeds.JSONL, ()),
    Target("JSON in a string", lambda data: json_value(_lenient(data), "x"), (b'{"a": [1, 2.5, null]}',), (Unusable,)),
    Target("rows of JSON Lines", _jsonl, seeds.JSONL),
    Target("rows of a JSON list", _json_list, seeds.LISTS),
    Target("rows of a table", _table, seeds.TABLES),
    Target("documents", _document, seeds.DOCUMENTS),
    Target("encoding", lambda data: encoding_of(io.BytesIO(data)), seeds.ENCODED, ()),
    Target("safetensors header", _header, (seeds.dumped(seeds.HEADER),)),
    Target("index of shards", lambda data: shards_of(parse_object(data, "i")), (seeds.dumped(seeds.INDEX),)),
    Target("config.json", _config, seeds.CONFIGS),
    Target("state of 4-bit codes", _quant_state, (seeds.dumped(seeds.STATE),)),
    Target("adapter_config.json", _peft, (seeds.dumped(seeds.PEFT),)),
    Target("tokenizer.json", _tokenizer_from("tokenizer.json"), _STATES),
    Target(
        "tokenizer_config.json",
        _tokenizer_from("tokenizer_config.json"),
        (seeds.dumped(seeds.TOKENIZER_CONFIG),),
    ),
    Target("GGUF header", lambda data: parse_gguf(data, "x.gguf"), (seeds.gguf(),)),
    Target("status of a run", _status, (seeds.dumped(seeds.STATUS),)),
    Target("manifest", _manifest, (seeds.dumped(seeds.MANIFEST),), ()),
    Target("event", _event, seeds.EVENTS, (ValueError,)),
    Target("line of a chat", pipe._parsed, (b'{"id": 1, "messages": [{"role": "user", "content": "a"}]}',
                                            b'{"cancel": 1}', b'{"keep": 1, "good": true}'), (pipe._BadLine,)),
) + (
    (Target("chat template", _template, tuple(text.encode() for text in seeds.TEMPLATES),
            (InputError, Refused, _Late)),) if hasattr(signal, "setitimer") else ()
)  # fmt: skip
"""By name, in the order of what a user hands over."""
