"""Events, plans and runs as lines for people."""

from collections.abc import Iterator, Sequence

from localtune.data.report import Report
from localtune.errors import safe
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
from localtune.plan import Plan
from localtune.score import perplexity
from localtune.settings import Recipe
from localtune.sizes import readable

VERDICTS = {True: "ok", False: "FAILED", None: "—"}
"""Of a check; None = there was nothing to compare."""


def duration(seconds: float) -> str:
    """`seconds` as a person says it: 9s, 14m36s, 2h05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def speed(step: Step) -> float:
    """Real tokens per second of one update."""
    return step.tokens / step.seconds if step.seconds else 0.0


def step_line(step: Step, remaining: float | None) -> str:
    """One update on one line."""
    eta = f" eta {duration(remaining)}" if remaining is not None else ""
    refused = "" if step.applied else " NOT APPLIED"
    return (
        f"step {step.step}/{step.steps} loss {step.loss:.3f}{refused} lr {step.learning_rate:.2e} "
        f"grad {step.gradient_norm:.2f} {speed(step):,.0f} tok/s mem {readable(step.peak_bytes)}{eta}"
    )


def event_lines(event: Event) -> Iterator[str]:
    """What is said of an event, but for updates."""
    match event:
        case Phase(name=name, detail=detail):
            yield f"{name}  {safe(detail)}"
        case Evaluation():
            yield _evaluation_line(event)
        case Match():
            name = f" ({event.group})" if event.group else ""
            share = event.exact / event.rows
            yield f"{event.who:<6} exact match{safe(name)} {event.exact}/{event.rows} = {share:.1%}"
        case Sample():
            yield f"sample at step {event.step}"
            yield from (f"  {who:<6}{safe(text, 300)}" for who, text in _sides(event))
        case Product():
            yield f"made {event.name:<8} {safe(event.path)}  {readable(event.size)} in {duration(event.seconds)}"
        case Proof():
            yield from _proof_lines(event)
        case Replies():
            yield f"one prompt, answered by {len(event.texts)}: {safe(event.prompt, 300)}"
            width = max(map(len, event.texts))
            yield from (f"  {who:<{width}}  {safe(text, 600)}" for who, text in event.texts.items())
        case Checkpoint():
            yield f"checkpoint {event.folder} saved ({event.size / 1e6:.1f} MB, {event.seconds:.1f} s)"
        case Warn():
            note = event.code.endswith(".note")
            yield f"note     {safe(event.text)}" if note else f"warning[{event.code}]: {safe(event.text)}"
        case Done():
            yield from _done_lines(event)
        case Failed():
            yield from (safe(line) for line in event.text.splitlines())
        case Step() | Unknown():
            return


def _sides(event: Sample) -> Sequence[tuple[str, str]]:
    return (("user", event.prompt), ("base", event.base), ("tuned", event.tuned))


def _evaluation_line(event: Evaluation) -> str:
    best = "  best so far" if event.best else ""
    loss = f"{event.loss:.4f}  perplexity {perplexity(event.loss):.4g}"
    return f"{event.who:<6} {event.split} loss at step {event.step}: {loss}  accuracy {event.accuracy:.1%}{best}"


def _proof_lines(event: Proof) -> Iterator[str]:
    """The proof as a table: what was compared, ok or FAILED, and the losses beside each other."""
    open_ = ", ".join(check["name"] for check in event.checks if check["passed"] is None)
    verdict = "FAILED" if not event.passed else f"passed, but for {open_}" if open_ else "passed"
    yield f"proof of {safe(event.product)}: {verdict} in {duration(event.seconds)}"
    for check in event.checks:
        yield f"  {check['name']:<9} {VERDICTS[check['passed']]:<6}  {safe(str(check['text']), 400)}"
    losses = "   ".join(f"{who} {loss:.4f}" for who, loss in event.losses.items())
    yield f"  {'loss':<9} {'':<6}  {losses}"


def _done_lines(event: Done) -> Iterator[str]:
    best = f", best at step {event.best_step}" if event.best_step else ""
    yield f"ended at step {event.step} ({event.reason}){best} after {duration(event.seconds)}"
    if event.peak_bytes:
        error = event.planned_bytes / event.peak_bytes - 1
        planned = readable(event.planned_bytes)
        yield f"memory  peak {readable(event.peak_bytes)}, planned {planned} ({error:+.0%})"


def report_lines(report: Report) -> Iterator[str]:
    """What became of the data, as a person reads it."""
    yield f"data     {safe(report.train.file)}: {safe(report.why)}"
    end = f"; answers end with {safe(report.end_of_turn)}" if report.end_of_turn else ""
    lengths = f"p50 {report.train.length_p50:,}  p95 {report.train.length_p95:,}  max {report.train.longest:,}"
    longest = f" ({safe(report.train.longest_place)})" if report.train.longest_place else ""
    yield f"         tokens per example {lengths}{longest}{end}"
    for loss in report.losses:
        for count, word in ((loss.skipped, "skipped"), (loss.dropped, "dropped as too long")):
            if count:
                first = "; ".join(loss.skipped_first if word == "skipped" else loss.dropped_first)
                yield f"warning[data.{word.split()[0]}]: {count:,} rows of {safe(loss.file)} {word}: {safe(first)}"
    if report.train.cut_targets:
        yield (
            f"warning[data.cut]: {report.train.cut_answers:,} rows lose the end of what is learned, "
            f"{report.train.cut_targets:,} tokens; a higher data.max_tokens keeps it"
        )
    if report.train.neutralised:
        yield f"note     {report.train.neutralised:,} rows hold control tokens as text; they are learned as text"
    for note in report.notes:
        yield f"note     {safe(note)}"


def plan_lines(plan: Plan, recipe: Recipe) -> Iterator[str]:
    """The plan as a person reads it."""
    share = plan.trainable / plan.parameters
    yield f"model    {safe(recipe.model)}  {plan.parameters / 1e6:,.1f} M parameters on {plan.device.name}"
    yield f"         {plan.device.reason}"
    yield (
        f"trains   {recipe.train.method}: {plan.trainable:,} weights ({share:.1%}), base in {plan.precision.storage}, "
        f"computes in {plan.precision.compute}"
    )
    yield (
        f"rows     {plan.train_rows:,} to train, {plan.valid_rows:,} to validate, {plan.test_rows:,} to test; "
        f"{plan.cut:,} cut, {plan.dropped:,} dropped"
    )
    learned = plan.learned / plan.tokens if plan.tokens else 0
    yield f"tokens   {plan.tokens:,} per epoch, {plan.learned:,} learned ({learned:.0%})"
    yield (
        f"steps    {plan.schedule.steps:,} = {plan.epochs:.3g} epochs x {plan.train_rows:,} rows / {plan.batch_size}; "
        f"learning rate {plan.schedule.peak:g} {plan.schedule.shape}, warm-up {plan.schedule.warmup}"
    )
    yield f"batches  at most {plan.rows} rows x {plan.row_tokens:,} tokens at once, checkpointing {plan.checkpointing}"
    fits = "fits" if plan.fits else "DOES NOT FIT"
    yield f"memory   {readable(plan.memory_needed)} of {readable(plan.memory_limit)}: {fits} (estimate)"
    for item in plan.memory:
        yield f"  {readable(item.size):>9}  {item.name}: {item.why}"
    if plan.products:
        made = ", ".join(f"{item.name} {readable(item.size)}" for item in plan.products)
        writing, proving = duration(plan.writing_seconds), duration(plan.proof_seconds)
        yield f"then     {made}; writing them takes about {writing}, proving them {proving} (estimate)"
    yield f"disk     {readable(plan.disk)} at most"
