"""Chats with SentencePiece-style vocabularies have the ids of training, or a note says where not."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, normalizers, pre_tokenizers

from tests.unit.export.chats import LLAMA_2, PHI_3_TEMPLATE, misread_chats
from tests.unit.export.pieces import metaspace, sentencepiece_like
from tests.unit.export.tiny import codes, different, model_of, notes

MISTRAL_3 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)


NO_BOS = "{% for m in messages %}{{ '[INST] ' + m.content + '[/INST]' }}{% endfor %}"


STOPS = "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token + ' ' }}{% endfor %}"


STYLES: dict[str, tuple[Any, Any, tuple[str, ...], str, int]] = {
    "Llama 2": (None, None, (), LLAMA_2, 0),
    "Mistral 1, control instructions": (None, None, ("[INST]", "[/INST]"), MISTRAL_3, 0),
    "Mistral 3": (None, metaspace("first"), ("[INST]", "[/INST]"), MISTRAL_3, 0),
    "first, no BOS": (None, metaspace("first"), (), NO_BOS, 0),
    "first, no BOS, control instructions": (None, metaspace("first"), ("[INST]", "[/INST]"), NO_BOS, 0),
    "first, no BOS, stops": (None, metaspace("first"), (), STOPS, 2),
    "Llama 2, always": (None, metaspace("always"), (), LLAMA_2, 0),
    "always, control instructions": (None, metaspace("always"), ("[INST]", "[/INST]"), MISTRAL_3, 2),
    "never": (None, metaspace("never"), ("[INST]", "[/INST]"), MISTRAL_3, 0),
    "Gemma": (normalizers.Replace(" ", "▁"), None, (), LLAMA_2, 0),
}
"""Normalizer, pre-tokenizer, more control tokens, template, chats that differ."""


@pytest.mark.parametrize("style", STYLES)
def test_chats_have_the_ids_of_training_or_a_note_says_where_not(tmp_path: Path, style: str) -> None:
    normalizer, pre, control, template, wrong = STYLES[style]
    tokenizer = sentencepiece_like(normalizer, pre)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in control])
    folder = model_of(tmp_path / "m", tokenizer, eos_token="</s>", bos_token="<s>", chat_template=template)
    assert len(misread_chats(folder)) == wrong
    assert wrong == 0 or notes(folder)


def test_chats_of_a_first_blank_only_model_read_alike(tmp_path: Path) -> None:
    tokenizer = sentencepiece_like(pre=pre_tokenizers.Metaspace(prepend_scheme="first", split=False))
    template = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}<s>"
    folder = model_of(tmp_path / "m", tokenizer, eos_token="</s>", chat_template=template)
    assert different(folder, tokenizer, ["<s>the cat</s><s> the</s><s>"]) == []


def test_tokens_that_swallow_blanks_otherwise_than_in_phi_3_are_refused(tmp_path: Path) -> None:
    tokenizer = sentencepiece_like()
    for text, rstrip in (("<|endoftext|>", False), ("</s>", True), ("<|user|>", True), ("<|end|>", False)):
        tokenizer.add_special_tokens([AddedToken(text, normalized=False, rstrip=rstrip)])
    template = PHI_3_TEMPLATE.replace("assistant", "user")
    folder = model_of(tmp_path / "m", tokenizer, eos_token="</s>", chat_template=template)
    assert codes(folder) == ["gguf.tokenizer"]
