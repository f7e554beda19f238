"""Attacks by the files of a model: pickles, headers of safetensors, names of shards, links and pipes."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.corpus.case import EMBEDDING, ENTRY, Case, Cases, base, pickled, safetensors, with_files

Build = Callable[[Path, Path], None]


def _only(name: str) -> Build:
    def build(folder: Path, canary: Path) -> None:
        base(folder)
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(pickled(canary))

    return build


BESIDE = ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "value_head.bin",
          "adapter_model.bin", "model.ckpt", "state.pkl", "data.pickle", "consolidated.00.pth")  # fmt: skip


def _beside(folder: Path, canary: Path) -> None:
    base(folder)
    for name in BESIDE:
        (folder / name).write_bytes(pickled(canary))


def _renamed(folder: Path, canary: Path) -> None:
    base(folder)
    (folder / "model.safetensors").write_bytes(pickled(canary))


def _index_of_pickles(folder: Path, canary: Path) -> None:
    _only("pytorch_model-00001-of-00001.bin")(folder, canary)
    shards = {"weight_map": {EMBEDDING: "pytorch_model-00001-of-00001.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(shards))


PICKLES: Cases = {
    **{f"only {name}": Case("model", "model.pickle", _only(name), name) for name in BESIDE if name != "data.pickle"},
    "pickles beside the weights": Case("model", "", _beside),
    "a pickle called model.safetensors": Case("model", "model.safetensors", _renamed),
    "an index that names a pickle": Case("model", "model.index", _index_of_pickles),
}


def _weights(content: bytes) -> Build:
    return with_files(model__safetensors=content)


def _header(**entries: Any) -> Build:
    return _weights(safetensors({EMBEDDING: ENTRY} | entries))


def _sparse(folder: Path, canary: Path) -> None:
    base(folder)
    with (folder / "model.safetensors").open("wb") as file:
        file.write((1 << 34).to_bytes(8, "little") + b"{")
        file.truncate(1 << 35)


ZIP = b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18)
BAD = "model.safetensors"
HEADERS: Cases = {
    "an archive behind the tensors": Case(
        "model", BAD, _weights(safetensors({EMBEDDING: ENTRY}) + ZIP), "after its last"
    ),
    "an archive in a gap": Case(
        "model",
        BAD,
        _weights(
            safetensors(
                {EMBEDDING: ENTRY, "b": {"dtype": "U8", "shape": [4], "data_offsets": [286, 290]}}, bytes(256) + ZIP
            )
        ),
        "a gap",
    ),
    "an archive in place of the header": Case("model", BAD, _weights(ZIP * 9)),
    "tensors that overlap": Case("model", BAD, _header(b=ENTRY), "overlaps"),
    "a header longer than any": Case("model", BAD, _weights(b"\xff" * 8 + b"{}")),
    "a header of gigabytes in a file with holes": Case("model", BAD, _sparse, "is the most there may be"),
    "a header of lists": Case(
        "model", "model.json", _weights(safetensors(b'{"a":[' + b"[]," * 5_000_000 + b"[]]}")), "values"
    ),
    "a header of keys": Case(
        "model",
        "model.json",
        _weights(safetensors(b"{" + b",".join(b'"%d":0' % n for n in range(1_200_000)) + b"}")),
        "values",
    ),
    "as many values as there may be": Case(
        "model", BAD, _weights(safetensors(b"{" + b",".join(b'"%d":0' % n for n in range(499_000)) + b"}"))
    ),
    "a header nested deeply": Case("model", "model.json", _weights(safetensors(b'{"a":' + b"[" * 200_000))),
    "a number of a million digits": Case("model", "model.json", _weights(safetensors(b'{"a":' + b"9" * 10**6 + b"}"))),
    "a key given twice": Case("model", "model.json", _weights(safetensors(b'{"a":1,"a":2}')), "there twice"),
    "a shape beyond all bounds": Case(
        "model", BAD, _header(b={"dtype": "F32", "shape": [2**62] * 16, "data_offsets": [256, 256]})
    ),
    "a negative shape": Case("model", BAD, _header(b={"dtype": "F32", "shape": [-1, -1], "data_offsets": [256, 260]})),
    "offsets that run backwards": Case(
        "model", BAD, _header(b={"dtype": "U8", "shape": [4], "data_offsets": [256, 252]})
    ),
    "an unknown type": Case("model", BAD, _header(b={"dtype": "O", "shape": [1], "data_offsets": [256, 264]})),
    "truth values as numbers": Case(
        "model", BAD, _header(b={"dtype": "U8", "shape": [True], "data_offsets": [256, 257]})
    ),
    "a header in UTF-16": Case("model", "model.json", _weights(safetensors('{"a":1}'.encode("utf-16-le")))),
    "a name that is no text": Case("model", BAD, _weights(safetensors({"a\ud800": ENTRY})), "half a character"),
}


def _shard(name: Any) -> Build:
    def build(folder: Path, canary: Path) -> None:
        base(folder / "inside")
        base(folder)
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {EMBEDDING: name}}))

    return build


SHARDS: Cases = {
    f"the shard {name!r}": Case("model", "model.index", _shard(name))
    for name in (
        "../inside/model.safetensors",
        "inside/model.safetensors",
        "/etc/passwd",
        "/etc/x.safetensors",
        "",
        "..\\x.safetensors",
        "C:\\x.safetensors",
        "C:x.safetensors",
        "\\\\host\\x.safetensors",
        ".safetensors",
        "x.safetensors\0.bin",
        "x.safetensors\n",
        "~/x.safetensors",
        "http://h/x.safetensors",
        "x.bin",
        "\u202ex.safetensors",
        "é.safetensors",
        5,
        ["x.safetensors"],
        None,
    )
}


def _linked(name: str, target: str) -> Build:
    def build(folder: Path, canary: Path) -> None:
        base(folder)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        outside = folder.parent / "outside"
        outside.mkdir(exist_ok=True)
        (outside / "secret").write_bytes(safetensors({EMBEDDING: ENTRY}))
        (folder / name).symlink_to(target.replace("OUTSIDE", str(outside)))

    return build


def _cached(folder: Path, canary: Path) -> None:
    """As the hub's cache lays it out: opened as `folder`, a link to the snapshot."""
    kept = folder.parent / "models--org--x"
    base(kept / "snapshots" / "abc")
    (kept / "blobs").mkdir()
    (kept / "snapshots" / "abc" / "model.safetensors").rename(kept / "blobs" / "0123")
    (kept / "snapshots" / "abc" / "model.safetensors").symlink_to("../../blobs/0123")
    folder.symlink_to(kept / "snapshots" / "abc")


