"""The comparisons a proof is made of. Each gives a `Check`: passed or not, the figures in a sentence, where to look."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from localtune.batch import Ints
from localtune.data.conversations import Message
from localtune.data.render import Renderer
from localtune.data.template import Refused
from localtune.data.tokenizer import Tokenizer
from localtune.distribution import TOP, Distributions, agreement, divergence, from_tops
from localtune.errors import safe
from localtune.llamacpp import LlamaServer
from localtune.proof.gates import Gate, training_limit
from localtune.proof.strings import CONVERSATIONS, HARD
from localtune.reference import ANSWER, Reference


@dataclass(frozen=True)
class Check:
    """One comparison."""

    name: str
    passed: bool
    text: str
    """What was found, in one sentence."""
    figures: dict[str, float] = field(default_factory=dict)
    look: str = ""
    """Where to look when it failed."""


def tokens(server: LlamaServer, tokenizer: Tokenizer, reference: Reference) -> Check:
    """Hard strings, and the compared rows as text, give the ids that training used."""
    composed = [text for text in HARD if not _composes(tokenizer, text)]
    wrong = [
        text for text in composed
        if server.tokenize(text, special=True, parse=True) != tokenizer.encode(text, special=True)
    ]  # fmt: skip
    rows = [tokenizer.decode(ids.tolist(), skip_special=False) for ids in reference.places.rows]
    ours = [(text, tokenizer.encode(text, special=False)) for text in rows]
    wrong += [text for text, ids in ours if server.tokenize(text, special=False, parse=True) != ids]
    skipped = len(HARD) - len(composed)
    note = f"; {skipped} more only once composed (NFC), which llama.cpp does not do" if skipped else ""
    right = f"{len(composed)} hard strings and {len(rows)} {reference.held_out} rows give the same ids{note}"
    first = f"{len(wrong)} of {len(composed) + len(rows)} texts give other ids, the first: {safe(repr(wrong[:1]), 90)}"
    return Check(
        "tokens",
        not wrong,
        first if wrong else right,
        {"texts": len(composed) + len(rows), "different": len(wrong)},
        "tokenizer.ggml.pre, merges and scores of the file, beside tokenizer.json",
    )


def template(server: LlamaServer, renderer: Renderer) -> Check:
    """Conversations give the ids that the model's own template gives."""
    if renderer.turns is None:
        return Check("template", True, "the model has no chat template", {"conversations": 0, "different": 0})
    compared, wrong = 0, []
    for turns in CONVERSATIONS:
        try:
            ours = renderer.conversation_ids([Message(role, text) for role, text in turns])  # type: ignore[arg-type]
        except Refused:
            continue
        compared += 1
        theirs = server.template_ids([{"role": role, "content": text} for role, text in turns])
        if theirs != list(ours):
            wrong.append(f"{theirs[:8]} for {list(ours)[:8]}" if theirs[:8] != list(ours)[:8] else repr(turns[-1][1]))
    right = f"{compared} conversations give the same ids"
    text = (
        f"{len(wrong)} of {compared} conversations give other ids, the first: {safe(wrong[0], 90)}" if wrong else right
    )
    look = "tokenizer.chat_template and add_bos_token of the file, beside the model's chat template"
    return Check("template", not wrong, text, {"conversations": compared, "different": len(wrong)}, look)


def stop(server: LlamaServer, tokenizer: Tokenizer, reference: Reference, answers: Sequence[Ints], who: str) -> Check:
    """The tokens that ended the trained model's answers end generation, and the answers end by themselves."""
    said = reference.answers.get(who, ())
    ended = {int(ids[-1]) for ids in said if len(ids)}
    prompt = next((p.tokens.tolist() for p in reference.prompts), list(reference.stops[:1]))
    deaf = [token for token in reference.stops if not server.stops_at(prompt, token)]
    needed = [token for token in deaf if token in ended or token == tokenizer.eos_id or deaf == [*reference.stops]]
    endless = sum(
        bool(len(mine)) and mine[-1] in reference.stops and not (len(theirs) and theirs[-1] in reference.stops)
        for mine, theirs in zip(said, answers, strict=False)
    )
    same = sum(np.array_equal(mine, theirs) for mine, theirs in zip(said, answers, strict=False))
    figures: dict[str, float] = {"ignored": len(deaf), "answers": len(said), "same": same, "endless": endless}
    look = "tokenizer.ggml.eos_token_id and eot_token_id of the file, beside generation_config.json"
    if needed:
        return Check("stop", False, f"generation goes on after {_named(tokenizer, needed)}", figures, look)
    if endless:
        return Check("stop", False, f"{endless} of {len(said)} answers do not end by themselves", figures, look)
    heard = _named(tokenizer, [token for token in reference.stops if token not in deaf])
    unheard = f", {_named(tokenizer, deaf)} cannot" if deaf else ""
    text = f"answers end at {heard}{unheard}; {same} of {len(said)} greedy answers are the same, word for word"
    return Check("stop", True, text, figures, look)


