"""The comparisons a proof is made of. Each gives a `Check`: passed or not, the figures in a sentence, where to look."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from localtune.batch import Ints
from localtune.data.conversations import Message
from localtune.data.render import Renderer
from localtune.data.rendering import Rendering
from localtune.data.tokenizer import Tokenizer
from localtune.distribution import TOP, Distributions, agreement, carried, divergence, finite, from_tops
from localtune.errors import InputError, safe
from localtune.llamacpp import LlamaServer
from localtune.outlay import ANSWER
from localtune.proof.gates import CARRIED, UNCERTAIN, file_gate, fusion_limit, loss_limit, training_limit
from localtune.proof.strings import CONVERSATIONS, HARD
from localtune.reference import Reference

NOTHING = "no row has two tokens, so there is no position to compare at"


@dataclass(frozen=True)
class Check:
    """One comparison."""

    name: str
    passed: bool | None
    """None: there was nothing to compare."""
    text: str
    """What was found, in one sentence."""
    figures: dict[str, float] = field(default_factory=dict)
    look: str = ""
    """Where to look when it failed."""


def never(text: str) -> bool:
    """Of no text is it known that llama.cpp reads it otherwise."""
    return False


def tokens(
    server: LlamaServer, tokenizer: Tokenizer, reference: Reference, differs: Callable[[str], bool] = never
) -> Check:
    """Hard strings, and the text of the compared rows, give the ids of the tokenizer that trained.

    Texts of which it is known that llama.cpp `differs` are left out and counted.
    """
    decoded = [tokenizer.decode(ids.tolist(), skip_special=False) for ids in reference.places.rows]
    hard = [found for text in HARD if (found := _comparable(tokenizer, text, differs)) is not None]
    rows = [(text, False) for text in decoded if not differs(text)]
    wrong = [
        text for text, special in (*hard, *rows)
        if server.tokenize(text, special=special, parse=True) != tokenizer.encode(text, special=special)
    ]  # fmt: skip
    skipped = len(HARD) - len(hard) + len(decoded) - len(rows)
    note = f"; left out are {skipped} that are known to differ (notes)" if skipped else ""
    right = f"{len(hard)} hard strings and {len(rows)} {reference.held_out} rows give the same ids{note}"
    first = f"{len(wrong)} of {len(hard) + len(rows)} texts give other ids, the first: {safe(repr(wrong[:1]), 90)}"
    return Check(
        "tokens",
        not wrong,
        first if wrong else right,
        {"texts": len(hard) + len(rows), "different": len(wrong), "left_out": skipped},
        "tokenizer.ggml.pre, merges and scores of the file, beside tokenizer.json",
    )


Rendered = list[tuple[Sequence[tuple[str, str]], list[int]]]
"""Conversations, each with the ids that the model's own template gives."""


def rendered(renderer: Renderer | Rendering) -> Rendered | None:
    """Those that the template does not refuse; None without a template. Raises `InputError` where it fails."""
    if renderer.tokenizer.template is None:
        return None
    found: Rendered = []
    for turns in CONVERSATIONS:
        try:
            ids = renderer.conversation_ids([Message(role, text) for role, text in turns])  # type: ignore[arg-type]
        except InputError as error:
            if error.problems[0].code != "template.refused":
                raise
            continue
        found.append((turns, list(ids)))
    return found


def template(server: LlamaServer, ours: Rendered | None) -> Check:
    """Conversations give the ids that the model's own template gives."""
    if ours is None:
        return Check("template", None, "the model has no chat template")
    if not ours:
        return Check("template", None, "the model's chat template refuses every conversation that was tried")
    wrong = []
    for turns, ids in ours:
        theirs = server.template_ids([{"role": role, "content": text} for role, text in turns])
        if theirs != ids:
            wrong.append(f"{theirs[:8]} for {ids[:8]}" if theirs[:8] != ids[:8] else repr(turns[-1][1]))
    text = f"{len(ours)} conversations give the same ids"
    if wrong:
        text = f"{len(wrong)} of {len(ours)} conversations give other ids, the first: {safe(wrong[0], 90)}"
    look = "tokenizer.chat_template and add_bos_token of the file, beside the model's chat template"
    return Check("template", not wrong, text, {"conversations": len(ours), "different": len(wrong)}, look)


