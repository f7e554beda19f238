"""Smaller micro-batches for a run that ran out of memory: the same updates, of the same examples, in more parts.

How often it happened is one number in the run folder; what follows of it is a function of the plan. Rows of a
micro-batch are halved; then activations are computed twice instead of kept; then rows are packed half as long, down to
the longest example. The gradient is the same sum in another order: within 1e-6 in float32. With dropout other random
numbers are drawn, since they are keyed by micro-batch.
"""

from collections.abc import Sequence
from dataclasses import replace

from localtune.batch import Segment
from localtune.data.packing import MULTIPLE
from localtune.data.segments import lengths
from localtune.errors import InputError
from localtune.plan import Plan
from localtune.runs.files import read_json, write_json
from localtune.runs.folder import Run

SHORTEST = 64
"""Tokens of a packed row below which halving frees next to nothing."""


def times_eased(run: Run) -> int:
    """How often memory ran out so far; 0 where nothing readable is said of it."""
    try:
        times = read_json(run.eased)["times"]
    except (InputError, KeyError):
        return 0
    return times if type(times) is int and times > 0 else 0


def ease(run: Run) -> None:
    """Note that it happened once more."""
    write_json(run.eased, {"times": times_eased(run) + 1})


def eased(plan: Plan, times: int, longest: int) -> Plan:
    """The plan after memory ran out `times` times, for examples of `longest` tokens at most."""
    for _ in range(times):
        after = smaller(plan, longest)
        if after is None:
            break
        plan = after
    return plan


def smaller(plan: Plan, longest: int) -> Plan | None:
    """The plan with the next smaller micro-batches; None when they are as small as they can be."""
    if plan.rows > 1:
        return replace(plan, rows=plan.rows // 2)
    if plan.checkpointing == "none":
        return replace(plan, checkpointing="blocks")
    width = plan.packed_width or plan.row_tokens
    if width <= max(longest + MULTIPLE, SHORTEST):  # a row is that long in any case
        return None
    return replace(plan, packed_width=max(longest, width // 2))


def longest_of(segments: Sequence[Segment]) -> int:
    """Tokens of the longest example."""
    return int(lengths(segments).max(initial=0))


def told(before: Plan, after: Plan) -> str:
    """What became smaller, in words."""
    if after.rows != before.rows:
        return f"{after.rows} rows a micro-batch instead of {before.rows}, in updates of the same examples"
    if after.checkpointing != before.checkpointing:
        return "activations computed twice instead of kept"
    return f"rows packed up to {after.packed_width} tokens instead of {before.packed_width or before.row_tokens}"
