"""Unusual updates are said, and usual ones are not."""

import numpy as np
import pytest

from localtune.events import Step
from localtune.spikes import FEWEST, Spikes


def _step(number: int, loss: float, norm: float = 1.0, applied: bool = True) -> Step:
    return Step(number, 999, 1.0, loss, 8.0, 1e-4, norm, applied, 8, 8, 0, 0.1)


def _usual(count: int) -> Spikes:
    spikes, drawn = Spikes(), np.random.default_rng(1)
    for number in range(count):
        assert spikes.look(_step(number, 2 + 0.1 * drawn.normal(), 1 + 0.1 * drawn.normal())) == ""
    return spikes


@pytest.mark.parametrize(("loss", "norm", "word"), [(200.0, 1.0, "loss 200"), (2.0, 100.0, "gradient norm 100")])
def test_a_hundredfold_loss_or_gradient_is_said_with_what_was_usual(loss: float, norm: float, word: str) -> None:
    said = _usual(200).look(_step(201, loss, norm))
    assert said.startswith(f"update 201: {word}, where the last 100 had ")


def test_noise_is_usual() -> None:
    _usual(2000)


def test_nothing_is_usual_yet_in_the_first_updates() -> None:
    assert _usual(FEWEST - 1).look(_step(FEWEST, 200.0)) == ""


def test_an_update_that_was_not_applied_neither_counts_nor_is_said() -> None:
    spikes = _usual(100)
    before = list(spikes.losses)
    assert spikes.look(_step(101, float("nan"), float("inf"), applied=False)) == ""
    assert list(spikes.losses) == before


def test_a_constant_loss_may_move_a_little() -> None:
    spikes = Spikes()
    for number in range(100):
        spikes.look(_step(number, 2.0))
    assert spikes.look(_step(101, 2.1)) == ""
    assert spikes.look(_step(102, 4.0))