def stop(
    server: LlamaServer,
    tokenizer: Tokenizer,
    reference: Reference,
    answers: Sequence[Ints],
    who: str,
    *,
    exact: bool = True,
) -> Check:
    """The tokens that end an answer end it in llama.cpp, and answers that ended by themselves still do.

    One answer that goes on is no fault: rounding may lead it elsewhere. All of them are, unless there is only one and
    the file is not `exact`.
    """
    if not reference.stops:
        return Check("stop", None, "the model names no token that ends an answer")
    said = reference.answers.get(who, ())
    prompt = next((p.tokens.tolist() for p in reference.prompts), [reference.stops[0]])
    deaf = [token for token in reference.stops if not server.stops_at(prompt, token)]
    ended = [i for i, ids in enumerate(said) if len(ids) and ids[-1] in reference.stops]
    needed = [t for t in deaf if t == tokenizer.eos_id or any(t == said[i][-1] for i in ended)]
    still = sum(len(answers[i]) > 0 and answers[i][-1] in reference.stops for i in ended)
    same = sum(np.array_equal(mine, theirs) for mine, theirs in zip(said, answers, strict=True))
    figures: dict[str, float] = {"ignored": len(deaf), "answers": len(said), "same": same, "ended": still}
    look = "tokenizer.ggml.eos_token_id and eot_token_id of the file, beside generation_config.json"
    if needed or len(deaf) == len(reference.stops):
        return Check("stop", False, f"generation goes on after {_named(tokenizer, needed or deaf)}", figures, look)
    if ended and not still and (exact or len(ended) > 1):
        return Check("stop", False, f"none of {len(ended)} answers ends by itself", figures, look)
    if ended and not still:
        return Check("stop", None, "the one answer goes on, as rounding may make it: too little to tell", figures, look)
    heard = _named(tokenizer, [token for token in reference.stops if token not in deaf])
    unheard = f", not at {_named(tokenizer, deaf)}, where none ended" if deaf else ""
    alike = f"; {same} of {len(said)} greedy answers are the same, word for word" if said else ""
    text = f"answers end at {heard}{unheard}{alike}"
    return Check("stop", True, text, figures, look)


def spokesman(reference: Reference) -> str:
    """Who says what a file must say."""
    return "weights" if "weights" in reference.said else "tuned"


def file(
    reference: Reference, heard: Distributions, encoding: str, speaker: str = "", *, experts: bool = False
) -> Check:
    """The file says what the weights it was made of say; `speaker` names who spoke for them, were they not computed.

    `experts`: it is a mixture of experts.
    """
    who = spokesman(reference)
    computed = reference.computed[who]
    if not len(heard.ids):
        return Check("file", None, NOTHING)
    if who == "tuned" and computed != "float32":
        return Check("file", None, f"the weights could not be computed here, and training was in {computed}")
    gate = file_gate(encoding, computed, experts=experts)
    if broken := _not_finite("file", reference.said[who], heard):
        return broken
    figures = compared(reference.said[who], heard)
    passed = figures["mean"] <= gate.mean and figures["max"] <= gate.largest
    rounded = "" if computed == "float32" else f"; computed in {computed}, so small faults would not show"
    text = f"{_shown(figures)} from {speaker or f'the {who}'} (limits {gate.mean:.0e}, {gate.largest:.0e}){rounded}"
    look = "tensors, their order and types, rope and norm settings of the file"
    return Check("file", passed, text, figures, look)


def fusion(reference: Reference, *, rounded: bool) -> Check:
    """The weights say what base and adapter say side by side, computed alike: both in the base's own weights.

    With `rounded` the fused weights are rounded to 16 bits, which may change a little.
    """
    if "expected" not in reference.said:
        return Check("fusion", None, "base and adapter could not be computed side by side here")
    expected, weights = reference.said["expected"], reference.said["weights"]
    if not len(weights.ids):
        return Check("fusion", None, NOTHING)
    if broken := _not_finite("fusion", expected, weights):
        return broken
    figures = compared(expected, weights)
    exact = reference.computed["expected"] == reference.computed["weights"] == "float32"
    moved = float(divergence(expected, reference.said["original"]).mean())
    limit = fusion_limit(moved, rounded=rounded, exact=exact)
    text = f"{_shown(figures)} from base and adapter side by side (limit {limit:.1e})"
    look = "the adapter, the base it was trained on, and how they were fused"
    return Check("fusion", figures["mean"] <= limit, text, figures | {"moved": moved, "limit": limit}, look)


