"""What Live says of a run, as lines of text: made from a `RunView` and the run's `Facts` alone, so that it is the same
for the same moment.

Losses are nats per target; memory is GB (10^9 bytes), and the peak, which is all that a run records of it.
"""

import math
from collections.abc import Iterator, Sequence

from localtune.events import (
    Checkpoint,
    Done,
    Evaluation,
    Event,
    Failed,
    Match,
    Phase,
    Product,
    Proof,
    Replies,
    Sample,
    Step,
    Unknown,
    Warn,
)
from localtune.sizes import readable
from localtune_tui.amounts import about, bar, clock, duration, sign, trend
from localtune_tui.facts import Facts
from localtune_tui.run_rows import stem
from localtune_tui.run_view import Moment, RunView

NONE = "—"
LABEL = 14
"""Width of what a number is called."""


def head(view: RunView, facts: Facts, *, wide: bool, ascii_only: bool = False) -> str:
    """Who it is and what it does: "support-bot ▸ Qwen3-1.7B ▸ qlora nf4 r16   ● training"."""
    arrow = " > " if ascii_only else " ▸ "
    who = arrow.join(part for part in (stem(view.name), facts.model, facts.method) if part)
    what = f"{sign(view.state, ascii_only=ascii_only)} {_doing(view)}"
    more = []
    if wide and view.began:
        more.append(f"since {clock(view.began)}")
    if wide and view.pid is not None and view.alive:
        more.append(f"pid {view.pid}")
    if view.alive:
        more.append("detached ok")
    return "   ".join([who, what, *more])


def progress(view: RunView, facts: Facts, width: int, now: float, *, ascii_only: bool = False) -> str:
    """The bar, with what is left: "step 381/1,143 ███░░░ 33%  epoch 0.67/2  14m36s  ETA 29m (±2m)"."""
    steps = view.steps or facts.steps
    share = view.step / steps if steps else 0.0
    parts = [f"{share:.0%}"]
    if view.last is not None and width >= 100:
        parts.append(
            f"epoch {view.last.epoch:.2f}/{facts.epochs:.3g}" if facts.epochs else f"epoch {view.last.epoch:.2f}"
        )
    parts.append(duration(view.elapsed(now)))
    parts += _remaining(view)
    start, end = f"step {view.step:,}/{steps:,} ", " " + "  ".join(parts)
    return start + bar(share, max(4, width - len(start) - len(end)), ascii_only=ascii_only) + end


def now_lines(view: RunView, facts: Facts, width: int, *, ascii_only: bool = False) -> list[str]:
    """The pane of numbers, a line each; what is not known yet is a dash."""
    step = view.last
    rate = f"{step.learning_rate:.2e}  {facts.schedule}".rstrip() if step else NONE
    clip = f"   clip {facts.clip:g}" if facts.clip else ""
    lines = [
        ("train loss", _train(view, ascii_only=ascii_only)),
        ("val loss", _valid(view, ascii_only=ascii_only)),
        ("learning rate", rate),
        ("grad norm", f"{step.gradient_norm:.2f}{clip}" if step else NONE),
    ]
    said = [f"{name:<{LABEL}} {value}" for name, value in lines]
    said.append(
        f"speed   {view.pace.tokens:,.0f} tok/s · {view.pace.seconds:.2g} s/step" if step else f"speed   {NONE}"
    )
    tests = list(_tests(view)) or [""]
    return [*said, f"tokens  {tokens(view, facts)}", *tests, *memory_lines(view, facts, width, ascii_only=ascii_only)]


def folded(view: RunView, facts: Facts, *, ascii_only: bool = False) -> list[str]:
    """The numbers in two lines, for a small terminal."""
    step, found = view.last, view.evaluations[-1:]
    change = view.change()
    arrow = f" {trend(change[0], ascii_only=ascii_only)}" if change else ""
    first = [
        f"train {_loss(float(view.smoothed[-1]))}{arrow}" if len(view.smoothed) else f"train {NONE}",
        f"val {_loss(found[0].loss)}" if found else f"val {NONE}",
    ]
    if step:
        first += [f"lr {step.learning_rate:.1e}", f"grad {step.gradient_norm:.2f}", f"{view.pace.tokens:,.0f} tok/s"]
    share = view.peak_bytes / facts.memory_limit if facts.memory_limit else 0.0
    limit = f"/{readable(facts.memory_limit)}" if facts.memory_limit else ""
    planned = f"  planned {readable(facts.memory_needed)}" if facts.memory_needed else ""
    second = f"memory {bar(share, 14, ascii_only=ascii_only)} peak {readable(view.peak_bytes)}{limit}{planned}"
    return ["  ".join(first), f"{second}  {tokens(view, facts)} tok"]


def tokens(view: RunView, facts: Facts) -> str:
    """Seen and all, and the share of the seen that is learned: "1.20/3.61 M · 38% learned"."""
    if not view.tokens:
        return NONE
    unit, letter = (1e6, "M") if max(view.tokens, facts.tokens) >= 1e6 else (1e3, "k")
    whole = f"/{facts.tokens / unit:.2f}" if facts.tokens > view.tokens else ""
    return f"{view.tokens / unit:.2f}{whole} {letter} · {view.targets / view.tokens:.0%} learned"


def memory_lines(view: RunView, facts: Facts, width: int, *, ascii_only: bool = False) -> list[str]:
    """The bar of the peak against the limit, and what was planned."""
    if not facts.memory_limit:
        return [f"{'memory peak':<{LABEL}} {readable(view.peak_bytes)}"] if view.peak_bytes else []
    said = f" {readable(view.peak_bytes)}" if view.peak_bytes else f" {NONE}"
    share = bar(view.peak_bytes / facts.memory_limit, max(6, width - len(said) - 8), ascii_only=ascii_only)
    planned = f"planned {readable(facts.memory_needed)}   limit {readable(facts.memory_limit)}"
    return [f"memory {share}{said}", f"  {planned}"]


