"""From a name to a model that answers: a run, a model's folder, or a GGUF file."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal

from localtune.adapter import Full, Nothing, base_of
from localtune.answering import by_length, context_on, usable_memory, willing
from localtune.backend import Device, MemorySpec, Precision, Session, Settings, load_backend
from localtune.chat.adapters import Adapters, read_adapters
from localtune.chat.answer import Speaker
from localtune.chat.speakers import GgufSpeaker, SessionSpeaker
from localtune.data.conversations import Conversation, Message
from localtune.data.rendering import Rendering
from localtune.data.rows import Place
from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError, Problem
from localtune.export.read import read_gguf
from localtune.job import Job
from localtune.llamacpp import LlamaServer
from localtune.model import ModelFiles, resolve
from localtune.plan import settings_of
from localtune.runs.folder import Run
from localtune.runs.store import find_run
from localtune.typed import typed

CONTEXT = 8192
"""Tokens of conversation that llama.cpp keeps memory for, where the model reads as many."""
FEEDBACK = "feedback"
"""Folder of the rows that a user says are good or bad."""


class Chat(AbstractContextManager["Chat"]):
    """Who can be asked, loaded when first asked. Leaving it frees them."""

    def __init__(
        self,
        name: str,
        template: bool,
        openers: Mapping[str, Callable[[ExitStack], Speaker]],
        *,
        feedback: Path = Path(FEEDBACK),
        adapters: Adapters | None = None,
    ) -> None:
        self.name = name
        self.feedback = feedback
        """Where answers go that the user rates."""
        self.adapters = adapters
        """Beside a GGUF; None where there are none to choose from."""
        self.template = template
        """Whether it reads conversations; without a template one text is continued as it is."""
        self.who = tuple(openers)
        """"tuned" and "base" of a run, "model" of a file or folder alone; the first is meant where none is named."""
        self._openers, self._stack = openers, ExitStack()
        self._speakers: dict[str, Speaker] = {}

    def speaker(self, who: str) -> Speaker:
        """The one called `who`. Raises `InputError` for a name that is not in `self.who`, and the errors of loading."""
        if who not in self._openers:
            what = f"{self.name} has no {who!r} to talk to, only {' and '.join(self.who)}"
            raise InputError(Problem("chat.who", what))
        if who not in self._speakers:
            self._speakers[who] = self._openers[who](self._stack)
        return self._speakers[who]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def find(name: str) -> Run | Path:
    """The run, the model's folder or the file that `name` means. Raises `InputError`."""
    path = Path(os.path.expanduser(name))
    if path.is_file() or _is_model(path):
        return path
    try:
        return find_run(name)
    except InputError as error:
        (problem,) = error.problems
        if problem.code != "run.unknown":
            raise
        there = "that folder holds no model" if path.is_dir() else "there is no such file or folder"
        raise InputError(replace(problem, what=f"{problem.what}, and {there}")) from None


def open_run(job: Job) -> Chat:
    """Base and product of a run; an adapter shares its base's memory. Asking an unfinished run raises `InputError`."""
    backend = load_backend(job.plan.device.backend)

    def speaker(stack: ExitStack, session: Session, *, adapter: bool = True) -> Speaker:
        context = context_on(backend, job.model, settings_of(job.recipe, job.plan))
        return SessionSpeaker(session, _rendering(stack, job.tokenizer), job.sampling.stop, context, adapter=adapter)

    if isinstance(job.trainable, Full):
        openers = {
            "tuned": lambda stack: speaker(stack, stack.enter_context(job.open_product(backend))),
            "base": lambda stack: speaker(stack, stack.enter_context(job.open_base(backend))),
        }
        return Chat(job.run.name, job.tokenizer.template is not None, openers, feedback=job.run.folder / FEEDBACK)
    shared: list[Session] = []

    def both(stack: ExitStack, *, adapter: bool) -> Speaker:
        if not shared:
            shared.append(stack.enter_context(job.open_product(backend)))
        return speaker(stack, shared[0], adapter=adapter)

    voices = {"tuned": partial(both, adapter=True), "base": partial(both, adapter=False)}
    return Chat(job.run.name, job.tokenizer.template is not None, voices, feedback=job.run.folder / FEEDBACK)


def open_folder(folder: Path, backends: Sequence[str] | None = None) -> Chat:
    """A model in Hugging Face's layout, in the type this machine computes in fastest.

    The first of `backends`, by default all in order, that computes the model as it is; where none does, loading it
    raises `InputError` with what each refuses.
    """
    model = resolve(str(folder.resolve()), folder, offline=True)
    tokenizer = Tokenizer(model.folder)

    def opened(stack: ExitStack) -> Speaker:
        device, settings = willing(model, lambda device: by_length(model, _settings(model, device)), backends)
        session = load_backend(device.backend).open(
            model,
            Nothing(),
            None,
            precision=settings.precision,
            objective=None,
            optimizer=None,
            memory=settings.memory,
            seed=0,
        )
        rendering = _rendering(stack, tokenizer)
        return SessionSpeaker(stack.enter_context(session), rendering, stops(model, rendering), settings.max_tokens)

    return Chat(folder.name, tokenizer.template is not None, {"model": opened})


