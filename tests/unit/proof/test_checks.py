"""Each check passes for what is right, fails for what is wrong, and says neither where there is nothing to compare."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localtune import proof
from localtune.batch import Floats, Ints
from localtune.data.conversations import Message
from localtune.data.render import Renderer
from localtune.data.tokenizer import Tokenizer
from localtune.distribution import Distributions, together
from localtune.errors import InputError, Problem
from localtune.places import Places
from localtune.proof import Proof, checks
from localtune.reference import Prompt, Reference
from tests.command import MODEL

STOPS = (2, 0)


def _said(shift: float = 0.0, noise: float = 0.0, positions: int = 200) -> Distributions:
    """A base of two tokens per position, moved by `shift` along a fixed direction and by noise."""
    generator = np.random.default_rng(0)
    start, direction, chance = (generator.normal(size=positions) for _ in range(3))
    logit = start + shift * direction + noise * chance
    first = -np.log1p(np.exp(-logit))
    second = -np.log1p(np.exp(logit))
    logprobs = np.stack([first, second], axis=1).astype(np.float32)
    ids = np.tile(np.array([0, 1], np.int32), (positions, 1))
    return Distributions(ids, logprobs, logprobs[:, 0].copy())


def _reference(computed: str = "float32", **said: Distributions) -> Reference:
    count = len(next(iter(said.values())).ids)
    row, at = np.zeros(count, np.int32), np.arange(count, dtype=np.int32)
    places = Places((np.arange(count + 1, dtype=np.int32),), row, at, np.ones(count, np.int32))
    prompts = tuple(Prompt("x", np.array([5, 6], np.int32)) for _ in range(3))
    answers = {"tuned": tuple(np.array([7, 8, 2], np.int32) for _ in range(3))}
    kinds = {who: computed for who in said}
    return Reference(places, prompts, STOPS, "validation", said, answers, kinds)


def _training(heard: Distributions, computed: str = "float32", **more: Distributions) -> checks.Check:
    return checks.training(_reference(computed, base=_said(), tuned=_said(1.0), **more), heard)


def test_an_honest_product_passes() -> None:
    assert _training(_said(1.0)).passed is True
    assert _training(_said(1.0, 1e-3)).passed is True


@pytest.mark.parametrize("shift", [0.0, 0.5, 0.8, 1.3, -1.0])
def test_a_product_that_says_something_else_fails(shift: float) -> None:
    assert _training(_said(shift)).passed is False


@pytest.mark.parametrize("computed", ["float32", "bfloat16", "nf4"])
def test_a_small_fine_tune_that_was_lost_fails_however_close_the_base_is(computed: str) -> None:
    small = _said(0.02)
    reference = _reference(computed, base=_said(), tuned=small)
    lost = checks.training(reference, _said())
    assert lost.figures["mean"] < 1e-3
    assert lost.passed is False
    assert checks.training(reference, small).passed is True


def test_a_product_worse_than_what_was_trained_fails_though_its_base_is_another_one() -> None:
    base, tuned = _said(), _said(2.0)
    poor = replace(base, following=base.following - 3)  # a base in so few bits that it knows less
    reference = _reference("affine2", base=poor, tuned=tuned, original=_said(-3.0), expected=tuned)
    worse = replace(tuned, following=tuned.following - 1)
    lost = checks.training(reference, worse)
    assert lost.figures["mean"] < lost.figures["limit"]
    assert lost.passed is False
    assert "train.quantize" in lost.look
    assert checks.training(reference, tuned).passed is not False


def _fusion(heard: Distributions, moved: float = 1.0, *, rounded: bool = True) -> bool | None:
    reference = _reference(original=_said(), expected=_said(moved), weights=heard)
    return checks.fusion(reference, rounded=rounded).passed


@pytest.mark.parametrize("moved", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.1])
def test_fused_weights_that_carry_another_share_fail_where_nothing_is_rounded(moved: float, share: float) -> None:
    assert _fusion(_said(moved), moved, rounded=False) is True
    assert _fusion(_said(share * moved), moved, rounded=False) is False


def test_rounding_of_the_fused_weights_is_allowed_and_no_more() -> None:
    assert _fusion(_said(1.0, 3e-3)) is True
    assert _fusion(_said(1.0, 3e-3), rounded=False) is False
    assert _fusion(_said(0.9)) is False


def test_without_base_and_adapter_side_by_side_the_fusion_is_not_told() -> None:
    assert checks.fusion(_reference(tuned=_said(), weights=_said()), rounded=True).passed is None


def test_a_fine_tune_below_the_noise_is_neither_passed_nor_failed() -> None:
    reference = _reference(base=_said(), tuned=_said(1e-5))
    found = checks.training(reference, _said(1e-5, 1e-3))
    assert found.passed is None
    assert "too little to tell" in found.text


def test_a_quantised_base_is_measured_from_the_base_the_product_is_made_of() -> None:
    noisy = _said(0.0, 0.3)
    honest, lost = _said(1.0, 0.3), _said(0.0, 0.3)
    assert _training(honest, "nf4", original=noisy).passed is True
    assert _training(lost, "nf4", original=noisy).passed is False


def test_log_probabilities_that_are_no_numbers_fail() -> None:
    broken = _said(1.0)
    broken.following[3] = np.nan
    found = _training(broken)
    assert found.passed is False
    assert "no finite log-probabilities at 1 positions" in found.text
    file = checks.file(_reference(weights=_said(1.0)), broken, "F16")
    assert file.passed is False


def test_a_file_is_held_to_the_limits_of_its_encoding() -> None:
    reference = _reference(weights=_said(1.0))
    near, further = _said(1.0, 1e-3), _said(1.0, 3e-2)
    assert checks.file(reference, near, "F32").passed is True
    assert checks.file(reference, further, "F32").passed is False
    assert checks.file(reference, further, "Q8_0").passed is True


def test_rounding_may_choose_another_expert_in_f16_but_not_in_f32() -> None:
    reference, one_apart = _reference(weights=_said(1.0)), _said(1.0, 3e-2)
    assert checks.file(reference, one_apart, "F16", experts=True).passed is True
    assert checks.file(reference, one_apart, "F16").passed is False
    assert checks.file(reference, one_apart, "F32", experts=True).passed is False


def test_rows_without_a_position_are_nothing_to_compare() -> None:
    nothing = together([])
    reference = _reference(base=nothing, tuned=nothing, weights=nothing)
    assert checks.file(reference, nothing, "F16").passed is None
    assert checks.training(reference, nothing).passed is None


def test_without_computed_weights_a_file_of_a_quantised_training_is_not_compared() -> None:
    found = checks.file(_reference("nf4", tuned=_said(1.0)), _said(0.0), "Q8_0")
    assert found.passed is None
    assert checks.file(_reference("float32", tuned=_said(1.0)), _said(0.0), "Q8_0").passed is False


def test_weights_computed_in_16_bits_are_said_to_show_less() -> None:
    found = checks.file(_reference("bfloat16", weights=_said(1.0)), _said(1.0, 1e-2), "F32")
    assert found.passed is True
    assert "small faults would not show" in found.text


class _Server:
    def __init__(self, stops: Sequence[int]) -> None:
        self.stops = stops

    def stops_at(self, ids: Sequence[int], token: int) -> bool:
        return token in self.stops


def _stop(stops: Sequence[int], answers: Sequence[Ints], reference: Reference | None = None) -> checks.Check:
    server: Any = _Server(stops)
    return checks.stop(server, Tokenizer(MODEL), reference or _reference(tuned=_said()), answers, "tuned")


ENDED, ENDLESS = np.array([7, 8, 2], np.int32), np.array([7] * 128, np.int32)


def test_answers_that_end_where_they_ended_pass() -> None:
    found = _stop(STOPS, [ENDED] * 3)
    assert found.passed is True
    assert "3 of 3 greedy answers are the same" in found.text


def test_a_stop_token_that_is_not_heard_fails_by_its_name() -> None:
    found = _stop([0], [ENDED] * 3)
    assert found.passed is False
    assert "<|im_end|>" in found.text


def test_a_stop_token_that_ended_no_answer_is_only_told() -> None:
    found = _stop([2], [ENDED] * 3)
    assert found.passed is True
    assert "not at '<|endoftext|>'" in found.text


def test_one_answer_that_goes_on_is_no_fault_but_all_are() -> None:
    assert _stop(STOPS, [ENDED, ENDED, ENDLESS]).passed is True
    assert _stop(STOPS, [ENDLESS] * 3).passed is False


def _with_template(folder: Path, template: str) -> Tokenizer:
    shutil.copytree(MODEL, folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return Tokenizer(folder)


class _Echo:
    """A server that makes of every conversation what the tokenizer makes of it."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer

    def template_ids(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        return list(self.renderer.conversation_ids([Message(m["role"], m["content"]) for m in messages]))


REFUSES_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
REFUSES_ALL = "{{ raise_exception('never') }}"


@pytest.mark.parametrize(("refusal", "passed"), [("", True), (REFUSES_SYSTEM, True), (REFUSES_ALL, None)])
def test_a_conversation_the_template_refuses_is_not_compared(tmp_path: Path, refusal: str, passed: bool | None) -> None:
    source = (MODEL / "chat_template.jinja").read_text(encoding="utf-8")
    renderer = Renderer(_with_template(tmp_path / "model", refusal + source), learn="answers")
    server: Any = _Echo(renderer)
    found = checks.template(server, checks.rendered(renderer))
    assert found.passed is passed
    compared = {"": 8, REFUSES_SYSTEM: 6}.get(refusal)
    assert found.figures.get("conversations") == compared


class _Quiet:
    """A llama.cpp that opens whatever it is given."""

    def __init__(self, *arguments: object, **named: object) -> None: ...

    def __enter__(self) -> "_Quiet":
        return self

    def __exit__(self, *_: object) -> None: ...


def test_a_template_that_fails_here_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = _with_template(tmp_path / "model", "{% for turn in messages %}")
    monkeypatch.setattr(proof, "LlamaServer", _Quiet)
    monkeypatch.setattr(checks, "hear", lambda *_, **more: _said())
    monkeypatch.setattr(checks, "answer", lambda *_: ())
    monkeypatch.setattr(checks, "tokens", lambda *_: checks.Check("tokens", True, ""))
    with pytest.raises(InputError) as caught:
        proof.prove_file(MODEL / "config.json", "x", "F16", tokenizer, _reference(weights=_said()))
    assert caught.value.problems[0].code.startswith("template.")


def test_what_llama_cpp_refuses_fails_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **more: object) -> None:
        raise InputError(Problem("llamacpp.refused", "llama.cpp refused: no"))

    monkeypatch.setattr(proof, "LlamaServer", refused)
    found = proof.prove_file(MODEL / "config.json", "x", "F16", Tokenizer(MODEL), _reference(weights=_said()))
    assert [(check.name, check.passed) for check in found.checks] == [("load", False)]


def test_a_model_without_stop_tokens_has_nothing_to_compare() -> None:
    assert _stop([], [ENDED] * 3, replace(_reference(tuned=_said()), stops=())).passed is None


def test_a_proof_passes_unless_a_check_fails() -> None:
    def made(*verdicts: bool | None) -> Proof:
        each = tuple(checks.Check(str(i), verdict, "") for i, verdict in enumerate(verdicts))
        return Proof("x", each, {}, 1, "validation", 0.0)

    assert made(True, None).passed
    assert not made(True, None, False).passed


def test_loss_is_over_the_learned_positions() -> None:
    values: Floats = np.array([-1.0, -2.0, -6.0], np.float32)
    said = Distributions(np.zeros((3, 1), np.int32), values[:, None], values)
    assert checks.loss(said, np.array([0, 1, 1], np.int32)) == 4.0
    assert checks.loss(said, np.array([0, 0, 0], np.int32)) == 3.0