def chart_title(view: RunView) -> str:
    """Last and best, for the border of the chart."""
    parts = [f"last {_loss(float(view.losses[-1]))}"] if len(view.losses) else []
    if view.best is not None:
        parts.append(f"best val {_loss(view.best.loss)} @{view.best.step:,}")
    return "  ".join(parts)


def sample_lines(view: RunView, place: int, prompts: Sequence[str]) -> tuple[str, list[tuple[str, str]]]:
    """A title and (who, text) of the newest answers to the prompt at `place`, which goes round."""
    newest: dict[str, Sample] = {sample.prompt: sample for sample in view.samples}
    if not newest:
        why = "answered at the next evaluation" if prompts else "this recipe has no watch.samples"
        return "samples", [("", f"none yet: {why}" if prompts else why)]
    answered = list(newest.values())
    sample = answered[place % len(answered)]
    which = f"{place % len(answered) + 1} of {len(answered)} prompts" if len(answered) > 1 else "fixed prompt"
    title = f"samples at step {sample.step:,} ({which})"
    return title, [("user", sample.prompt), ("base", sample.base), ("tuned", sample.tuned)]


def event_lines(moments: Sequence[Moment], wanted: str = "") -> list[str]:
    """Everything that happened, the newest first, as far as `wanted` is in it."""
    lines = [f"{clock(moment.when)} {said}" for moment in reversed(moments) for said in _said(moment.event)]
    return [line for line in lines if wanted.casefold() in line.casefold()]


def next_commands(view: RunView) -> list[str]:
    """What can be typed when it is done: compare, then export."""
    if view.state != "done":
        return []
    export = "" if any(product.path.endswith(".gguf") for product in view.products) else " --gguf Q8_0"
    return [f"localtune chat {view.name} --compare", f"localtune export {view.name}{export}"]


def _doing(view: RunView) -> str:
    return view.phase or "running" if view.state == "running" else view.state


def _remaining(view: RunView) -> list[str]:
    if not view.alive or view.pace.left is None or view.steps == view.step:
        return []
    return [f"ETA {about(view.pace.left)} (±{about(view.pace.spread)})"]


def _loss(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) and abs(value) < 1 else f"{value:.2f}"


def _train(view: RunView, *, ascii_only: bool) -> str:
    if not len(view.smoothed):
        return NONE
    change = view.change()
    moved = f"  {trend(change[0], ascii_only=ascii_only)} {_loss(abs(change[0]))}/{change[1]}" if change else ""
    return f"{_loss(float(view.smoothed[-1]))}{moved}"


def _valid(view: RunView, *, ascii_only: bool) -> str:
    if not view.evaluations:
        return NONE
    last, before = view.evaluations[-1], view.evaluations[-2:-1]
    arrow = f"  {trend(last.loss - before[0].loss, ascii_only=ascii_only)}" if before else ""
    gap = f" gap {last.loss - float(view.smoothed[-1]):+.2f}" if len(view.smoothed) else ""
    return f"{_loss(last.loss)}{arrow}{gap}"


def _tests(view: RunView) -> Iterator[str]:
    """Base against tuned on the test rows, once they are measured."""
    for name, of in (("test loss", Evaluation), ("exact match", Match)):
        found = {test.who: test for test in view.tests if isinstance(test, of) and not getattr(test, "group", "")}
        if found:
            said = {who: _test(test) for who, test in found.items()}
            yield f"{name:<{LABEL}} {' → '.join(said[who] for who in ('base', 'tuned') if who in said)}"


def _test(test: Evaluation | Match) -> str:
    if isinstance(test, Evaluation):
        return _loss(test.loss)
    return f"{test.exact / test.rows:.0%}" if test.rows else NONE


def _said(event: Event) -> Iterator[str]:
    """An event in one line; of a failure as many as it has, up to four."""
    match event:
        case Phase(name=name, detail=detail):
            yield f"{name}  {detail}"
        case Evaluation():
            best = " (best)" if event.best else ""
            what = "val loss" if event.split == "valid" else f"{event.who} {event.split} loss"
            yield f"{what} {event.loss:.4g}{best} at step {event.step:,}, accuracy {event.accuracy:.1%}"
        case Match():
            of = f" ({event.group})" if event.group else ""
            yield f"{event.who} exact match{of} {event.exact:,} of {event.rows:,}"
        case Sample():
            yield f"sample at step {event.step:,}: {event.tuned}"
        case Checkpoint():
            yield f"checkpoint {event.folder} saved ({readable(event.size)}, {event.seconds:.1f} s)"
        case Product():
            yield f"made {event.name}: {event.path} ({readable(event.size)}) in {duration(event.seconds)}"
        case Proof():
            failed = [str(check.get("name", "?")) for check in event.checks if check.get("passed") is False]
            verdict = "passed" if event.passed else f"FAILED: {', '.join(failed)}"
            yield f"proof of {event.product}: {verdict} ({len(event.checks)} checks, {duration(event.seconds)})"
        case Replies():
            yield f"one prompt, answered by {len(event.texts)}: {event.prompt}"
        case Warn():
            yield f"{'note' if event.code.endswith('.note') else f'warning[{event.code}]'}: {event.text}"
        case Done():
            yield f"ended at step {event.step:,} ({event.reason}) after {duration(event.seconds)}"
        case Failed():
            yield from event.text.splitlines()[:4]
        case Step() | Unknown():
            return
