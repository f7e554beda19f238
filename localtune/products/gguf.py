"""GGUF files of a source, each read back by llama.cpp and compared before it gets its name."""

import importlib.util
import json
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from localtune.adapter import Full
from localtune.batch import Ints
from localtune.errors import InputError, MachineError, Problem
from localtune.events import Event, Phase, Product, Replies, Warn
from localtune.export import Exportable, prepare
from localtune.export.gguf_file import PROOF, set_string, write_gguf
from localtune.export.identity import file_name
from localtune.job import Job, unfinished
from localtune.outlay import EXACT, exact_encoding
from localtune.products import RECORD, event_of, failure, making, name_in, set_aside, writing
from localtune.products.fused import fused
from localtune.products.source import Source, of_run
from localtune.proof import Proof, prove_file
from localtune.runs.files import TEMPORARY, is_complete, read_json, settle, sha256, sweep, write_json
from localtune.score import nothing_asked

Heed = Callable[[], None]
"""May raise to end the work."""


def export_run(
    job: Job, encodings: Sequence[str], folder: Path | None = None, *, check: bool = True, heed: Heed = nothing_asked
) -> Generator[Event, None, list[Path]]:
    """The product of a run as GGUF files in `folder`, or in the run's own; an adapter is fused first."""
    with making(job.run, None if heed is nothing_asked else heed):
        if isinstance(job.trainable, Full):
            weights = job.run.model
            if not is_complete(weights, verify=True):
                raise unfinished(job.run)
        else:
            weights = yield from fused(job, check=check, heed=heed)
        source = yield from of_run(job, weights, folder, check=check, heed=heed)
        return (yield from export(source, encodings, heed=heed))


def export(
    source: Source, encodings: Sequence[str], *, heed: Heed = nothing_asked
) -> Generator[Event, None, list[Path]]:
    """Write and prove one file per encoding; where all of them round, the conversion is proven in an exact one first.

    Raises `InputError` for what cannot be exported or would replace a foreign file, `RunFailed` for a file that fails;
    those before it stay. Where nothing can be compared the files are marked unverified, and a warning says so.
    """
    if source.rounds_away and "BF16" in encodings:
        text = "BF16 would round away what training changed, as in the fused model: F16 is written instead"
        yield Warn("export.rounding", text)
        encodings = list(dict.fromkeys("F16" if name == "BF16" else name for name in encodings))
    ready = prepare(source.model, source.tokenizer, encodings)
    names = {encoding: file_name(source.identity, encoding) for encoding in encodings}
    with writing(source.folder):
        source.folder.mkdir(parents=True, exist_ok=True)
    _refuse_foreign(source.folder, list(names.values()))
    sweep(source.folder)
    for note in ready.notes:
        yield Warn("export.note", note)
    work = _Work(source, ready, heed, source.reference is not None)
    if work.compares and importlib.util.find_spec("xllamacpp") is None:
        yield _unverified("llama.cpp is not installed", "pip install xllamacpp")
        work.compares = False
    answers: dict[str, Sequence[Ints]] = {}
    if work.compares and not set(encodings) & set(EXACT):
        yield from work.conversion()
    for encoding in sorted(names, key=lambda name: name not in EXACT):
        answers[encoding] = yield from work.file(encoding, source.folder / names[encoding])
    yield from _replies(source, answers)
    return [source.folder / name for name in names.values()]