def _cached_elsewhere(folder: Path, canary: Path) -> None:
    """As `_cached`, with a file that is no content of a cache where the contents should be."""
    _cached(folder, canary)
    kept = folder.parent / "models--org--x"
    kept.rename(kept.with_name("models--org--y"))
    kept = kept.with_name("models--org--y")
    (kept / "blobs").rename(folder.parent / "elsewhere")
    (kept / "blobs").symlink_to(folder.parent / "elsewhere")
    folder.unlink()
    folder.symlink_to(kept / "snapshots" / "abc")


def _templates_elsewhere(folder: Path, canary: Path) -> None:
    base(folder)
    outside = folder.parent / "templates"
    outside.mkdir(exist_ok=True)
    (outside / "secret.jinja").write_text("secret")
    (folder / "additional_chat_templates").symlink_to(outside)


def _pipe(name: str) -> Build:
    def build(folder: Path, canary: Path) -> None:
        base(folder)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return build


LINKS: Cases = {
    "weights linked from outside": Case("model", "model.link", _linked("model.safetensors", "OUTSIDE/secret")),
    "a template linked from outside": Case("model", "model.link", _linked("chat_template.jinja", "OUTSIDE/secret")),
    "a licence linked from outside": Case("model", "model.link", _linked("LICENSE", "/etc/hostname")),
    "a further template linked from outside": Case(
        "model", "model.link", _linked("additional_chat_templates/x.jinja", "/etc/hostname")
    ),
    "a folder of templates linked from outside": Case("model", "model.link", _templates_elsewhere),
    "an adapter's configuration linked from outside": Case(
        "adapter", "model.link", _linked("adapter_config.json", "/etc/hostname")
    ),
    "an adapter's weights linked from outside": Case(
        "adapter", "model.link", _linked("adapter_model.safetensors", "OUTSIDE/secret")
    ),
    "a cache of the folder's own that leads elsewhere": Case("model", "model.link", _cached_elsewhere),
    "a link by dots": Case("model", "model.link", _linked("tokenizer.json", "../outside/secret")),
    "a link to a device": Case("model", "model.link", _linked("config.json", "/dev/zero")),
    "a link to itself": Case("model", "model.no-config", _linked("config.json", "config.json")),
    "a link within the hub's cache": Case("model", "", _cached),
    "a pipe as configuration": Case("model", "model.no-config", _pipe("config.json")),
    "a pipe as weights": Case("model", "model.no-weights", _pipe("model.safetensors")),
    "a pipe as tokenizer": Case("model", "tokenizer.missing", _pipe("tokenizer.json")),
    "a pipe as adapter": Case("adapter", "model.json", _pipe("adapter_config.json")),
    "a pipe as GGUF": Case("gguf", "gguf.unreadable", _pipe("x.gguf")),
}
WEIGHTS: Cases = PICKLES | HEADERS | SHARDS | LINKS
