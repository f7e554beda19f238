"""What a trained model says, written down while its session is open: `reference.safetensors`.

Up to 64 positions of each of up to 8 held-out rows, with the distribution that follows each (`distribution`), and the
greedy answers to a few prompts, of the tuned and of the base model. Whatever is made of the run later is compared with
it, on this machine or another, without the session.

Arrays of the file: lists of tokens lie end to end with their offsets (`rows`, `prompts`, `answers.WHO`); `row`, `at`
and `learned` int32 [P] say where a position is and whether the token after it was a target; `WHO.ids`, `WHO.logprobs`,
`WHO.following` are the distributions.
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from localtune.adapter import Full
from localtune.backend import Sampling, Session, load_backend
from localtune.batch import Ints, Segment
from localtune.distribution import Distributions, from_logits, together
from localtune.errors import InputError, Problem
from localtune.job import Job
from localtune.memory import BYTES
from localtune.outlay import ANSWER, PROMPTS
from localtune.places import LONGEST, Places, places_in, rows_to_compare
from localtune.runs.files import FORMAT, write_bytes
from localtune.score import nothing_asked


@dataclass(frozen=True, eq=False)
class Prompt:
    """Something to be answered."""

    text: str
    """As a person reads it."""
    tokens: Ints


@dataclass(frozen=True, eq=False)
class Reference:
    """What was said at the places and to the prompts, by name of who said it.

    tuned, base: the session that trained, with and without its adapter. Computed later, in float32 if possible:
    expected, original: the base's own weights with and without the adapter; weights: what a product is made of.
    """

    places: Places
    prompts: tuple[Prompt, ...]
    stops: tuple[int, ...]
    """Tokens that end an answer."""
    held_out: str
    """Which rows these are: validation, test, training or built-in."""
    said: Mapping[str, Distributions]
    answers: Mapping[str, tuple[Ints, ...]]
    """One list of tokens per prompt, the stop token included."""
    computed: Mapping[str, str]
    """In what type: float32, bfloat16, float16; where the weights were quantised, how they were stored."""

    def thinned(self, positions: int, prompts: int) -> "Reference":
        """With at most so many positions, evenly chosen, and so many prompts."""
        there = len(self.places.row)
        kept = np.linspace(0, max(0, there - 1), min(positions, there)).round().astype(np.int64)
        return replace(
            self,
            places=self.places.at_indices(kept),
            said={who: said.at_indices(kept) for who, said in self.said.items()},
            prompts=self.prompts[:prompts],
            answers={who: answers[:prompts] for who, answers in self.answers.items()},
        )

    def also(self, who: str, said: Distributions, computed: str, answers: Sequence[Ints] = ()) -> "Reference":
        """With what somebody else says."""
        return replace(
            self,
            said={**self.said, who: said},
            answers={**self.answers, who: tuple(answers)},
            computed={**self.computed, who: computed},
        )


def blank(job: Job) -> Reference:
    """The run's reference, to which nobody has said anything yet."""
    prepared, context = job.prepared, job.model.config.context
    held_out, segments = rows_to_compare(prepared)
    asked = [item.prompt for item in prepared.test] or [_prompt_of(segment) for segment in segments]
    shown = [Prompt(job.tokenizer.decode(ids.tolist(), skip_special=True), ids) for ids in asked[:PROMPTS]]
    prompts = [*(Prompt(sample.text, sample.prompt) for sample in prepared.samples), *shown]
    fitting = [prompt for prompt in prompts if 0 < len(prompt.tokens) <= min(LONGEST, context - ANSWER)]
    return Reference(places_in(segments, context), tuple(fitting[:PROMPTS]), job.sampling.stop, held_out, {}, {}, {})


def _prompt_of(segment: Segment) -> Ints:
    """Up to the first learned token; of a passage, which is learned from its beginning, the first few tokens."""
    first = int(np.argmax(segment.weights > 0))
    return segment.tokens[: first if first > 1 else min(16, len(segment.tokens))]


def listen(
    session: Session, places: Places, *, adapter: bool = True, check: Callable[[], None] = nothing_asked
) -> Distributions:
    """What `session` says at the places; `check` may raise between two rows."""
    parts = []
    for i, tokens in enumerate(places.rows):
        check()
        at = places.at[places.row == i]
        parts.append(from_logits(session.logits(tokens.tolist(), at.tolist(), adapter=adapter), tokens[at + 1]))
    return together(parts)


