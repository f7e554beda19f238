"""What a model is worth on test rows: its loss, and exact match of its own answers, before and after.

Answers are greedy; a match is the whole text, but for white space at its ends.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence

from localtune.adapter import Lora
from localtune.backend import Sampling, Session, load_backend
from localtune.data.prepared import TestItem
from localtune.data.tokenizer import Tokenizer
from localtune.events import Evaluation, Match
from localtune.job import Job
from localtune.runs.folder import Run
from localtune.score import nothing_asked, score


def answers(
    session: Session,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    adapter: bool = True,
    check: Callable[[], None] = nothing_asked,
) -> list[str]:
    """The text each prompt is answered with, without the stop token; `check` may raise between two tokens."""
    drawn: list[list[int]] = [[] for _ in prompts]
    for row, token in session.generate(prompts, sampling, adapter=adapter):
        check()
        if token not in sampling.stop:
            drawn[row].append(token)
    return [tokenizer.decode(tokens, skip_special=True) for tokens in drawn]


def evaluate_tests(
    job: Job,
    session: Session,
    who: str,
    step: int,
    *,
    adapter: bool = True,
    check: Callable[[], None] = nothing_asked,
) -> Iterator[Evaluation | Match]:
    """Loss on the test rows, then exact match of all of them and of each group; `who` is base or tuned."""
    tests, began = job.prepared.test, time.monotonic()
    result = score(session, job.batches([test.segment for test in tests]), adapter=adapter, check=check)
    seconds = time.monotonic() - began
    yield Evaluation(step, "test", who, result.loss, result.targets, result.accuracy, False, seconds)
    began = time.monotonic()
    prompts = [test.prompt.tolist() for test in tests]
    said = answers(session, job.tokenizer, prompts, job.sampling, adapter=adapter, check=check)
    seconds = time.monotonic() - began
    for group, (rows, exact) in _matches(tests, said).items():
        yield Match(step, who, group, rows, exact, seconds)


def _matches(tests: Sequence[TestItem], said: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Rows and exact matches by group; "" = all."""
    found: dict[str, tuple[int, int]] = {}
    for test, text in zip(tests, said, strict=True):
        for group in {"", test.group}:
            rows, exact = found.get(group, (0, 0))
            found[group] = (rows + 1, exact + (text.strip() == test.expected.strip()))
    return dict(sorted(found.items()))


def measure(job: Job) -> Iterator[Evaluation | Match]:
    """Base and product of a run on its test rows."""
    backend = load_backend(job.plan.device.backend)
    with job.open_product(backend) as session:
        yield from evaluate_tests(job, session, "tuned", 0)
        if isinstance(job.trainable, Lora):
            yield from evaluate_tests(job, session, "base", 0, adapter=False)
            return
    with job.open_base(backend) as session:
        yield from evaluate_tests(job, session, "base", 0)


def evaluation_of(run: Run, step: int) -> dict[str, object]:
    """What was measured of base and tuned model, from the events of the run up to update `step`."""
    found = [e for e, _ in run.read_events() if isinstance(e, Evaluation | Match)]
    base, tuned = ([figures(e) for e in found if e.who == who] for who in ("base", "tuned"))
    return {"step": step, "base": base, "tuned": tuned}


def figures(event: Evaluation | Match) -> dict[str, object]:
    """One measurement for a program; a number that is not finite is null."""
    head = {"step": event.step, "who": event.who}
    if isinstance(event, Match):
        share = event.exact / event.rows
        counts = {"rows": event.rows, "exact": event.exact, "share": share}
        return head | {"measure": "exact match", "split": "test", "group": event.group} | counts
    numbers = {"loss": event.loss, "perplexity": event.perplexity, "accuracy": event.accuracy}
    finite = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
    return head | {"measure": "loss", "split": event.split, "targets": event.targets} | finite
