"""Packing and padding are invisible: every segment has the loss and the gradient it has alone, to the bit of a leak."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localtune.backend import Backend, Session
from localtune.batch import Segment
from localtune.targets import positions
from tests.contract.conftest import FAMILIES, LORA, Opener, rows_of, segment
from tests.goals import Reached

SHOWN = ("llama", "gemma2-inside", "gemma3-long")
"""Families whose figures are put on record; the limits are those of all."""
SEGMENTS = [segment(length, number) for number, length in enumerate((9, 14, 5, 17, 8, 1, 2))]


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_is_separate(backend: Backend, open_session: Opener, family: str, goal: Reached) -> None:
    with open_session(family, LORA) as session:
        packed = session.score(rows_of(SEGMENTS[:3], SEGMENTS[3:]))
        alone = [session.score(rows_of([one])) for one in SEGMENTS if len(one.tokens) > 1]
    nll = np.array([score.nll[0] for score in alone])
    targets = np.array([score.targets[0] for score in alone])
    present = packed.targets > 0
    gap = np.max(np.abs(packed.nll[present] - nll) / targets)
    if family in SHOWN:
        goal("packing", f"{backend.probe().backend}, {family}: loss of a packed text within {gap:.1e} of alone")
    assert gap <= 1e-5
    np.testing.assert_array_equal(packed.targets[present], targets)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_changed_segment_leaves_the_others_bit_equal(
    backend: Backend, open_session: Opener, family: str, goal: Reached
) -> None:
    changed = replace(SEGMENTS[1], tokens=SEGMENTS[1].tokens[::-1].copy())
    with open_session(family, LORA) as session:
        before = session.score(rows_of(SEGMENTS[:3], SEGMENTS[3:]))
        after = session.score(rows_of([SEGMENTS[0], changed, SEGMENTS[2]], SEGMENTS[3:]))
    others = np.arange(len(SEGMENTS)) != 1
    if family in SHOWN:
        leak = np.max(np.abs(before.nll[others] - after.nll[others]))
        goal("packing", f"{backend.probe().backend}, {family}: leak {leak:.0f} from a changed neighbour")
    np.testing.assert_array_equal(before.nll[others], after.nll[others])
    assert abs(before.nll[1] - after.nll[1]) > 1e-2  # the change itself is seen


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "mistral-inside", "gemma2-inside"])
def test_without_borders_the_loss_would_differ(open_session: Opener, family: str) -> None:
    batch = rows_of(SEGMENTS[:3])
    joined = replace(batch, segments=np.minimum(batch.segments, 1), sources=((0,),))
    with open_session(family, LORA) as session:
        right, wrong = session.score(batch), session.score(joined)
    assert abs(right.nll.sum() - wrong.nll.sum()) > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_is_near_separate_in_bfloat16(open_session: Opener, family: str) -> None:
    with open_session(family, LORA, precision="bfloat16") as session:
        packed = session.score(rows_of(SEGMENTS[:3], SEGMENTS[3:5])).nll
        alone = np.array([session.score(rows_of([one])).nll[0] for one in SEGMENTS[:5]])
    assert abs(packed.sum() - alone.sum()) / sum(one.targets for one in SEGMENTS[:5]) <= 1e-2


@pytest.mark.parametrize(
    "family", ["llama", "llama-even"]
)  # widths that a group size does not divide, and that it does
def test_packed_is_separate_over_a_quantised_base(open_session: Opener, family: str) -> None:
    with open_session(family, LORA, precision="quantised") as session:
        packed = session.score(rows_of(SEGMENTS[:3], SEGMENTS[3:5]))
        alone = [session.score(rows_of([one])).nll[0] for one in SEGMENTS[:5]]
    np.testing.assert_allclose(packed.nll, alone, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_more_padding_changes_nothing(backend: Backend, open_session: Opener, family: str, goal: Reached) -> None:
    narrow, wide = rows_of(SEGMENTS[:3], SEGMENTS[3:5]), rows_of(SEGMENTS[:3], SEGMENTS[3:5], multiple=64)
    longer = replace(
        narrow,
        tokens=np.pad(narrow.tokens, ((0, 1), (0, 0))),
        segments=np.pad(narrow.segments, ((0, 1), (0, 0))),
        weights=np.pad(narrow.weights, ((0, 1), (0, 0))),
        sources=(*narrow.sources, ()),
    )
    with open_session(family, LORA) as session:
        nll = session.score(narrow).nll
        others = [session.score(batch).nll for batch in (wide, longer)]
    gap = max(float(np.max(np.abs(other - nll)[nll > 0] / nll[nll > 0])) for other in others)
    goal("tokens", f"{backend.probe().backend}, {family}: more padding changes a loss by {gap:.1e} of it")
    for other in others:
        np.testing.assert_allclose(other, nll, rtol=1e-6)


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_what_lies_in_the_padding_changes_nothing(open_session: Opener, family: str) -> None:
    batch = rows_of(SEGMENTS[:3], SEGMENTS[3:])
    other = replace(batch, tokens=np.where(batch.segments == 0, 7, batch.tokens).astype(np.int32))
    with open_session(family, LORA) as session:
        np.testing.assert_array_equal(session.score(batch).nll, session.score(other).nll)


def test_a_target_without_anything_before_it_is_refused(open_session: Opener) -> None:
    batch = rows_of(SEGMENTS[:2])
    batch.weights[0, len(SEGMENTS[0].tokens)] = 1.0
    with open_session("llama", LORA) as session, pytest.raises(ValueError, match="nothing before it"):
        session.score(batch)


ROWS = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=5), min_size=1, max_size=3)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=ROWS, multiple=st.sampled_from([1, 8, 64]), seed=st.integers(0, 99))
def test_however_texts_are_packed_each_scores_as_alone(
    open_session: Opener, lengths: list[list[int]], multiple: int, seed: int
) -> None:
    rows = [
        [segment(length, seed + 7 * row + place) for place, length in enumerate(one)] for row, one in enumerate(lengths)
    ]
    with open_session("gemma3", LORA) as session:
        packed = session.score(rows_of(*rows, multiple=multiple))
        alone = [session.score(rows_of([one])).nll[0] for row in rows for one in row]
    np.testing.assert_allclose(packed.nll, alone, rtol=1e-5, atol=1e-5)


def ending(length: int, number: int) -> Segment:
    """A text whose last token alone is a target, so that its score is the logarithm of one probability."""
    one = segment(length, number)
    return replace(one, weights=np.where(np.arange(length) == length - 1, 1, 0).astype(np.float32))


LONG = [ending(length, number) for number, length in enumerate((120, 7, 300, 1, 64, 500, 32))]
"""1,024 tokens of seven texts; three of them are longer than the window of `gemma3-long`."""


def largest_logit(session: Session) -> float:
    """The largest of a text's last logits in size, and 1 at least."""
    last = [session.logits(one.tokens.tolist(), [len(one.tokens) - 1]) for one in LONG]
    return max(1.0, *(float(np.abs(logits).max()) for logits in last))


