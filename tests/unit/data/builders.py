"""Tiny tokenizers, templates and examples built in code, and the shared material where it is present."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from localtune.batch import Segment
from localtune.data.conversations import Conversation, Example, Message, Role
from localtune.data.render import Renderer, Tokenised
from localtune.data.rows import Place
from localtune.data.tokenizer import Tokenizer as OurTokenizer
from localtune.data.turns import Learn
from localtune.errors import Problem

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
PLACE = Place("data.jsonl", 7)


def byte_level(merges: Sequence[tuple[str, str]] = ()) -> Tokenizer:
    """Byte-level BPE: 256 bytes and `merges`."""
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sentencepiece(kind: str) -> Tokenizer:
    """Characters with byte fallback; a blank before the text comes from `kind`: prepend, first or always."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", *map(chr, range(33, 127))]
    pieces += ["▁a", "▁b", "▁aa"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = [("▁", "a"), ("▁", "b"), ("▁a", "a")]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if kind == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def save_tokenizer(
    folder: Path,
    tokenizer: Tokenizer | None = None,
    *,
    template: str | None = CHATML,
    control: Sequence[str] = CONTROL,
    bos: bool = False,
    config: Mapping[str, Any] | None = None,
) -> OurTokenizer:
    """`tokenizer` with special tokens, saved and opened; with `bos` the post-processor writes <s>."""
    tokenizer = tokenizer or byte_level()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    if bos:
        ids = [("<s>", tokenizer.token_to_id("<s>"))]
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=ids)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    values = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template} | dict(config or {})
    (folder / "tokenizer_config.json").write_text(json.dumps(values), "utf-8")
    return OurTokenizer(folder)


def conversation(*turns: tuple[Role, str]) -> Conversation:
    """Turns as (role, content)."""
    return Conversation(PLACE, tuple(Message(role, content) for role, content in turns))


def segment(length: int, source: int = 0, learned: int = 1) -> Segment:
    """`length` tokens of which the last `learned` are targets."""
    weights = np.zeros(length, np.float32)
    weights[max(1, length - learned) :] = 1.0
    return Segment(np.arange(1, length + 1, dtype=np.int32) + 1000 * source, weights, source)


TALK = conversation(("system", "S"), ("user", "hi"), ("assistant", "one"), ("user", "more"), ("assistant", "two "))


def segments(tokenizer: OurTokenizer, example: Example, learn: Learn = "answers") -> tuple[Segment, ...]:
    """What `example` becomes; the test fails where it cannot be used."""
    (done,) = Renderer(tokenizer, learn=learn).render([example])
    assert isinstance(done, Tokenised), done
    return done.segments


def the_problem(tokenizer: OurTokenizer, example: Example, learn: Learn = "answers") -> Problem:
    """Why `example` cannot be used."""
    (done,) = Renderer(tokenizer, learn=learn).render([example])
    assert isinstance(done, Problem)
    return done


def learned_text(tokenizer: OurTokenizer, one: Segment) -> str:
    """What the targets decode to."""
    return tokenizer.decode(one.tokens[one.weights > 0].tolist(), skip_special=False)


def all_text(tokenizer: OurTokenizer, one: Segment) -> str:
    """What all tokens decode to."""
    return tokenizer.decode(one.tokens.tolist(), skip_special=False)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A JSONL file."""
    path.write_text("".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path
