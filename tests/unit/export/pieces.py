"""Vocabularies like those of SentencePiece, made in code, and the texts they are compared at."""

from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

WORDS = ("the", "cat", "sat", "on", "mat", "and", "hat", "that", "rat", "had", "was", "flat", "as", "can", "be")


SPM_TEXTS = ["the cat", " the  cat", "thatthe", "\n\n the", "", "ünï 안녕 🙂", "a</s>the <s> cat", "    x", *WORDS]


RUNS = [" " * count + text for count in range(1, 40) for text in ("", "x", "the\n" + " " * count + "cat", "  the")]


def sentencepiece_like(normalizer: Any = None, pre: Any = None) -> Tokenizer:
    """Pieces with every way to join two of them as a merge, as a SentencePiece model is converted."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    joined = list(dict.fromkeys(f"▁{word}"[:end] for word in WORDS for end in range(2, len(word) + 2)))
    joined += [piece[1:] for piece in joined if len(piece) > 2 and piece[1:] not in joined]
    joined += ["▁▁", "▁▁▁▁"]
    letters = sorted({letter for piece in joined for letter in piece})
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *sorted(joined, key=len), *letters])}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in sorted((piece for piece in joined if len(piece) > 1), key=len)
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    return assembled(vocabulary, merges, normalizer, pre)


def assembled(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], normalizer: Any = None, pre: Any = None
) -> Tokenizer:
    """The tokenizer around a vocabulary; a blank before each text unless `normalizer` or `pre` say otherwise."""
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend("▁"), replace]) if normalizer is None else normalizer
    )
    if pre is not None:
        tokenizer.pre_tokenizer = pre
        tokenizer.normalizer = None
    tokenizer.decoder = decoders.ByteFallback()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def metaspace(scheme: str) -> Any:
    return pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
