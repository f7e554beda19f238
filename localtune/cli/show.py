"""Updates, data and plans as lines for people; events are in `localtune.words`."""

from collections.abc import Iterator

from localtune.data.report import Report
from localtune.errors import safe
from localtune.events import Step
from localtune.plan import Plan
from localtune.settings import Recipe
from localtune.sizes import readable
from localtune.words import duration


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
    """The plan as a person reads it; safe for a screen."""
    yield from map(safe, _plan_lines(plan, recipe))


def _plan_lines(plan: Plan, recipe: Recipe) -> Iterator[str]:
    share = plan.trainable / plan.parameters
    yield f"model    {recipe.model}  {plan.parameters / 1e6:,.1f} M parameters on {plan.device.name}"
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
