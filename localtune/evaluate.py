"""What a model is worth on test rows: its loss, and exact match of its own answers, before and after.

Answers are greedy; a match is the whole text, but for white space at its ends.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from localtune.adapter import Lora
from localtune.backend import Sampling, Session, load_backend
from localtune.data.prepared import TestItem
from localtune.data.tokenizer import Tokenizer
from localtune.events import Evaluation, Match
from localtune.job import Job
from localtune.runs.folder import Run
from localtune.score import score


def answers(
    session: Session, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], sampling: Sampling, *, adapter: bool
) -> list[str]:
    """The text each prompt is answered with, without the stop token."""
    drawn: list[list[int]] = [[] for _ in prompts]
    for row, token in session.generate(prompts, sampling, adapter=adapter):
        if token not in sampling.stop:
            drawn[row].append(token)
    return [tokenizer.decode(tokens, skip_special=True) for tokens in drawn]


def exact_matches(
    session: Session,
    tokenizer: Tokenizer,
    tests: Sequence[TestItem],
    sampling: Sampling,
    *,
    who: str,
    step: int,
    adapter: bool = True,
) -> Iterator[Match]:
    """One `Match` of `who` (base or tuned) for all test rows, and one per group where rows have groups."""
    began = time.monotonic()
    said = answers(session, tokenizer, [test.prompt.tolist() for test in tests], sampling, adapter=adapter)
    seconds = time.monotonic() - began
    rows = Counter(group for test in tests for group in {"", test.group})
    exact = Counter(
        group
        for test, text in zip(tests, said, strict=True)
        if text.strip() == test.expected.strip()
        for group in {"", test.group}
    )
    for group in sorted(rows):
        yield Match(step, who, group, rows[group], exact[group], seconds)


def evaluate_tests(
    job: Job, session: Session, who: str, step: int, *, adapter: bool = True
) -> Iterator[Evaluation | Match]:
    """Loss, then exact match, on the test rows; `who` is base or tuned."""
    tests, began = job.prepared.test, time.monotonic()
    result = score(session, job.batches([test.segment for test in tests]), adapter=adapter)
    seconds = time.monotonic() - began
    yield Evaluation(step, f"test, {who}", result.loss, result.targets, result.accuracy, False, seconds)
    yield from exact_matches(session, job.tokenizer, tests, job.sampling, who=who, step=step, adapter=adapter)


def measure(job: Job) -> Iterator[Evaluation | Match]:
    """Base and product of a run on its test rows."""
    backend, step = load_backend(job.plan.device.backend), 0
    with job.open_product(backend) as session:
        yield from evaluate_tests(job, session, "tuned", step)
        if isinstance(job.trainable, Lora):
            yield from evaluate_tests(job, session, "base", step, adapter=False)
            return
    with job.open_base(backend) as session:
        yield from evaluate_tests(job, session, "base", step)


def evaluation_of(run: Run, step: int) -> dict[str, object]:
    """What was measured before and after, from the events of the run."""
    found = [e for e, _ in run.read_events() if isinstance(e, Evaluation | Match) and e.step in (0, step)]
    before, after = ([figures(e) for e in found if (e.step == 0) is first] for first in (True, False))
    return {"step": step, "base": before, "tuned": after}


def figures(event: Evaluation | Match) -> dict[str, object]:
    """One measurement for a program."""
    if isinstance(event, Match):
        share = event.exact / event.rows
        return {
            "measure": "exact match",
            "group": event.group,
            "rows": event.rows,
            "exact": event.exact,
            "share": share,
        }
    counts = {"targets": event.targets, "accuracy": event.accuracy}
    return {"measure": "loss", "split": event.split, "loss": event.loss, "perplexity": math.exp(event.loss)} | counts
