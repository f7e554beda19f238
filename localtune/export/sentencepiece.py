"""SentencePiece-style BPE with byte fallback for llama.cpp: characters joined by score, blanks written as ▁.

llama.cpp joins the two neighbours whose union has the best score, where `tokenizer.json` takes the first applicable
merge. The two agree when every way to make a piece from two pieces is a merge and the merges of a piece stand together;
that is checked, and the score of a piece is minus its place among the pieces in the order of their merges. Pieces of
blanks alone share one score in SentencePiece models, and transformers writes their merges longest left part first,
which interleaves them. With one score for all of them llama.cpp joins the leftmost two; where there is a piece of every
length up to the longest, both fill a run of blanks from the left with the longest piece, so the ids are the same. What
llama.cpp can do about blanks is to put one before a text and after every control token, or nowhere. That is exactly
what a tokenizer does that prepends as it normalises, or that never prepends; Metaspace differs at some places, which
are noted, and chosen so that what a chat template writes has the ids of training wherever that can be.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from localtune.errors import InputError, Problem
from localtune.export.problems import Problems
from localtune.export.tokens import NO_FIT, TOKENIZER, Kind, Pieces, added_tokens, kind_of, merge_pairs, parts

BLANK = "▁"
_CONTROL_SCORE = -1000.0
_BYTES = {f"<0x{byte:02X}>" for byte in range(256)}


@dataclass(frozen=True)
class _Blanks:
    """What is done about blanks at the beginning of a text."""

    prefix: bool
    """llama.cpp puts one before."""
    notes: tuple[str, ...] = ()
    """What differs then."""
    differs: Callable[[Sequence[str]], bool] = lambda _: False
    """Whether a text does, given as what stands before, between and behind its added tokens."""


def sentencepiece_pieces(state: Mapping[str, Any], *, chat: bool) -> Pieces:
    """The vocabulary of a SentencePiece-style BPE; `chat` = texts begin with a control token that a template writes.

    Raises `InputError` with everything llama.cpp cannot do.
    """
    model, added, blanks = state["model"], added_tokens(state), _Blanks(False)
    pairs = merge_pairs(model)
    order = _merge_order(pairs)
    problems = Problems()
    with problems.kept():
        blanks = _blanks(state, chat)
    beyond = _beyond(model, pairs, order, {str(token["content"]) for token in added.values() if _is_found(token)})
    problems.add(*map(_problem, beyond))
    problems.end()
    tokens = {
        number: (text, Kind.BYTE if text in _BYTES else Kind.NORMAL)
        for text, number in sorted(model["vocab"].items(), key=lambda entry: entry[1])
    }
    tokens |= {number: (_content(token), kind_of(token)) for number, token in added.items()}
    scores = _scores(tokens, order)
    return Pieces("llama", "default", tokens, (), scores, blanks.prefix, blanks.notes, blanks.differs)


def _problem(what: str) -> Problem:
    return Problem("gguf.tokenizer", what, TOKENIZER, fix=NO_FIT)


def _is_found(token: Mapping[str, Any]) -> bool:
    """Whether an added token is found in a text before any pieces are joined: ▁ stands in no text as it is typed."""
    return bool(token.get("normalized")) or BLANK not in str(token["content"])


def _content(token: Mapping[str, Any]) -> str:
    """A token that is looked for in normalised text stands there with ▁, in llama.cpp's text with a blank."""
    text = str(token["content"])
    return text.replace(BLANK, " ") if token.get("normalized") else text


def _merge_order(pairs: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Piece -> its place among all pieces that merges make."""
    order = {text: place for place, text in enumerate(dict.fromkeys(left + right for left, right in pairs))}
    runs = [(len(left), len(right)) for left, right in pairs if not (left + right).strip(BLANK)]
    lengths = {left + right for left, right in runs}
    if runs == sorted(runs, reverse=True) and lengths == set(range(2, len(lengths) + 2)):
        first = min((order[BLANK * length] for length in lengths), default=0)
        order |= {BLANK * length: first for length in lengths}
    return order


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


def _beyond(
    model: Mapping[str, Any], pairs: Sequence[tuple[str, str]], order: Mapping[str, int], added: Set[str]
) -> Iterator[str]:
    vocabulary = model["vocab"]
    missing = _BYTES - vocabulary.keys()
    if missing:
        yield f"lacks {len(missing)} of the 256 byte pieces, such as {min(missing)}"
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout", "ignore_merges"):
        if model.get(key):
            yield f"has {key} {model[key]!r:.40}, which llama.cpp does not know"
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


def _blanks(state: Mapping[str, Any], chat: bool) -> _Blanks:
    """Raises `InputError` for what llama.cpp cannot do."""
    normalizers = parts(state.get("normalizer"))
    steps = parts(state.get("pre_tokenizer"))
    if any(map(_replaces_blanks, normalizers)):
        steps = [step for step in steps if not _splits_at_blanks(step)]
    replaces, prepends = sum(map(_replaces_blanks, normalizers)), sum(map(_prepends, normalizers))
    if not steps and replaces == 1 and prepends <= 1 and len(normalizers) == replaces + prepends:
        return _Blanks(prefix=prepends == 1)
    if normalizers or len(steps) != 1 or not _is_metaspace(steps[0]):
        shown = f"{str(state.get('normalizer'))[:120]}, {str(state.get('pre_tokenizer'))[:120]}"
        raise InputError(_problem(f"changes or splits text in a way that llama.cpp cannot: {shown}"))
    if steps[0].get("split", True):
        what = "splits text at blanks before it joins pieces (Metaspace with split), and llama.cpp does not"
        raise InputError(_problem(what))
    return _metaspace(str(steps[0].get("prepend_scheme", "always")), chat)


_BEGINS = "a text that begins with a blank, or goes on with one after a control token, gets one blank more in llama.cpp"
_AFTER_CONTROL = "text after a control token gets a blank in llama.cpp that it has not in training"
_OUTSIDE = "text outside the chat template gets no blank before it in llama.cpp; in training it has one"


def _metaspace(scheme: str, chat: bool) -> _Blanks:
    if scheme == "never":
        return _Blanks(False)
    if scheme == "always":
        return _Blanks(True, (_BEGINS,), lambda between: any(map(_begins_blank, between)))
    if chat:
        return _Blanks(False, (_OUTSIDE,), lambda between: bool(between[0]) and not _begins_blank(between[0]))
    return _Blanks(True, (_BEGINS, _AFTER_CONTROL), lambda between: _begins_blank(between[0]) or any(between[1:]))


def _begins_blank(text: str) -> bool:
    return text.startswith((" ", BLANK))


def _is_metaspace(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "Metaspace" and part.get("replacement") == BLANK


def _replaces_blanks(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "Replace" and part.get("pattern") == {"String": " "} and part.get("content") == BLANK


def _splits_at_blanks(part: Mapping[str, Any]) -> bool:
    """A step that finds nothing to split, since every blank has become ▁ before."""
    return part.get("type") == "Split" and part.get("pattern") == {"String": " "} and not part.get("invert")


def _prepends(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "Prepend" and part.get("prepend") == BLANK
