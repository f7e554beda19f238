"""SentencePiece-style BPE with byte fallback for llama.cpp: characters joined by score, blanks written as ▁.

llama.cpp joins the two neighbours whose union has the best score, where `tokenizer.json` takes the first applicable
merge. The two agree when every way to make a piece from two pieces is a merge and the merges of a piece stand together;
that is checked, and the score of a piece is minus its place among the pieces in the order of their merges. A blank
before a text, and again after every control token, is what llama.cpp can add; other rules are noted or refused.
"""

from collections.abc import Iterator, Mapping, Set
from typing import Any

from localtune.errors import InputError, Problem
from localtune.export.tokens import NO_FIT, TOKENIZER, Kind, Pieces, added_tokens, kind_of, merge_pairs

BLANK = "▁"
_CONTROL_SCORE = -1000.0
_BYTES = {f"<0x{byte:02X}>" for byte in range(256)}


def sentencepiece_pieces(state: Mapping[str, Any], *, chat: bool) -> Pieces:
    """The vocabulary of a SentencePiece-style BPE; `chat` = texts begin with a control token that a template writes.

    Raises `InputError` with everything llama.cpp cannot do.
    """
    model, added = state["model"], added_tokens(state)
    order = _merge_order(model)
    space_prefix, notes, problems = _blanks(state, chat)
    problems = [*problems, *_beyond(model, order, {token["content"] for token in added.values()})]
    if problems:
        raise InputError(*(Problem("gguf.tokenizer", what, TOKENIZER, fix=NO_FIT) for what in problems))
    tokens = {
        number: (text, Kind.BYTE if text in _BYTES else Kind.NORMAL)
        for text, number in sorted(model["vocab"].items(), key=lambda entry: entry[1])
    }
    tokens |= {number: (_content(token), kind_of(token)) for number, token in added.items()}
    return Pieces("llama", "default", tokens, (), _scores(tokens, order), space_prefix, tuple(notes))


def _content(token: Mapping[str, Any]) -> str:
    """A token that is looked for in normalised text stands there with ▁, in llama.cpp's text with a blank."""
    text = str(token["content"])
    return text.replace(BLANK, " ") if token.get("normalized") else text


def _merge_order(model: Mapping[str, Any]) -> dict[str, int]:
    """Piece -> its place among all pieces that merges make."""
    return {text: place for place, text in enumerate(dict.fromkeys(a + b for a, b in merge_pairs(model)))}


def _scores(tokens: Mapping[int, tuple[str, Kind]], order: Mapping[str, int]) -> dict[int, float]:
    """Merged pieces first, then the others by id; bytes 0, which are never compared."""
    rest = len(order)
    scores = {}
    for number, (text, kind) in sorted(tokens.items()):
        if kind == Kind.BYTE:
            scores[number] = 0.0
        elif kind == Kind.CONTROL:
            scores[number] = _CONTROL_SCORE
        elif text in order:
            scores[number] = -float(order[text])
        else:
            scores[number] = -float(rest)
            rest += 1
    return scores


def _beyond(model: Mapping[str, Any], order: Mapping[str, int], added: Set[str]) -> Iterator[str]:
    vocabulary = model["vocab"]
    missing = _BYTES - vocabulary.keys()
    if missing:
        yield f"lacks {len(missing)} of the 256 byte pieces, such as {min(missing)}"
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout", "ignore_merges"):
        if model.get(key):
            yield f"has {key} {model[key]!r:.40}, which llama.cpp does not know"
    pairs = merge_pairs(model)
    places = [order[left + right] for left, right in pairs]
    if places != sorted(places):
        yield "orders its merges in a way that scores of pieces cannot express"
    merges = set(pairs)
    for piece in vocabulary.keys() - _BYTES - added:
        for cut in range(1, len(piece)):
            pair = piece[:cut], piece[cut:]
            if pair not in merges and pair[0] in vocabulary and pair[1] in vocabulary:
                yield f"does not join {pair[0]!r} and {pair[1]!r} to {piece!r}, which llama.cpp would"
                return


def _blanks(state: Mapping[str, Any], chat: bool) -> tuple[bool, list[str], list[str]]:
    """Whether llama.cpp shall put a blank before a text, what differs then, and what cannot be done."""
    normalizers, pre = _flat(state.get("normalizer")), state.get("pre_tokenizer")
    kinds = [part.get("type") for part in normalizers]
    if pre is None and kinds and all(_replaces_blanks(part) or _prepends(part) for part in normalizers):
        if kinds in (["Prepend", "Replace"], ["Replace", "Prepend"]):
            return True, [], []
        if kinds == ["Replace"]:
            return False, [], []
    if normalizers or not isinstance(pre, dict) or pre.get("type") != "Metaspace" or pre.get("replacement") != BLANK:
        shown = f"{str(state.get('normalizer'))[:120]}, {str(pre)[:120]}"
        return False, [], [f"changes or splits text in a way that llama.cpp cannot: {shown}"]
    if pre.get("split", True):
        return (
            False,
            [],
            ["splits text at blanks before it joins pieces (Metaspace with split), and llama.cpp does not"],
        )
    return _metaspace(str(pre.get("prepend_scheme", "always")), chat)


def _metaspace(scheme: str, chat: bool) -> tuple[bool, list[str], list[str]]:
    begins = (
        "a text that begins with a blank, or goes on with one after a control token, gets one blank more in llama.cpp"
    )
    if scheme == "never":
        return False, [], []
    if scheme == "always":
        return True, [begins], []
    if chat:
        note = "text outside the chat template gets no blank before it in llama.cpp; in training it has one"
        return False, [note], []
    return True, [begins, "text after a control token gets a blank in llama.cpp that it has not in training"], []


def _flat(part: Any) -> list[Mapping[str, Any]]:
    if part is None:
        return []
    if part.get("type") == "Sequence":
        return [inner for one in part.get("normalizers") or [] for inner in _flat(one)]
    return [part]


def _replaces_blanks(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "Replace" and part.get("pattern") == {"String": " "} and part.get("content") == BLANK


def _prepends(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "Prepend" and part.get("prepend") == BLANK
