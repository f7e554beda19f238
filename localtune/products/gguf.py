"""GGUF files of a source, each read back by llama.cpp and compared before it gets its name."""

import importlib.util
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from localtune.adapter import Full
from localtune.batch import Ints
from localtune.durable import temporary_of
from localtune.errors import MachineError
from localtune.events import Event, Phase, Product, Replies, Warn
from localtune.export import prepare
from localtune.export.converter import CONVERTED, convert
from localtune.export.encodings import ENCODINGS
from localtune.export.gguf_file import PROOF, set_string, write_ggufs
from localtune.export.identity import file_name
from localtune.export.quantize_tool import check_kind, quantize
from localtune.job import Job, unfinished
from localtune.outlay import EXACT, affordable, exact_encoding
from localtune.products import event_of, making, name_in, writing
from localtune.products.book import enter, exporting, refuse_foreign, rejected, summary
from localtune.products.delivery import deliver, describe
from localtune.products.fused import fused
from localtune.products.source import Source, of_run
from localtune.proof import Proof, prove_file
from localtune.proof.checks import loss, never, spokesman
from localtune.proof.stored import Wanted, of_file, of_weights
from localtune.reference import Reference
from localtune.runs.files import is_complete, settle, sweep
from localtune.score import nothing_asked

Heed = Callable[[], None]
"""May raise to end the work."""


@dataclass(frozen=True)
class Tools:
    """Programs of the user's own that take part."""

    converter: Path | None = None
    """A llama.cpp checkout whose converter writes the files instead."""
    imatrix: Path | None = None
    """An importance matrix for llama-quantize."""


NO_TOOLS = Tools()


def export_run(job: Job, encodings: Sequence[str], *, heed: Heed = nothing_asked) -> Generator[Event, None, list[Path]]:
    """The product of a run as GGUF files in its own folder; an adapter is fused first."""
    with making(job.run, None if heed is nothing_asked else heed):
        source = yield from source_of_run(job, None, check=True, heed=heed)
        files = yield from export(source, encodings, heed=heed)
        yield from describe(source, files, job)
        yield from deliver(source, files[0], job.recipe.export.to)
        return files


def source_of_run(
    job: Job, folder: Path | None, *, check: bool, heed: Heed = nothing_asked
) -> Generator[Event, None, Source]:
    """The product of a run, fused first where it is an adapter; its files go to `folder`, or into the run's own."""
    if isinstance(job.trainable, Full):
        weights = job.run.model
        if not is_complete(weights, verify=True):
            raise unfinished(job.run)
    else:
        weights = yield from fused(job, check=check, heed=heed)
    return (yield from of_run(job, weights, folder, check=check, heed=heed))


def export(
    source: Source, encodings: Sequence[str], *, heed: Heed = nothing_asked, tools: Tools = NO_TOOLS
) -> Generator[Event, None, list[Path]]:
    """Write and prove one file per encoding; where all of them round, the conversion is proven in an exact one first.

    Types that are not written here are made by llama-quantize from the exact file. Raises `InputError` for what cannot
    be exported or would replace a foreign file, `RunFailed` for a file that fails; those before it stay. Where nothing
    can be compared the files are marked unverified, and a warning says so.
    """
    if source.rounds_away and "BF16" in encodings:
        text = "BF16 would round away what training changed, as in the fused model: F16 is written instead"
        yield Warn("export.rounding", text)
        encodings = list(dict.fromkeys("F16" if name == "BF16" else name for name in encodings))
    work = _Work(source, encodings, tools, heed)
    with writing(source.folder):
        source.folder.mkdir(parents=True, exist_ok=True)
    with exporting(source.folder):
        refuse_foreign(source, [work.paths[encoding].name for encoding in encodings])
        sweep(source.folder)
        yield from work.remarks()
        answers = yield from work.done()
    yield from _replies(source, answers)
    return [work.paths[encoding] for encoding in encodings]