def training(reference: Reference, heard: Distributions, allowance: float = 0.0) -> Check:
    """The product says what the trained session said, and has not lost what training changed.

    `allowance` is what its encoding may differ from the weights. A base that was quantised to train differs from the
    one the product is made of, so the distance is held to a share of what training moved, and to that difference.
    """
    tuned, base = reference.said["tuned"], reference.said["base"]
    start = reference.said.get("original", base)
    if not len(heard.ids):
        return Check("training", None, NOTHING)
    if broken := _not_finite("training", tuned, base, start, heard):
        return broken
    figures = compared(tuned, heard)
    moved, quantised = float(divergence(tuned, base).mean()), float(divergence(base, start).mean())
    types = {reference.computed["tuned"], reference.computed.get("weights", "float32")}
    limit = max(training_limit(computed, moved, quantised) for computed in types) + allowance
    share, error = carried(reference.said.get("expected", tuned), start, heard, start)
    worse, gained = _losses_apart(reference, heard)
    figures |= {"moved": moved, "limit": limit, "worse": worse, "gained": gained}
    text = f"{_shown(figures)} from the trained session (limit {limit:.1e}), which training moved by {moved:.1e}"
    look = "the encoding, which may be too coarse for so small a change, and the adapter"
    if figures["mean"] > limit:
        return Check("training", False, text, figures, look)
    if worse > loss_limit(gained):
        text += f"; its loss is {worse:.2f} higher, of {gained:.2f} that training gained"
        look = "how the base was stored to train: in so few bits it is another model; train.quantize with more bits"
        return Check("training", False, text, figures, look)
    if error > UNCERTAIN:
        return Check("training", None, f"{text}: too little to tell", figures, look)
    lost = share < CARRIED - 2 * error
    return Check("training", not lost, f"{text}{'; most of it is lost' if lost else ''}", figures, look)


def _losses_apart(reference: Reference, heard: Distributions) -> tuple[float, float]:
    """Nats by which the product's loss is above the trained session's, and that one's below its own base's."""
    learned = reference.places.learned
    tuned, base = (loss(reference.said[who], learned) for who in ("tuned", "base"))
    return loss(heard, learned) - tuned, base - tuned


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


def _not_finite(name: str, *said: Distributions) -> Check | None:
    """The check that failed because somebody says what is no number."""
    wrong = int((~np.logical_and.reduce([finite(one) for one in said])).sum())
    look = "weights that are not finite, or too large for the type they are computed in"
    return Check(name, False, f"no finite log-probabilities at {wrong} positions", {}, look) if wrong else None


def _named(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return ", ".join(safe(repr(tokenizer.decode([token], skip_special=False)), 30) for token in ids)


def _shown(figures: dict[str, float]) -> str:
    return f"KL mean {figures['mean']:.1e}, max {figures['max']:.1e}, top-1 {figures['top1']:.1%}"


def _comparable(tokenizer: Tokenizer, text: str, differs: Callable[[str], bool]) -> tuple[str, bool] | None:
    """A hard string as it can be compared, and whether special tokens are added; None where it cannot.

    A text that differs only at its very beginning stands behind BOS, as in a chat.
    """
    if _composes(tokenizer, text):
        return None
    if not differs(text):
        return text, True
    bos = "" if tokenizer.bos_id is None else tokenizer.decode([tokenizer.bos_id], skip_special=False)
    return (bos + text, False) if bos and not differs(bos + text) else None


def _composes(tokenizer: Tokenizer, text: str) -> bool:
    """Whether the tokenizer composes `text` (NFC) by itself."""
    composed = unicodedata.normalize("NFC", text)
    return composed != text and tokenizer.encode(composed, special=False) == tokenizer.encode(text, special=False)
