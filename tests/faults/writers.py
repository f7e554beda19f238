"""Every writer of a file or folder that somebody keeps, each with what is there before it and how it is looked at."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from localtune_tui import editing
from localtune_tui.draft import Draft
from localtune_tui.state import SessionState

from localtune.backend import Precision
from localtune.chat.kept import keep
from localtune.cli import localtune
from localtune.data import cache
from localtune.data.prepared import save
from localtune.deliver import lm_studio
from localtune.deliver.chat_format import known_format
from localtune.export import prepare
from localtune.export.read import read_gguf
from localtune.job import Job
from localtune.launch import create_run
from localtune.merging import merge
from localtune.mlx_lm_adapter import copy_for_mlx_lm
from localtune.places import Places
from localtune.products import RECORD, delivery, gguf
from localtune.products.adapter_gguf import export_adapter_folder
from localtune.products.fused import fused, requantised
from localtune.products.gguf import source_of_run
from localtune.reference import Reference, read, write
from localtune.runs.files import is_complete, read_json, sha256, sweep
from localtune.runs.folder import Run
from tests.command import returned
from tests.faults import untrained

Found = dict[str, object]
"""What lies under final names: the name of each and its content, or what stands for it."""


@dataclass(frozen=True)
class Made:
    """What the writers write of."""

    folder: Path
    job: Job
    other: Path
    """A second adapter of the same model."""


@dataclass(frozen=True)
class Writer:
    """One that is cut: `found` raises where something is half."""

    act: Callable[[], object]
    found: Callable[[], Found]
    litter: bool = False
    """What a cut leaves is not removed by the next try, but by age."""


def _file(path: Path, parse: Callable[[Path], object] = Path.read_bytes) -> Found:
    return {path.name: parse(path)} if path.exists() else {}


def _folder(path: Path, weights: str) -> Found:
    if not path.exists():
        return {}
    assert is_complete(path, verify=True), f"{path.name} is half"
    return {path.name: sha256(path / weights)}


def _run_in(made: Made, root: Path, *parts: str) -> Job:
    left_out = {"adapter", "fused", "data"} - {*parts}
    shutil.copytree(made.job.run.folder, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*left_out))
    return replace(made.job, run=Run(root))


def _fused(made: Made, root: Path) -> Writer:
    """In the place of one that another adapter was fused into."""
    job = _run_in(made, root, "adapter")
    shutil.rmtree(root / "adapter")
    shutil.copytree(made.job.run.adapter, root / "adapter")
    shutil.copyfile(made.other / "adapter_model.safetensors", root / "adapter" / "adapter_model.safetensors")
    manifest = read_json(root / "adapter" / "manifest.json")
    manifest["files"]["adapter_model.safetensors"]["sha256"] = sha256(made.other / "adapter_model.safetensors")
    (root / "adapter" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    returned(fused(job, check=False))
    shutil.rmtree(root / "adapter")
    shutil.copytree(made.job.run.adapter, root / "adapter")
    return Writer(lambda: returned(fused(job, check=False)), lambda: _folder(job.run.fused, "model.safetensors"))


def _requantised(made: Made, root: Path) -> Writer:
    job = _run_in(made, root, "adapter")
    job = replace(job, plan=replace(job.plan, precision=Precision("nf4", "float32")))
    return Writer(lambda: returned(requantised(job)), lambda: _folder(root / "requantised", "model.safetensors"))


def _ggufs(folder: Path) -> Found:
    """Every GGUF is whole and stands in the record, or is announced there."""
    book = read_json(folder / RECORD) if (folder / RECORD).exists() else {"files": {}}
    known = {**book["files"], **book.get("coming", {})}
    named = {path.name: sha256(path) for path in folder.glob("*.gguf")}
    for name, digest in named.items():
        assert known[name]["sha256"] == digest, f"{name} is not the file in the record"
        read_gguf(folder / name)
    return dict(named)


def _export(made: Made, root: Path) -> Writer:
    job = _run_in(made, root, "adapter", "fused")

    source = returned(source_of_run(job, None, check=False))
    ready, known = prepare(source.model, source.tokenizer, ["Q8_0"]), known_format(source.tokenizer)

    def act() -> None:
        with pytest.MonkeyPatch.context() as patch:  # its template is asked once, in a process of its own
            patch.setattr(gguf, "prepare", lambda *named: ready)
            patch.setattr(delivery, "known_format", lambda tokenizer: known)
            list(delivery.describe(source, returned(gguf.export(source, ["Q8_0"])), job))

    def found() -> Found:
        beside = (_file(job.run.export / name) for name in ("Modelfile", "README.md"))
        return _ggufs(job.run.export) | {name: content for file in beside for name, content in file.items()}

    return Writer(act, found)


def _adapter_gguf(made: Made, root: Path) -> Writer:
    act = export_adapter_folder
    return Writer(lambda: returned(act(made.other, made.job.model, root / "out")), lambda: _ggufs(root / "out"))


def _merged(made: Made, root: Path) -> Writer:
    sources = [made.job.run.adapter, made.other]
    return Writer(
        lambda: merge(sources, root / "merged"), lambda: _folder(root / "merged", "adapter_model.safetensors")
    )


def _mlx_lm(made: Made, root: Path) -> Writer:
    folder = root / "mlx-lm-adapter"
    return Writer(
        lambda: returned(copy_for_mlx_lm(made.other, made.job.model, folder)),
        lambda: _folder(folder, "adapters.safetensors"),
    )


def _reference(made: Made, root: Path) -> Writer:
    path, tokens = root / "reference.safetensors", np.arange(9, dtype=np.int32)

    def reference(held_out: str) -> Reference:
        return Reference(Places((tokens,), tokens[:1], tokens[1:2], tokens[1:2]), (), (7,), held_out, {}, {}, {})

    write(reference("test"), path)
    return Writer(lambda: write(reference("validation"), path), lambda: _file(path, lambda file: read(file).held_out))


def _cached(made: Made, root: Path) -> Writer:
    name = cache.key({"of": "a test"})

    def found() -> Found:
        if not (cache.root() / name).exists():
            return {}
        assert cache.find(name, verify=True) is not None, "half an entry counts"
        return {name: True}

    return Writer(lambda: cache.keep(name, lambda folder: save(made.job.prepared, folder)), found, litter=True)


def _rows(path: Path) -> Found:
    return _file(path, lambda file: [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()])


def _command(*arguments: object) -> Callable[[], object]:
    return lambda: localtune.main([*map(str, arguments)], standalone_mode=False)


def _data(made: Made) -> Path:
    return made.folder / "data" / "rows.jsonl"


def _converted(made: Made, root: Path) -> Writer:
    out = root / "new.jsonl"
    shutil.copyfile(_data(made), out)
    return Writer(_command("data", "convert", _data(made), "--to", "text", "-o", out, "--force"), lambda: _rows(out))


def _split(made: Made, root: Path) -> Writer:
    names = ("train", "valid", "test")

    def found() -> Found:
        return {part: rows for name in names for part, rows in _rows(root / f"{name}.jsonl").items()}

    return Writer(_command("data", "split", _data(made), "-o", root, "--test", "3", "--force"), found)


def _kept(made: Made, root: Path) -> Writer:
    keep({"prompt": "a", "completion": "b"}, root / "good.jsonl")
    row = {"prompt": "c", "completion": "d" * 100}

    def found() -> Found:
        return {str(rows): True for line in _rows(root / "good.jsonl").values() for rows in line}  # type: ignore[attr-defined]

    return Writer(lambda: keep(row, root / "good.jsonl"), found)


def _created(made: Made, root: Path) -> Writer:
    ready = untrained.ready(made.folder / "data")

    def found() -> Found:
        runs = [path for path in root.iterdir() if path.suffix != ".partial"]
        assert all(is_complete(path, verify=True) for path in runs)
        return {"a run": sha256(runs[0] / "recipe.yaml")} if runs else {}

    def act() -> None:
        sweep(root)
        create_run(ready)

    return Writer(act, found)


def _recipe(made: Made, root: Path) -> Writer:
    out = root / "recipe.yaml"
    return Writer(_command("init", _data(made), "-m", made.job.model.folder, "-o", out), lambda: _file(out))


def _report(made: Made, root: Path) -> Writer:
    out = root / "run.html"
    out.write_text("as it was", encoding="utf-8")
    return Writer(_command("runs", "report", made.job.run.folder, "-o", out), lambda: _file(out, _ended))


def _ended(page: Path) -> object:
    text = page.read_text(encoding="utf-8")
    return text if text == "as it was" else text.endswith("</html>\n")


def _draft(made: Made, root: Path) -> Writer:
    path, draft = root / "draft.yaml", Draft(data=str(_data(made)), model=str(made.job.model.folder))
    path.write_text("name: as-it-was\n", encoding="utf-8")
    return Writer(lambda: editing.write(draft, path), lambda: _file(path))


def _session(made: Made, root: Path) -> Writer:
    path = root / "state.json"

    def act(screen: str = "runs") -> None:
        state = SessionState(path)
        state.put("screen", screen)
        state.save()

    act("chat")
    return Writer(act, lambda: _file(path, lambda file: read_json(file)["screen"]))


def _other_disk(*names: Path) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def _placed(made: Made, root: Path) -> Writer:
    """A copy, as where LM Studio's models lie on another disk."""
    source = made.folder / "Tiny.gguf"
    source.write_bytes(bytes(200_000))
    (root / ".lmstudio").mkdir()

    def act() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "link", _other_disk)
            lm_studio.place(source, home=root)

    return Writer(act, lambda: {path.name: sha256(path) for path in root.rglob("*.gguf")})


WRITERS: dict[str, Callable[[Made, Path], Writer]] = {
    "fused model": _fused, "requantised model": _requantised, "GGUF, record, Modelfile and card": _export,
    "adapter as GGUF": _adapter_gguf, "merged adapter": _merged, "copy for mlx-lm": _mlx_lm, "reference": _reference,
    "prepared data": _cached, "converted data": _converted, "split data": _split, "kept answers": _kept,
    "run folder": _created, "recipe and schema": _recipe, "report": _report, "draft": _draft, "app state": _session,
    "file for LM Studio": _placed,
}  # fmt: skip
