"""GGUF files of a source, each read back by llama.cpp and compared before it gets its name."""

import json
import os
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from localtune.adapter import Full
from localtune.batch import Ints
from localtune.errors import InputError, MachineError
from localtune.events import Event, Phase, Product, Replies, Warn
from localtune.export import check_exportable, notes
from localtune.export.gguf_file import PROOF as PROOF_KEY
from localtune.export.gguf_file import set_string, write_gguf
from localtune.export.identity import file_name
from localtune.job import Job, unfinished
from localtune.outlay import EXACT, exact_encoding
from localtune.products import PROOF, event_of, failure, set_aside, shown
from localtune.products.fused import fused
from localtune.products.source import Source, of_run
from localtune.proof import Proof, prove_file
from localtune.runs.files import TEMPORARY, is_complete, read_json, settle, sha256, sweep, write_json


def export_run(
    job: Job, encodings: Sequence[str], folder: Path | None = None, *, check: bool = True
) -> Generator[Event, None, list[Path]]:
    """The product of a run as GGUF files in `folder`, or in the run's own; an adapter is fused first."""
    if isinstance(job.trainable, Full):
        weights = job.run.model
        if not is_complete(weights, verify=True):
            raise unfinished(job.run)
    else:
        weights = yield from fused(job, check=check)
    source = yield from of_run(job, weights, folder, check=check)
    return (yield from export(source, encodings, check=check))


def export(source: Source, encodings: Sequence[str], *, check: bool = True) -> Generator[Event, None, list[Path]]:
    """Write and prove one file per encoding; where all of them round, the conversion is proven in an exact one first.

    Raises `InputError` for what cannot be exported, `RunFailed` for a file that fails; those before it stay.
    """
    check_exportable(source.model, source.tokenizer, encodings)
    for note in notes(source.model, source.tokenizer):
        yield Warn("export.note", note)
    source.folder.mkdir(parents=True, exist_ok=True)
    sweep(source.folder)
    answers: dict[str, Sequence[Ints]] = {}
    made = []
    if check and not set(encodings) & set(EXACT):
        yield from _conversion(source)
    for encoding in sorted(encodings, key=lambda name: name not in EXACT):
        path, said = yield from _one(source, encoding, check)
        made.append(path)
        answers[encoding] = said
    yield from _replies(source, answers)
    return made


def _conversion(source: Source) -> Generator[Event, None, None]:
    """Prove the conversion itself, by a file that nothing is rounded in and that is then removed."""
    encoding = exact_encoding(source.model)
    name = file_name(source.identity, encoding)
    temporary = _temporary(source.folder / name)
    try:
        yield Phase("exporting", f"{name}, to prove the conversion without rounding")
        write_gguf(source.model, source.tokenizer, temporary, encoding, source.identity)
        proof = yield from _proven(source, temporary, f"conversion ({encoding})", encoding)
        if proof is not None and not proof.passed:
            yield event_of(proof)
            raise _rejected(source, proof, temporary, source.folder / name)
        if proof is not None:
            yield event_of(proof)
    finally:
        temporary.unlink(missing_ok=True)


def _one(source: Source, encoding: str, check: bool) -> Generator[Event, None, tuple[Path, Sequence[Ints]]]:
    path = source.folder / file_name(source.identity, encoding)
    temporary = _temporary(path)
    try:
        yield Phase("exporting", path.name)
        began = time.monotonic()
        write_gguf(source.model, source.tokenizer, temporary, encoding, source.identity)
        seconds = time.monotonic() - began
        proof = (yield from _proven(source, temporary, path.name, encoding)) if check else None
        if proof is not None:
            set_string(temporary, PROOF_KEY, _summary(proof))
        settle(temporary)
        if proof is not None and not proof.passed:
            yield event_of(proof)
            raise _rejected(source, proof, temporary, path)
        os.replace(temporary, path)
        _record(source, path, proof)
        yield Product(encoding, shown(path, source.run), path.stat().st_size, seconds)
        if proof is not None:
            yield event_of(proof)
        return path, proof.answers if proof else ()
    finally:
        temporary.unlink(missing_ok=True)


def _proven(source: Source, path: Path, product: str, encoding: str) -> Generator[Event, None, Proof | None]:
    """The proof of the file at `path`; None with a warning where nothing here can read it."""
    yield Phase("proving", product)
    try:
        return prove_file(path, product, encoding, source.tokenizer, source.reference)
    except MachineError as error:
        problem = error.problems[0]
        yield Warn("proof.unverified", f"{product} is not verified: {problem.what}; {problem.fix}")
        return None


def _rejected(source: Source, proof: Proof, temporary: Path, path: Path) -> Exception:
    aside = path.with_name(f"{path.stem}.failed.gguf")
    set_aside(temporary, aside)
    _record(source, aside, proof)
    return failure(proof, aside, source.folder / PROOF)


def _record(source: Source, path: Path, proof: Proof | None) -> None:
    """Enter the file in proof.json beside it, and forget files that are gone."""
    book = source.folder / PROOF
    files: dict[str, Any] = {}
    if book.is_file():
        try:
            files = read_json(book)["files"]
        except (InputError, KeyError):
            files = {}
    entry = proof.to_json() if proof else {"passed": None}
    files[path.name] = {"size": path.stat().st_size, "sha256": sha256(path)} | entry
    there = {name: value for name, value in files.items() if (source.folder / name).is_file()}
    write_json(book, {"lineage": dict(source.identity.lineage), "files": there})


def _summary(proof: Proof) -> str:
    """What the file itself says of its proof."""
    figures = {check.name: check.figures for check in proof.checks if check.name in ("file", "training")}
    checks = {check.name: check.passed for check in proof.checks}
    whole = {"passed": proof.passed, "positions": proof.positions, "rows": proof.rows, "checks": checks} | figures
    return json.dumps(whole | {"losses": dict(proof.losses)}, default=float)


def _replies(source: Source, answers: dict[str, Sequence[Ints]]) -> Generator[Event, None, None]:
    """The first prompt as base, adapter and each file answer it."""
    reference = source.reference
    names = {"base": "base", "tuned": "adapter"} if "tuned" in reference.said else {"weights": "weights"}
    everybody = {name: reference.answers.get(who, ()) for who, name in names.items()} | answers
    texts = {
        who: source.tokenizer.decode(said[0].tolist(), skip_special=True) for who, said in everybody.items() if said
    }
    if reference.prompts and texts:
        yield Replies(reference.prompts[0].text, texts)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