class _Work:
    """One export under way."""

    def __init__(self, source: Source, asked: Sequence[str], tools: Tools, heed: Heed) -> None:
        self.source, self.asked, self.tools, self.heed = source, asked, tools, heed
        self.reference = source.reference
        """What the files are compared with; None where nothing is."""
        self.speaker = ""
        """The file that speaks for the weights in it, and how it was compared; "" where they were computed."""
        self.conversion: Proof | None = None
        """Of an exact file that nobody asked for."""
        self.exact = next((name for name in EXACT if name in asked), exact_encoding(source.model))
        """In which the conversion is proven, and from which llama-quantize works."""
        ours = CONVERTED if tools.converter or tools.imatrix else tuple(ENCODINGS)
        needed = self.reference is not None or any(name not in ours for name in asked)
        self.written = [name for name in dict.fromkeys([self.exact, *asked] if needed else asked) if name in ours]
        self.paths = {name: source.folder / file_name(source.identity, name) for name in {*asked, *self.written}}
        self.ready = None if tools.converter else prepare(source.model, source.tokenizer, self.written)
        for name in asked:
            if name not in ours:
                check_kind(name, tools.imatrix)

    def remarks(self) -> Generator[Event, None, None]:
        """What is worth knowing before anything is written."""
        for note in self.ready.notes if self.ready else ():
            yield Warn("export.note", note)
        if self.reference is not None:
            yield from _worse(self.reference)
            if importlib.util.find_spec("xllamacpp") is None:
                yield _unverified("llama.cpp is not installed", "pip install xllamacpp")
                self.reference = None
        else:
            yield _unverified("nothing was compared, as asked for or as warned before", "leave out --no-proof")

    def done(self) -> Generator[Event, None, dict[str, Sequence[Ints]]]:
        """Write and prove every file; what each answers to the prompts, by encoding."""
        temporaries = {name: temporary_of(path) for name, path in self.paths.items()}
        answers: dict[str, Sequence[Ints]] = {}
        try:
            seconds = yield from self._write({name: temporaries[name] for name in self.written})
            if self.exact in self.written and self.exact not in self.asked:
                yield from self._conversion(temporaries[self.exact])
            for name in sorted(self.asked, key=lambda name: name != self.exact):
                if name not in self.written:
                    seconds = yield from self._quantized(name, temporaries)
                answers[name] = yield from self._file(name, temporaries[name], seconds)
        finally:
            for temporary in temporaries.values():
                temporary.unlink(missing_ok=True)
        return answers

    def _write(self, files: Mapping[str, Path]) -> Generator[Event, None, float]:
        """All files that are written here, in one pass over the weights; seconds."""
        yield Phase("exporting", ", ".join(self.paths[name].name for name in files))
        began = time.monotonic()
        with writing(self.source.folder):
            if self.ready is not None:
                write_ggufs(self.ready, files, self.source.identity, self.heed)
                return time.monotonic() - began
            assert self.tools.converter is not None
            for name, path in files.items():
                convert(self.tools.converter, self.source.model.folder, path, name)
        return time.monotonic() - began

    def _quantized(self, encoding: str, temporaries: Mapping[str, Path]) -> Generator[Event, None, float]:
        """A type that llama-quantize makes; seconds."""
        yield Phase("exporting", f"{self.paths[encoding].name}, by llama-quantize")
        began, exact = time.monotonic(), temporaries[self.exact]
        with writing(self.source.folder):
            quantize(exact if exact.exists() else self.paths[self.exact], temporaries[encoding], encoding,
                     self.tools.imatrix)  # fmt: skip
        return time.monotonic() - began

    def _conversion(self, temporary: Path) -> Generator[Event, None, None]:
        """Prove the conversion itself, by a file that nothing is rounded in and that nobody asked for."""
        if self.reference is None:
            return
        proof = yield from self._proven(temporary, f"conversion ({self.exact})", self.exact)
        if proof is not None and not proof.passed:
            raise rejected(self.source, proof, temporary, self.paths[self.exact])
        self.conversion = proof

    def _file(self, encoding: str, temporary: Path, seconds: float) -> Generator[Event, None, Sequence[Ints]]:
        """Prove the file at `temporary` and give it its name; returns its answers to the prompts."""
        path = self.paths[encoding]
        proof = (yield from self._proven(temporary, path.name, encoding)) if self.reference is not None else None
        with writing(path.parent):
            with suppress(KeyError):  # a file of another converter has no room for it
                set_string(temporary, PROOF, summary(proof))
            if proof is not None and not proof.passed:
                raise rejected(self.source, proof, temporary, path)
            settle(temporary)
            enter(self.source, temporary, path, proof, self.conversion)
        yield Product(encoding, name_in(path, self.source.run), path.stat().st_size, seconds)
        return proof.answers if proof else ()

    def _proven(self, path: Path, product: str, encoding: str) -> Generator[Event, None, Proof | None]:
        """The proof of the file at `path`; None with a warning where nothing here can read it."""
        yield Phase("proving", product)
        assert self.reference is not None
        tokenizer, reference = self.source.tokenizer, self.reference
        differs = self.ready.vocabulary.differs if self.ready else never
        made_of = self._made_of(path)
        try:
            proof = prove_file(path, product, encoding, tokenizer, reference, self.heed, differs=differs,
                               made_of=made_of, speaker=self.speaker)  # fmt: skip
        except MachineError as error:
            yield _unverified(error.problems[0].what, error.problems[0].fix)
            self.reference = None
            return None
        yield event_of(proof)
        if encoding in EXACT and proof.passed:
            self._let_speak(proof, encoding, path)
        return proof

    def _let_speak(self, proof: Proof, encoding: str, path: Path) -> None:
        """Where nothing here computed the weights in float32, an exact file that passed speaks for them from now on."""
        reference = self.reference
        if reference is None or proof.heard is None or reference.computed.get("weights") == "float32":
            return
        self.speaker = f"the {encoding} file, itself {_compared(proof, reference)}"
        there = reference.thinned(*affordable(path.stat().st_size))
        self.reference = there.also("weights", proof.heard, "float32", proof.answers)

    def _made_of(self, path: Path) -> Wanted | None:
        """What the tensors of the file at `path` should be: the weights, else those of the exact file."""
        if self.ready is not None:
            return of_weights(self.ready)
        settled = self.paths[self.exact]
        exact = next((one for one in (temporary_of(settled), settled) if one.exists()), path)
        return None if exact == path else of_file(exact)


def _compared(proof: Proof, reference: Reference) -> str:
    """How closely the file of `proof` was looked at."""
    if all(check.passed is None for check in proof.checks if check.name == "file"):
        return "not compared with them"
    return f"compared in {reference.computed[spokesman(reference)]}"


def _worse(reference: Reference) -> Generator[Event, None, None]:
    """A warning where the tuned model predicts the compared rows worse than the base does."""
    if not {"tuned", "base"} <= reference.said.keys() or reference.held_out == "training":
        return
    learned = reference.places.learned
    tuned, base = (loss(reference.said[who], learned) for who in ("tuned", "base"))
    if tuned > base:
        text = (
            f"the tuned model predicts the {reference.held_out} rows worse than its base (loss {tuned:.3f}, "
            f"base {base:.3f}): more rows, fewer epochs or a lower learning rate may help"
        )
        yield Warn("proof.worse", text)


def _unverified(why: str, fix: str) -> Warn:
    return Warn("proof.unverified", f"the files are not verified: {why}; {fix}")


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