class _Work:
    """One export under way."""

    def __init__(self, source: Source, ready: Exportable, heed: Heed, compares: bool) -> None:
        self.source, self.ready, self.heed, self.compares = source, ready, heed, compares

    def conversion(self) -> Generator[Event, None, None]:
        """Prove the conversion itself, by a file that nothing is rounded in and that is then removed."""
        encoding = exact_encoding(self.source.model)
        path = self.source.folder / file_name(self.source.identity, encoding)
        temporary = _temporary(path)
        try:
            yield Phase("exporting", f"{path.name}, to prove the conversion without rounding")
            with writing(path.parent):
                write_gguf(self.ready, temporary, encoding, self.source.identity)
            proof = yield from self._proven(temporary, f"conversion ({encoding})", encoding)
            if proof is not None and not proof.passed:
                raise self._rejected(proof, temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def file(self, encoding: str, path: Path) -> Generator[Event, None, Sequence[Ints]]:
        """Write and prove the file `path`; returns its answers to the prompts."""
        temporary = _temporary(path)
        try:
            yield Phase("exporting", path.name)
            began = time.monotonic()
            with writing(path.parent):
                write_gguf(self.ready, temporary, encoding, self.source.identity)
            seconds = time.monotonic() - began
            proof = (yield from self._proven(temporary, path.name, encoding)) if self.compares else None
            with writing(path.parent):
                if proof is not None:
                    set_string(temporary, PROOF, _summary(proof))
                if proof is not None and not proof.passed:
                    raise self._rejected(proof, temporary, path)
                settle(temporary)
                _record(self.source, temporary, path.name, proof)
                os.replace(temporary, path)
            yield Product(encoding, name_in(path, self.source.run), path.stat().st_size, seconds)
            return proof.answers if proof else ()
        finally:
            temporary.unlink(missing_ok=True)

    def _proven(self, path: Path, product: str, encoding: str) -> Generator[Event, None, Proof | None]:
        """The proof of the file at `path`; None with a warning where nothing here can read it."""
        yield Phase("proving", product)
        assert self.source.reference is not None
        try:
            proof = prove_file(path, product, encoding, self.source.tokenizer, self.source.reference, self.heed)
        except MachineError as error:
            yield _unverified(error.problems[0].what, error.problems[0].fix)
            self.compares = False
            return None
        yield event_of(proof)
        return proof

    def _rejected(self, proof: Proof, temporary: Path, path: Path) -> Exception:
        aside = set_aside(temporary, path.with_name(f"{path.stem}.failed.gguf"))
        _record(self.source, aside, aside.name, proof)
        return failure(proof, aside, self.source.folder / RECORD)


def _unverified(why: str, fix: str) -> Warn:
    return Warn("proof.unverified", f"the files are not verified: {why}; {fix}")


def _refuse_foreign(folder: Path, names: Sequence[str]) -> None:
    """Raise `InputError` where a file of these names, or the record beside them, was not written by an export."""
    known = _files_in(folder / RECORD)
    for name in names:
        path = folder / name
        if path.exists() and known.get(name, {}).get("size") != path.stat().st_size:
            what = "is there already, and no export from here wrote it"
            raise InputError(Problem("export.exists", what, str(path), fix="move it away, or  -o OTHER"))


def _files_in(book: Path) -> dict[str, Any]:
    """What an export's record says of its files."""
    if not book.exists():
        return {}
    try:
        files = read_json(book)["files"]
    except (InputError, KeyError):
        files = None
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        what = "is there already, and is not the record of an export"
        raise InputError(Problem("export.exists", what, str(book), fix="move it away, or  -o OTHER"))
    return files


def _record(source: Source, path: Path, name: str, proof: Proof | None) -> None:
    """Enter the file, which now is at `path`, as `name` in the record beside it; forget files that are gone."""
    book = source.folder / RECORD
    there = {key: entry for key, entry in _files_in(book).items() if (source.folder / key).is_file()}
    entry = proof.to_json() if proof else {"passed": None}
    there[name] = {"size": path.stat().st_size, "sha256": sha256(path)} | entry
    write_json(book, {"lineage": dict(source.identity.lineage), "files": there})


def _summary(proof: Proof) -> str:
    """What the file itself says of its proof."""
    figures = {check.name: check.figures for check in proof.checks if check.name in ("file", "training")}
    checks = {check.name: check.passed for check in proof.checks}
    whole = {"passed": proof.passed, "positions": proof.positions, "rows": proof.rows, "checks": checks} | figures
    return json.dumps(whole | {"losses": dict(proof.losses)}, default=float)


def _replies(source: Source, answers: Mapping[str, Sequence[Ints]]) -> Generator[Event, None, None]:
    """The first prompt as base, adapter and each file answer it."""
    reference = source.reference
    if reference is None or not reference.prompts:
        return
    names = {"base": "base", "tuned": "adapter"} if "tuned" in reference.said else {"weights": "weights"}
    everybody = {name: reference.answers.get(who, ()) for who, name in names.items()} | dict(answers)
    texts = {
        who: source.tokenizer.decode(said[0].tolist(), skip_special=True) for who, said in everybody.items() if said
    }
    yield Replies(" ".join(reference.prompts[0].text.split()), texts)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
