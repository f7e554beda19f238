"""An adapter as a GGUF of its own: small, and worn over any GGUF of its base by llama.cpp.

That of a run is compared as it will be used: over an exact GGUF of the base, which is written for that alone and
removed.
"""

import importlib.util
import time
from collections.abc import Generator
from pathlib import Path

from localtune import __version__
from localtune.adapter import WEIGHTS_FILE, Full
from localtune.data.tokenizer import Tokenizer
from localtune.durable import temporary_of
from localtune.errors import InputError, MachineError, Problem
from localtune.events import Event, Phase, Product, Warn
from localtune.export import prepare
from localtune.export.adapter_file import Encoding, write_adapter
from localtune.export.gguf_file import PROOF, set_string, write_gguf
from localtune.export.identity import file_name, identify
from localtune.job import Job, changes_since, unfinished
from localtune.model import ModelFiles
from localtune.outlay import exact_encoding
from localtune.products import event_of, making, name_in, writing
from localtune.products.book import enter, exporting, refuse_foreign, rejected, summary
from localtune.products.source import Source, of_adapter
from localtune.proof import Proof, prove_file
from localtune.runs.files import is_complete, settle, sha256, sweep

ENCODING: Encoding = "F16"
"""Of the adapter's own matrices: their rounding is far below what any type does to the base."""


def export_adapter(job: Job, folder: Path | None = None, *, check: bool = True) -> Generator[Event, None, Path]:
    """Write the adapter as a GGUF and prove it over its base.

    Raises `InputError` for a full fine-tune and for an adapter that llama.cpp cannot wear, `RunFailed` where it says
    something else there than in training.
    """
    _refuse_full(job)
    changes_since(job)
    with making(job.run):
        source = yield from of_adapter(job, folder, check=check)
        return (yield from _exported(source, job.run.adapter))


def export_adapter_folder(adapter: Path, model: ModelFiles, folder: Path) -> Generator[Event, None, Path]:
    """Write any PEFT adapter of `model` as a GGUF in `folder`; nothing is known of what it said in training.

    Raises `InputError` for one that llama.cpp cannot wear.
    """
    told = {
        "version": __version__,
        "merge": "none: the adapter alone",
        "adapter.sha256": sha256(adapter / WEIGHTS_FILE),
    }
    name, base = adapter.resolve().name, model.name
    identity = identify(model, finetune=name, base=base, revision=model.revision, lineage=told)
    path = yield from _exported(Source(model, Tokenizer(model.folder), None, identity, folder), adapter)
    yield Warn("proof.unknown", "not compared with its training, of which nothing is known here")
    return path


def _exported(source: Source, adapter: Path) -> Generator[Event, None, Path]:
    path = source.folder / file_name(source.identity, ENCODING, "LoRA")
    with writing(source.folder):
        source.folder.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(path)
    with exporting(source.folder):
        refuse_foreign(source, [path.name])
        sweep(source.folder)
        try:
            yield from _made(source, adapter, path, temporary)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def _made(source: Source, adapter: Path, path: Path, temporary: Path) -> Generator[Event, None, None]:
    yield Phase("exporting", path.name)
    began = time.monotonic()
    with writing(path.parent):
        write_adapter(adapter, source.model, temporary, source.identity, ENCODING)
    seconds = time.monotonic() - began
    proof = yield from _proven(source, temporary, path.name)
    with writing(path.parent):
        set_string(temporary, PROOF, summary(proof))
        if proof is not None and not proof.passed:
            raise rejected(source, proof, temporary, path)
        settle(temporary)
        enter(source, temporary, path, proof)
    yield Product("adapter GGUF", name_in(path, source.run), path.stat().st_size, seconds)


def _proven(source: Source, adapter: Path, product: str) -> Generator[Event, None, Proof | None]:
    """The proof over an exact file of the base; None with a warning where nothing here can make or read it."""
    if source.reference is None:
        return None
    if importlib.util.find_spec("xllamacpp") is None:
        yield Warn("proof.unverified", "the file is not verified: llama.cpp is not installed; pip install xllamacpp")
        return None
    exact = exact_encoding(source.model)
    base = temporary_of(source.folder / file_name(source.identity, exact))
    try:
        yield Phase("proving", f"{product}, over a {exact} file of its base")
        ready = prepare(source.model, source.tokenizer, [exact])
        with writing(source.folder):
            write_gguf(ready, base, exact, source.identity)
        proof = prove_file(
            adapter,
            product,
            ENCODING,
            source.tokenizer,
            source.reference,
            differs=ready.vocabulary.differs,
            base=base,
        )
    except MachineError as error:
        problem = error.problems[0]
        yield Warn("proof.unverified", f"the file is not verified: {problem.what}; {problem.fix}")
        return None
    finally:
        base.unlink(missing_ok=True)
    yield event_of(proof)
    return proof


def _refuse_full(job: Job) -> None:
    if isinstance(job.trainable, Full):
        what = "every weight was trained: there is no adapter, the whole model is the product"
        raise InputError(Problem("export.full", what, job.run.name, fix=f"localtune export {job.run.name} --gguf Q8_0"))
    if not is_complete(job.run.adapter, verify=True):
        raise unfinished(job.run)
