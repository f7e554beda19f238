"""Packing and padding are invisible: every segment has the loss and the gradient it has alone, to the bit of a leak."""

from dataclasses import replace

import numpy as np
import pytest

from tests.contract.conftest import BFLOAT16, FAMILIES, LORA, NF4, Opener, rows_of, segment

SEGMENTS = [segment(length, number) for number, length in enumerate((9, 14, 5, 17, 8, 1, 2))]


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_is_separate(open_session: Opener, family: str) -> None:
    with open_session(family, LORA) as session:
        packed = session.score(rows_of(SEGMENTS[:3], SEGMENTS[3:]))
        alone = [session.score(rows_of([one])) for one in SEGMENTS if len(one.tokens) > 1]
    nll = np.array([score.nll[0] for score in alone])
    targets = np.array([score.targets[0] for score in alone])
    present = packed.targets > 0
    assert np.max(np.abs(packed.nll[present] - nll) / targets) <= 1e-5
    np.testing.assert_array_equal(packed.targets[present], targets)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_changed_segment_leaves_the_others_bit_equal(open_session: Opener, family: str) -> None:
    changed = replace(SEGMENTS[1], tokens=SEGMENTS[1].tokens[::-1].copy())
    with open_session(family, LORA) as session:
        before = session.score(rows_of(SEGMENTS[:3], SEGMENTS[3:]))
        after = session.score(rows_of([SEGMENTS[0], changed, SEGMENTS[2]], SEGMENTS[3:]))
    others = np.arange(len(SEGMENTS)) != 1
    np.testing.assert_array_equal(before.nll[others], after.nll[others])
    assert abs(before.nll[1] - after.nll[1]) > 1e-2  # the change itself is seen


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2"])
def test_without_borders_the_loss_would_differ(open_session: Opener, family: str) -> None:
    batch = rows_of(SEGMENTS[:3])
    joined = replace(batch, segments=np.minimum(batch.segments, 1), sources=((0,),))
    with open_session(family, LORA) as session:
        right, wrong = session.score(batch), session.score(joined)
    assert abs(right.nll.sum() - wrong.nll.sum()) > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_is_near_separate_in_bfloat16(open_session: Opener, family: str) -> None:
    with open_session(family, LORA, precision=BFLOAT16) as session:
        packed = session.score(rows_of(SEGMENTS[:3], SEGMENTS[3:5])).nll
        alone = np.array([session.score(rows_of([one])).nll[0] for one in SEGMENTS[:5]])
    assert abs(packed.sum() - alone.sum()) / sum(one.targets for one in SEGMENTS[:5]) <= 1e-2


def test_packed_is_separate_over_nf4_with_odd_widths(open_session: Opener) -> None:
    with open_session("llama", LORA, precision=NF4) as session:
        packed = session.score(rows_of(SEGMENTS[:3], SEGMENTS[3:5]))
        alone = [session.score(rows_of([one])).nll[0] for one in SEGMENTS[:5]]
    np.testing.assert_allclose(packed.nll, alone, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_more_padding_changes_nothing(open_session: Opener, family: str) -> None:
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
        np.testing.assert_allclose(session.score(wide).nll, nll, rtol=1e-6)
        np.testing.assert_allclose(session.score(longer).nll, nll, rtol=1e-6)


def test_what_lies_in_the_padding_changes_nothing(open_session: Opener) -> None:
    batch = rows_of(SEGMENTS[:3], SEGMENTS[3:])
    other = replace(batch, tokens=np.where(batch.segments == 0, 7, batch.tokens).astype(np.int32))
    with open_session("mistral", LORA) as session:
        np.testing.assert_array_equal(session.score(batch).nll, session.score(other).nll)


def test_a_target_without_anything_before_it_is_refused(open_session: Opener) -> None:
    batch = rows_of(SEGMENTS[:2])
    batch.weights[0, len(SEGMENTS[0].tokens)] = 1.0
    with open_session("llama", LORA) as session, pytest.raises(ValueError, match="nothing before it"):
        session.score(batch)