@pytest.mark.parametrize("family", ["llama-long", "gemma3-long"])
def test_packed_is_separate_over_a_thousand_tokens(
    backend: Backend, open_session: Opener, family: str, goal: Reached
) -> None:
    with open_session(family, LORA, longest=1024) as session:
        packed = session.score(rows_of(LONG)).nll
        alone = np.array([session.score(rows_of([one])).nll[0] if len(one.tokens) > 1 else 0 for one in LONG])
        joined = replace(rows_of(LONG), segments=np.minimum(rows_of(LONG).segments, 1), sources=((0,),))
        without_borders = session.score(joined).nll.sum()
        scale = largest_logit(session)
    gap = np.max(np.abs(packed - alone)) / scale
    if family in SHOWN:
        said = f"a text of a row of 1,024 tokens within {gap:.1e} of the largest logit"
        goal("packing", f"{backend.probe().backend}, {family}: {said}")
    assert gap <= 1e-5
    assert abs(without_borders - alone.sum()) > 1e-2


@pytest.mark.parametrize("family", ["llama-long", "gemma3-long"])
def test_a_changed_text_of_a_long_row_leaves_the_others_bit_equal(open_session: Opener, family: str) -> None:
    changed = replace(LONG[2], tokens=LONG[2].tokens[::-1].copy())
    with open_session(family, LORA, longest=1024) as session:
        before, after = session.score(rows_of(LONG)).nll, session.score(rows_of([*LONG[:2], changed, *LONG[3:]])).nll
    others = np.arange(len(LONG)) != 2
    np.testing.assert_array_equal(before[others], after[others])
    assert before[2] != after[2]


def test_positions_restart_per_segment_and_in_the_padding() -> None:
    segments = np.array([[1, 1, 2, 3, 3, 3, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 0]], np.int32)
    expected = [[0, 1, 0, 0, 1, 2, 0, 1], list(range(8)), list(range(8))]
    assert positions(segments).tolist() == expected