def open_gguf(path: Path, loras: Sequence[str] = ()) -> Chat:
    """A GGUF file in llama.cpp, with the LoRA files `loras`; the base is then the same without them.

    Raises `InputError` for what is no model, or no LoRA, or one of another model, and what llama.cpp does not load.
    """
    template, adapters = has_template(path), read_adapters(loras, path)
    shared: list[LlamaServer] = []

    def opened(stack: ExitStack, *, base: bool) -> Speaker:
        if not shared:
            files = adapters.paths if adapters else ()
            shared.append(stack.enter_context(LlamaServer(path, context=CONTEXT, exact=False, adapters=files)))
        return GgufSpeaker(shared[0], template=template, adapters=adapters, base=base)

    voices = {"tuned": False, "base": True} if adapters else {"model": False}
    openers = {who: partial(opened, base=base) for who, base in voices.items()}
    return Chat(path.name, template, openers, feedback=_feedback_beside(path), adapters=adapters)


def has_template(path: Path) -> bool:
    """Whether the model in a GGUF file reads conversations. Raises `InputError` for what is no model."""
    stated = read_gguf(path).metadata
    if stated.get("general.type") == "adapter":
        what = "is an adapter, and answers only together with its base"
        beside = f"localtune chat BASE.gguf --lora {typed(path)}"
        fix = f"{beside}; localtune export RUN  writes a model that answers alone"
        raise InputError(Problem("chat.adapter", what, str(path), fix=fix))
    return bool(stated.get("tokenizer.chat_template"))  # llama.cpp's ChatML stands in for an empty one


def stops(model: ModelFiles, rendering: Rendering) -> tuple[int, ...]:
    """Every token that ends an answer: those the model names, eos, and what its template writes behind an answer."""
    tokenizer = rendering.tokenizer
    ends = {*model.stop_ids} | ({tokenizer.eos_id} if tokenizer.eos_id is not None else set())
    if tokenizer.template is not None:
        talk = Conversation(Place("a short chat", 1), (Message("user", "a"), Message("assistant", "b")))
        list(rendering.render([[talk]]))  # a template that refuses it has shown no end
        if rendering.end_of_turn:
            ends.add(tokenizer.id_of(rendering.end_of_turn))
    return tuple(sorted(ends))


def _feedback_beside(path: Path) -> Path:
    """Beside a file, or in the folder of the run it was exported from; here where that cannot be written to."""
    beside = path.resolve().parent
    if (beside.parent / "plan.json").is_file():
        beside = beside.parent
    return (beside if os.access(beside, os.W_OK) else Path.cwd()) / FEEDBACK


def _settings(model: ModelFiles, device: Device) -> Settings:
    """How a model answers on `device`: all that it reads, in the fastest type, quantised only where its files are."""
    number: Literal["bfloat16", "float32"] = "bfloat16" if device.dtypes[0] == "bfloat16" else "float32"
    precision = Precision("checkpoint" if model.config.quantized == "mlx" else number, number)
    memory = MemorySpec(usable_memory(device))
    return Settings(Nothing(), precision, None, None, memory, model.config.context, packed=False)


def _rendering(stack: ExitStack, tokenizer: Tokenizer) -> Rendering:
    return stack.enter_context(Rendering(tokenizer, learn="answers", workers=1))


def _is_model(folder: Path) -> bool:
    """Whether `folder` holds a model in Hugging Face's layout. Raises `InputError` where it nearly does."""
    if (folder / "plan.json").is_file():
        return False
    if (folder / "adapter_config.json").is_file():
        raise InputError(_adapter(folder))
    if (folder / "config.json").is_file():
        return True
    files = sorted(folder.glob("*.gguf"))
    if files:
        fix = f"localtune chat {typed(files[0])}"
        raise InputError(Problem("chat.which", "name the file in it", str(folder), fix=fix))
    return False


def _adapter(folder: Path) -> Problem:
    what, inside = "is an adapter, and answers only together with its base", folder.resolve().parent
    if (inside / "plan.json").is_file():
        return Problem("chat.adapter", what, str(folder), fix=f"localtune chat {typed(inside)}")
    base = typed(base_of(folder) or "BASE")
    fix = f"localtune fuse {typed(folder)} -m {base} -o FUSED   and then   localtune chat FUSED"
    return Problem("chat.adapter", what, str(folder), fix=fix)