def ask(
    session: Session, reference: Reference, *, adapter: bool = True, check: Callable[[], None] = nothing_asked
) -> tuple[Ints, ...]:
    """The greedy answers of `session`, at most `ANSWER` tokens each."""
    drawn: list[list[int]] = [[] for _ in reference.prompts]
    prompts = [prompt.tokens.tolist() for prompt in reference.prompts]
    if prompts:
        for row, token in session.generate(prompts, Sampling(reference.stops, ANSWER), adapter=adapter):
            check()
            drawn[row].append(token)
    return tuple(np.array(tokens, np.int32) for tokens in drawn)


def record(job: Job, session: Session, path: Path, check: Callable[[], None] = nothing_asked) -> Reference:
    """Write down what the tuned model in `session` says, and the base: with an adapter both are in one memory."""
    reference = blank(job)
    precision = job.plan.precision
    computed = precision.compute if precision.storage in BYTES else precision.storage
    reference = _heard(reference, "tuned", session, computed, True, check)
    if isinstance(job.trainable, Full):
        with job.open_base(load_backend(job.plan.device.backend)) as base:
            reference = _heard(reference, "base", base, computed, True, check)
    else:
        reference = _heard(reference, "base", session, computed, False, check)
    write(reference, path)
    return reference


def _heard(
    reference: Reference, who: str, session: Session, computed: str, adapter: bool, check: Callable[[], None]
) -> Reference:
    said = listen(session, reference.places, adapter=adapter, check=check)
    return reference.also(who, said, computed, ask(session, reference, adapter=adapter, check=check))


def write(reference: Reference, path: Path) -> None:
    """Replace `path` by `reference`; `read` is the inverse."""
    places = reference.places
    arrays: dict[str, Any] = _packed("rows", places.rows) | _packed(
        "prompts", [prompt.tokens for prompt in reference.prompts]
    )
    arrays |= {"row": places.row, "at": places.at, "learned": places.learned}
    for who, said in reference.said.items():
        arrays |= {f"{who}.ids": said.ids, f"{who}.logprobs": said.logprobs, f"{who}.following": said.following}
    for who, answers in reference.answers.items():
        arrays |= _packed(f"answers.{who}", answers)
    rest = {
        "format": str(FORMAT),
        "held_out": reference.held_out,
        "stops": json.dumps(reference.stops),
        "texts": json.dumps([prompt.text for prompt in reference.prompts]),
        "computed": json.dumps(dict(reference.computed)),
    }
    write_bytes(path, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata=rest))


def read(path: Path) -> Reference:
    """What `write` wrote. Raises `InputError` (run.unreadable) for a missing, torn or foreign file."""
    try:
        with safe_open(path, framework="numpy") as file:
            rest, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if rest["format"] != str(FORMAT):
            raise ValueError(f"format {rest['format']!r} is not known")
        return _parsed(rest, arrays)
    except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
        what = f"cannot be read as a reference: {error}"
        raise InputError(Problem("run.unreadable", what, str(path), fix=f"remove {path} and try again")) from None


def _parsed(rest: dict[str, str], arrays: dict[str, Any]) -> Reference:
    places = Places(_unpacked("rows", arrays), arrays["row"], arrays["at"], arrays["learned"])
    texts, who = json.loads(rest["texts"]), json.loads(rest["computed"])
    ends = np.array([len(tokens) for tokens in places.rows])
    if not (places.row >= 0).all() or not (places.at >= 0).all() or (places.at + 1 >= ends[places.row]).any():
        raise ValueError("its positions lie outside its rows")
    prompts = tuple(Prompt(*pair) for pair in zip(texts, _unpacked("prompts", arrays), strict=True))
    said = {w: Distributions(arrays[f"{w}.ids"], arrays[f"{w}.logprobs"], arrays[f"{w}.following"]) for w in who}
    answers = {w: _unpacked(f"answers.{w}", arrays) for w in who}
    if any(len(one.ids) != len(places.row) or one.ids.shape != one.logprobs.shape for one in said.values()):
        raise ValueError("its distributions do not fit its positions")
    return Reference(places, prompts, tuple(json.loads(rest["stops"])), rest["held_out"], said, answers, who)


def _packed(name: str, lists: Sequence[Ints]) -> dict[str, Ints]:
    none = np.zeros(0, np.int32)
    offsets = np.cumsum([0, *(len(tokens) for tokens in lists)], dtype=np.int32)
    return {f"{name}.tokens": np.concatenate([none, *lists]).astype(np.int32), f"{name}.offsets": offsets}


def _unpacked(name: str, arrays: dict[str, Any]) -> tuple[Ints, ...]:
    tokens, offsets = arrays[f"{name}.tokens"], arrays[f"{name}.offsets"].tolist()
    return tuple(tokens[start:stop] for start, stop in itertools.pairwise(offsets))