def file(weights: Distributions, heard: Distributions, gate: Gate) -> Check:
    """The file says what the weights it was made of say."""
    figures = compared(weights, heard)
    passed = figures["mean"] <= gate.mean and figures["max"] <= gate.largest
    text = f"{_shown(figures)} from the weights (limits {gate.mean:.0e}, {gate.largest:.0e})"
    look = "tensors, their order and types, rope and norm settings of the file"
    return Check("file", passed, text, figures, look)


def training(reference: Reference, heard: Distributions, allowance: float = 0.0) -> Check:
    """The product says what the trained model said, measured by how far training moved the base.

    `allowance` is what its encoding may differ from the weights.
    """
    figures = compared(reference.said["tuned"], heard)
    moved = float(divergence(reference.said["tuned"], reference.said["base"]).mean())
    limit = training_limit(reference.computed["tuned"], moved) + allowance
    text = f"{_shown(figures)} from the trained model (limit {limit:.1e}); training moved the base by {moved:.3g}"
    look = "the adapter, the base it was trained on, and how they were fused"
    return Check("training", figures["mean"] <= limit, text, figures | {"moved": moved, "limit": limit}, look)


def hear(server: LlamaServer, reference: Reference, *, cache: bool) -> Distributions:
    """What llama.cpp says at the places of the reference; `cache` keeps a row's beginning between its positions."""
    places, following = reference.places, reference.places.following
    tops = []
    for row, at, token in zip(places.row, places.at, following, strict=True):
        ids = places.rows[row][: at + 1].tolist()
        tops.append(server.next_logprobs(ids, top=TOP, force=int(token), cache=cache))
    return from_tops(tops, following)


def answer(server: LlamaServer, reference: Reference) -> tuple[Ints, ...]:
    """What llama.cpp answers greedily to the prompts, the stop token included."""
    found = []
    for prompt in reference.prompts:
        said = server.complete(prompt.tokens.tolist(), tokens=ANSWER)
        found.append(np.array(said.ids, np.int32))
    return tuple(found)


def loss(said: Distributions, learned: Ints) -> float:
    """Mean negative log-likelihood of the learned tokens, nats; of all tokens where none is learned."""
    chosen = said.following[learned > 0] if learned.any() else said.following
    return float(-chosen.astype(np.float64).mean())


def compared(p: Distributions, q: Distributions) -> dict[str, float]:
    """Mean and largest divergence KL(p || q), and the share of positions with the same likeliest token."""
    found = divergence(p, q)
    return {"mean": float(found.mean()), "max": float(found.max()), "top1": float(agreement(p, q).mean())}


def failed(checks: Iterable[Check]) -> list[Check]:
    """Those that did not pass."""
    return [check for check in checks if not check.passed]


def _named(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return ", ".join(safe(repr(tokenizer.decode([token], skip_special=False)), 30) for token in ids)


def _shown(figures: dict[str, float]) -> str:
    return f"KL mean {figures['mean']:.1e}, max {figures['max']:.1e}, top-1 {figures['top1']:.1%}"


def _composes(tokenizer: Tokenizer, text: str) -> bool:
    """Whether the tokenizer composes `text` (NFC) by itself."""
    composed = unicodedata.normalize("NFC", text)
    return composed != text and tokenizer.encode(composed, special=False) == tokenizer.encode(text, special=False)
