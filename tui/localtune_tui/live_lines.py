"""What Live says of a run, as lines of text: made from a `RunView` and the run's `Facts` alone, so that it is the same
for the same moment.

Losses are nats per target; memory is GB (10^9 bytes): what is used now, else the peak, which is all that
a run records of it.
"""

import math
from collections.abc import Iterator, Sequence

from localtune import words
from localtune.events import Evaluation, Match, Sample
from localtune.sizes import readable
from localtune_tui.amounts import about, bar, clock, sign, trend
from localtune_tui.facts import Facts
from localtune_tui.gauges import Reading, gauge_lines, gauge_words
from localtune_tui.run_rows import stem
from localtune_tui.run_view import Moment, RunView

NONE = "—"
UNREAD = Reading()
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
    parts.append(words.duration(view.elapsed(now)))
    parts += _remaining(view)
    start, end = f"step {view.step:,}/{steps:,} ", " " + "  ".join(parts)
    return start + bar(share, max(4, width - len(start) - len(end)), ascii_only=ascii_only) + end


def now_lines(
    view: RunView, facts: Facts, width: int, reading: Reading = UNREAD, *, ascii_only: bool = False
) -> list[str]:
    """The pane of numbers, a line each; what is not known yet is a dash, of the machine it is left out."""
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
    memory = memory_lines(view, facts, width, reading.memory, ascii_only=ascii_only)
    gauges = gauge_lines(reading, facts.kind, width, ascii_only=ascii_only)
    return [*said, f"tokens  {tokens(view, facts)}", *tests, *memory, *gauges]


def folded(
    view: RunView, facts: Facts, width: int, reading: Reading = UNREAD, *, ascii_only: bool = False
) -> list[str]:
    """The numbers in two lines, for a small terminal; the tokens stand where there is room for them."""
    first = _losses(view, ascii_only=ascii_only)
    if step := view.last:
        rate = f"{step.learning_rate:.1e}".replace("e-0", "e-")
        first += [f"lr {rate}", f"grad {step.gradient_norm:.2f}", f"{view.pace.tokens:,.0f} tok/s"]
    second = [_memory(view, facts, reading.memory, ascii_only=ascii_only)]
    second += gauge_words(reading, facts.kind, ascii_only=ascii_only)
    tokens_seen = f"{seen(view, facts)} tok"
    fits = len("  ".join([*first, tokens_seen])) <= width
    (first if fits else second).append(tokens_seen)
    return ["  ".join(first), "  ".join(second)]


def tabs(chosen: str, names: Sequence[str]) -> str:
    """Panes of which one is shown, for the title of its box: "samples [events] log"."""
    return " ".join(f"[{name}]" if name == chosen else name for name in names)


def tokens(view: RunView, facts: Facts) -> str:
    """Seen and all, and the share of the seen that is learned: "1.20/3.61 M · 38% learned"."""
    learned = f" · {view.targets / view.tokens:.0%} learned" if view.tokens else ""
    return f"{seen(view, facts)}{learned}"


def seen(view: RunView, facts: Facts) -> str:
    """Tokens seen, and all of them: "1.20/3.61 M"."""
    if not view.tokens:
        return NONE
    unit, letter = (1e6, "M") if max(view.tokens, facts.tokens) >= 1e6 else (1e3, "k")
    whole = f"/{_three(facts.tokens / unit)}" if facts.tokens > view.tokens else ""
    return f"{_three(view.tokens / unit)}{whole} {letter}"


def memory_lines(
    view: RunView, facts: Facts, width: int, now: int | None = None, *, ascii_only: bool = False
) -> list[str]:
    """The bar of what is used `now` against the limit, and the peak; else of the peak, and what was planned."""
    if not facts.memory_limit:
        return [f"{'memory peak':<{LABEL}} {readable(view.peak_bytes)}"] if view.peak_bytes else []
    shown = view.peak_bytes if now is None else now
    said = f" {readable(shown)}" if shown else f" {NONE}"
    share = bar(shown / facts.memory_limit, max(6, width - len(said) - 8), ascii_only=ascii_only)
    other = f"planned {readable(facts.memory_needed)}" if now is None else f"peak {readable(view.peak_bytes)}"
    return [f"memory {share}{said}", f"  {other}   limit {readable(facts.memory_limit)}"]


