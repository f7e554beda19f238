"""Where llama.cpp begins a text and where it stops: BOS, and every id that ends generation.

A file names one eos, one eot and one eom; beside these llama.cpp stops at every token whose text is in its own list
(`STOPS_BY_TEXT`, llama-vocab.cpp), asked or not. The stops of a model are the eos ids of its configuration, then the
token that ends an answer in its chat template. What a file cannot say is noted. BOS: in training a chat has the BOS its
template writes and no other, a text without template has the tokenizer's prefix. llama.cpp puts one before both if
`add_bos_token` says so, and then takes away the template's own.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError, Problem
from localtune.export.template_probe import Habits, habits
from localtune.export.tokens import NO_FIT
from localtune.model import ModelFiles
from localtune.model.config import GENERATION, read_config

STOPS_BY_TEXT = frozenset(
    {
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>"),
        *("<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<eos>"),
        *("<end_of_utterance>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[", "<|ifm|im_end|>"),
    }
)
"""Texts of tokens at which llama.cpp stops by itself."""
FILLING = (
    ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    ("<|file_sep|>", "<|plamo:file_separator|>"),
)
"""Texts for filling in the middle that pad, name a repository, part files: it stops at one of each row, whichever it
comes upon first."""
_UNSTOPPED = (
    ("<|end|>", {"<|return|>", "<|call|>"}),
    ("<|end|>", {"<|calls|>", "<|flush|>"}),
    ("</s>", {"<|tool_response>"}),
)
"""A token at which it never stops, not even as eos, where the vocabulary has all of these."""


@dataclass(frozen=True)
class SpecialIds:
    """tokenizer.ggml.<name>_token_id, and what goes with them."""

    ids: dict[str, int]
    """bos, eos, eot, eom, unknown, padding; those that there are."""
    add_bos: bool
    chat_prefix: bool
    """A chat begins with a control token that the template writes."""
    notes: tuple[str, ...]


def special_ids(model: ModelFiles, tokenizer: Tokenizer, texts: Mapping[int, str]) -> SpecialIds:
    """Decide the special ids of the file; `texts` are those of all tokens.

    Raises `InputError` (codes gguf.prefix, gguf.no-stop, template.*).
    """
    seen = habits(tokenizer) if tokenizer.template is not None else None
    begins = seen.begins if seen else ""
    stops, notes = _stops(model, tokenizer, _end_of_turn(seen, tokenizer))
    ids, more = _end_ids(stops, texts)
    bos, add_bos, others = _bos(model, tokenizer, begins, seen is not None)
    ids["bos"] = stops[0] if bos is None else bos
    numbers = {text: number for number, text in texts.items()}
    for name, source in (("unknown", "unk_token"), ("padding", "pad_token")):
        if tokenizer.names.get(source) in numbers:
            ids[name] = numbers[tokenizer.names[source]]
    found = tokenizer.control.pattern.match(begins)
    return SpecialIds(ids, add_bos, found is not None, (*notes, *more, *others))


def _stops(model: ModelFiles, tokenizer: Tokenizer, end_of_turn: int | None) -> tuple[list[int], list[str]]:
    """Every id at which the model stops, the first its eos."""
    stops, notes = list(model.stop_ids), []
    if not stops and tokenizer.eos_id is not None:
        stops.append(tokenizer.eos_id)
    if end_of_turn is not None:
        if stops and end_of_turn not in stops:
            notes.append("the token that ends an answer is not among the model's eos ids; the file stops at it too")
        stops = list(dict.fromkeys([*stops[:1], end_of_turn, *stops]))  # a chat needs it before any other
    if not stops:
        what = "names no token that ends a text, so a chat would never stop"
        fix = f'write "eos_token_id" into {GENERATION}'
        raise InputError(Problem("gguf.no-stop", what, GENERATION, fix=fix))
    if max(stops) >= model.config.vocabulary:
        what = f"eos_token_id {max(stops)} is beyond the {model.config.vocabulary} rows of the embedding"
        raise InputError(Problem("gguf.no-stop", what, GENERATION, fix=f'correct "eos_token_id" in {GENERATION}'))
    return stops, notes


def _end_ids(stops: list[int], texts: Mapping[int, str]) -> tuple[dict[str, int], list[str]]:
    """eos, eot and eom, used for what llama.cpp does not find by its text."""
    ids, left = {"eos": stops[0]}, [number for number in stops[1:] if texts.get(number) not in STOPS_BY_TEXT]
    for name, number in zip(("eot", "eom"), left, strict=False):
        ids[name] = number
    there, asked = set(texts.values()), {texts.get(number, "") for number in stops}
    never = {text for text, others in _UNSTOPPED if others <= there}
    notes = [f"llama.cpp does not stop at {texts.get(number)!r:.80}: a file has room for three" for number in left[2:]]
    notes += [f"llama.cpp does not stop at {text!r}, because of other tokens" for text in sorted(never & asked)]
    others = [*sorted((STOPS_BY_TEXT & there) - asked - never), *_at_filling(there, asked)]
    if others:
        notes.append(f"llama.cpp also stops at {', '.join(others)}, at which the model does not")
    return ids, notes


def _at_filling(there: Set[str], asked: Set[str]) -> Iterator[str]:
    for row in FILLING:
        found = [text for text in row if text in there]
        if not asked >= set(found):
            yield found[0] if len(found) == 1 else f"one of {' and '.join(found)}"


def _bos(model: ModelFiles, tokenizer: Tokenizer, begins: str, chat: bool) -> tuple[int | None, bool, list[str]]:
    """The id, whether llama.cpp puts it before a text, and what differs."""
    prefix, bos = tokenizer.prefix, tokenizer.bos_id
    if len(prefix) > 1:
        what = f"puts {len(prefix)} tokens before a text; llama.cpp can put one"
        raise InputError(Problem("gguf.prefix", what, tokenizer.folder.name, fix=NO_FIT))
    if prefix and bos not in (None, prefix[0]):
        what = f"puts {prefix[0]} before a text, but bos_token is {bos}"
        raise InputError(Problem("gguf.prefix", what, tokenizer.folder.name, fix="make bos_token the same token"))
    if bos is None:
        bos = prefix[0] if prefix else _stated_bos(model)
    text = tokenizer.names.get("bos_token", "")
    if prefix and chat and not (text and begins.startswith(text)):
        note = "text outside the chat template gets no BOS in llama.cpp, because the template writes none"
        return bos, False, [note]
    return bos, bool(prefix), []


def _stated_bos(model: ModelFiles) -> int | None:
    stated = read_config(model.folder).get("bos_token_id")
    return stated if type(stated) is int and 0 <= stated < model.config.vocabulary else None


def _end_of_turn(seen: Habits | None, tokenizer: Tokenizer) -> int | None:
    """The token that ends an answer; eos where a template writes none, because training appends it."""
    if seen is None or not seen.answers:
        return None
    return tokenizer.id_of(seen.end_of_turn) if seen.end_of_turn else tokenizer.eos_id
