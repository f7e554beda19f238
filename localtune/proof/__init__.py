"""The measured comparison that a product says what the trained model says.

Two halves. Training: the weights a product is made of, computed in float32, against what was written down while the
trained session was open. File: a GGUF, as llama.cpp reads it, against those weights. Divergences are exact up to about
1e-6 nats at the compared positions, and say nothing of others.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from localtune.batch import Ints
from localtune.data.rendering import Rendering
from localtune.data.tokenizer import Tokenizer
from localtune.distribution import Distributions
from localtune.errors import InputError, RunFailed
from localtune.export.read import read_gguf
from localtune.llamacpp import LlamaServer
from localtune.outlay import EXACT, affordable
from localtune.proof import checks
from localtune.proof.checks import Check as Check
from localtune.proof.gates import file_gate
from localtune.proof.stored import Wanted, stored
from localtune.reference import Reference
from localtune.score import nothing_asked

BESIDE = 64
"""Tokens of context beyond the longest row and answer."""


@dataclass(frozen=True)
class Proof:
    """What was compared of one product."""

    product: str
    checks: tuple[Check, ...]
    losses: Mapping[str, float]
    """Mean over the learned ones of the compared positions, nats, by who says it."""
    positions: int
    rows: str
    """Which rows were compared: validation, test, training or built-in."""
    seconds: float
    answers: tuple[Ints, ...] = field(default=(), repr=False)
    """To the prompts of the reference."""
    heard: Distributions | None = field(default=None, repr=False)
    """What a file says at the compared positions: all of the reference, thinned as `affordable` says."""

    @property
    def passed(self) -> bool:
        """Nothing differed by more than its limit."""
        return all(check.passed is not False for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """For proof.json."""
        head = {"product": self.product, "passed": self.passed, "positions": self.positions, "rows": self.rows}
        rest = {"seconds": round(self.seconds, 2), "losses": dict(self.losses)}
        return head | rest | {"checks": [asdict(check) for check in self.checks]}


def prove_weights(product: str, reference: Reference, began: float, *, rounded: bool) -> Proof:
    """The training half: "weights" against "expected" and "tuned" of the reference. `began` is of time.monotonic.

    `rounded`: the weights are written in 16 bits.
    """
    weights = reference.said["weights"]
    found = (checks.fusion(reference, rounded=rounded), checks.training(reference, weights))
    return _proof(product, found, reference, _losses(reference), began)


def prove_file(
    path: Path,
    product: str,
    encoding: str,
    tokenizer: Tokenizer,
    reference: Reference,
    check: Callable[[], None] = nothing_asked,
    *,
    differs: Callable[[str], bool] = checks.never,
    made_of: Wanted | None = None,
    base: Path | None = None,
    speaker: str = "",
) -> Proof:
    """Everything that can be said of the GGUF at `path`; `check` may raise in between.

    Texts of which llama.cpp `differs` are left out. `made_of` is what its tensors should be, where that is known. With
    `base`, the file is an adapter that is compared over the GGUF `base`. `speaker` names the file that said what the
    reference has of the weights, if one did. A file that llama.cpp does not open or dies of fails the check "load".
    Raises `MachineError` without llama.cpp, and `InputError` for a chat template that cannot be rendered here.
    """
    began = time.monotonic()
    opened, adapters = (path, []) if base is None else (base, [path])
    reference = reference.thinned(*affordable(opened.stat().st_size))
    with Rendering(tokenizer, learn="answers", workers=1) as rendering:
        conversations = checks.rendered(rendering)
    try:  # only the file and llama.cpp raise these in here: what is of our own making is done before or behind
        experts = _has_experts(opened)
        with LlamaServer(opened, context=_context(reference), check=check, adapters=adapters) as server:
            heard = checks.hear(server, reference, cache=True)
            answers = checks.answer(server, reference)
            teller = "tuned" if "tuned" in reference.said else "weights"
            found = [
                checks.tokens(server, tokenizer, reference, differs),
                checks.template(server, conversations),
                checks.stop(server, tokenizer, reference, answers, teller, exact=encoding in EXACT),
                checks.file(reference, heard, encoding, speaker, experts=experts),
            ]
    except (InputError, RunFailed) as error:
        problem = error.problems[0]
        text = f"{problem.what} {problem.evidence}".strip()
        look = "what llama.cpp says, and the tensors and keys it speaks of"
        return _proof(product, (Check("load", False, text, {}, look),), reference, _losses(reference), began)
    if made_of is not None:
        found.append(stored(path, made_of, check))
    if "tuned" in reference.said:
        found.append(checks.training(reference, heard, file_gate(encoding, "float32", experts=experts).mean))
    losses = _losses(reference) | _finite({encoding: checks.loss(heard, reference.places.learned)})
    return replace(_proof(product, tuple(found), reference, losses, began), answers=answers, heard=heard)


def _has_experts(path: Path) -> bool:
    summary = read_gguf(path)
    return bool(summary.metadata.get(f"{summary.architecture}.expert_count"))


def _proof(
    product: str,
    found: tuple[Check, ...],
    reference: Reference,
    losses: dict[str, float],
    began: float,
) -> Proof:
    seconds = time.monotonic() - began
    return Proof(product, found, losses, len(reference.places.row), reference.held_out, seconds)


def _losses(reference: Reference) -> dict[str, float]:
    said = {who: reference.said[who] for who in ("base", "tuned", "weights") if who in reference.said}
    return _finite({who: checks.loss(heard, reference.places.learned) for who, heard in said.items()})


def _finite(losses: dict[str, float]) -> dict[str, float]:
    return {who: loss for who, loss in losses.items() if math.isfinite(loss)}


def _context(reference: Reference) -> int:
    lengths = [len(tokens) for tokens in (*reference.places.rows, *(p.tokens for p in reference.prompts))]
    return (
        max(lengths, default=0)
        + BESIDE
        + int(np.max([len(ids) for said in reference.answers.values() for ids in said] or [0]))
    )