def chart_title(view: RunView) -> str:
    """Last and best, for the border of the chart."""
    parts = [f"last {_loss(float(view.losses[-1]))}"] if len(view.losses) else []
    if view.best is not None:
        parts.append(f"best val {_loss(view.best.loss)} @{view.best.step:,}")
    return "  ".join(parts)


def sample_lines(view: RunView, place: int, prompts: Sequence[str]) -> tuple[str, list[tuple[str, str]]]:
    """Which answers they are, and (who, text) of the newest to the prompt at `place`, which goes round."""
    newest: dict[str, Sample] = {sample.prompt: sample for sample in view.samples}
    if not newest:
        why = "answered at the next evaluation" if prompts else "this recipe has no watch.samples"
        return "", [("", f"none yet: {why}" if prompts else why)]
    answered = list(newest.values())
    sample = answered[place % len(answered)]
    which = f"{place % len(answered) + 1} of {len(answered)} prompts" if len(answered) > 1 else "fixed prompt"
    title = f"step {sample.step:,} ({which})"
    return title, [("user", sample.prompt), ("base", sample.base), ("tuned", sample.tuned)]


def event_lines(moments: Sequence[Moment], wanted: str = "") -> list[str]:
    """Everything that happened, the newest first, as far as `wanted` is in it."""
    lines = [f"{clock(each.when)} {said}" for each in reversed(moments) for said in words.event_lines(each.event)]
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
    if not view.works or view.pace.left is None or view.steps == view.step:
        return []
    return [f"ETA {about(view.pace.left)} (±{about(view.pace.spread)})"]


def _three(value: float) -> str:
    """Three digits, as far as they stand behind the point: 1.20, 61.9, 117."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def _loss(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) and abs(value) < 1 else f"{value:.2f}"


def _train(view: RunView, *, ascii_only: bool) -> str:
    if not len(view.smoothed):
        return NONE
    change = view.change()
    moved = f"  {trend(change[0], ascii_only=ascii_only)} {_loss(abs(change[0]))}/{change[1]}" if change else ""
    return f"{_loss(float(view.smoothed[-1]))}{moved}"


def _losses(view: RunView, *, ascii_only: bool) -> list[str]:
    """Both losses in a few words, each with the way it goes."""
    change, arrow = view.change(), _valid_arrow(view, ascii_only=ascii_only)
    moved = trend(change[0], ascii_only=ascii_only) if change else ""
    train = _loss(float(view.smoothed[-1])) if len(view.smoothed) else NONE
    valid = _loss(view.evaluations[-1].loss) if view.evaluations else NONE
    return [f"train {train} {moved}".rstrip(), f"val {valid} {arrow}".rstrip()]


def _memory(view: RunView, facts: Facts, now: int | None, *, ascii_only: bool) -> str:
    """The bar of what is used `now`, else of the peak, against the limit."""
    shown = view.peak_bytes if now is None else now
    share = bar(shown / facts.memory_limit if facts.memory_limit else 0.0, 14, ascii_only=ascii_only)
    limit = f"/{readable(facts.memory_limit)}" if facts.memory_limit else ""
    peak = "" if now is None else f"  peak {readable(view.peak_bytes)}"
    return f"memory {share} {'peak ' if now is None else ''}{readable(shown)}{limit}{peak}"


def _valid(view: RunView, *, ascii_only: bool) -> str:
    if not view.evaluations:
        return NONE
    arrow = _valid_arrow(view, ascii_only=ascii_only)
    gap = f" gap {view.gap:+.2f}" if view.gap is not None else ""
    return f"{_loss(view.evaluations[-1].loss)}{f'  {arrow}' if arrow else ''}{gap}"


def _valid_arrow(view: RunView, *, ascii_only: bool) -> str:
    """Which way the validation loss went at its last evaluation; "" for the first."""
    losses = [found.loss for found in view.evaluations[-2:]]
    return trend(losses[1] - losses[0], ascii_only=ascii_only) if len(losses) > 1 else ""


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
