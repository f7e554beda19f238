"""Tiny random models of every family in Hugging Face folders, with tokenizers trained in code."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.pre_tokenizers import PreTokenizer
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

from localtune.data.tokenizer import Tokenizer as OurTokenizer
from localtune.errors import InputError
from localtune.export import Exportable, prepare
from localtune.export.gguf_file import write_gguf
from localtune.export.identity import identify
from localtune.model import ModelFiles, resolve
from tests.unit.export.served import Served

transformers.utils.logging.disable_progress_bar()

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = (
    "The quick brown fox can't jump over 13 lazy dogs; it's 1234567 ms late!!\n\n  Indented   code: x = y+1;\n",
    "Été naïve façade ÀÉÎ Ünïcödé Straße ΑΒΓ αβγ Привет МИР, İstanbul e\u0301clair ǅ ª º ² ½ Ⅷ ٣٤",
    "二〇二六年 漢字かなカナ",
    "안녕하세요 세계! 오늘은 2026년입니다. 🙂👩\u200d👩\u200d👧\u200d👦 «quotes» “curly” ‘x’ — … ",
    "\t\ttabs\r\nCRLF\r\n\r\n   \n  trailing   ",
    "camelCase HTTPServer iPhone'S WE'RE we'Ll don'T ÉcoleÉcole a/b//c [x](y) {z} <tag> $5.00 100% #1 @me ^~|`",
    "    def f(x):\n\t\treturn {'a': [1, 22, 333, 4444, 55555]}  # комментарий\n\n\n\nend ... !!! ??? ,.;:-_=+*&",
    "हिन्दी नमस्ते ไทย สวัสดี العربية مرحبا עברית שלום ქართული Հայերեն\u00a0nbsp\u3000wide\u200bzero",
)
"""What the tokenizers are trained on and what they are compared with."""


def hard_texts(folder: Path) -> list[str]:
    """The texts of llama.cpp's own vocabulary tests."""
    text = (folder / "ggml-vocab-gpt-2.gguf.inp").read_text("utf-8")
    return text.split("\n__ggml_vocab_test__\n")


def vectors(folder: Path, name: str) -> list[tuple[str, list[int]]]:
    """llama.cpp's own texts and the ids it wants of a vocabulary."""
    lines = (folder / f"ggml-vocab-{name}.gguf.out").read_text("utf-8").split("\n")
    ids = [[int(number) for number in line.split()] for line in lines]
    return list(zip(hard_texts(folder), ids, strict=False))


def split_by(*patterns: str) -> PreTokenizer:
    """Isolate what each pattern finds, then go to bytes."""
    splits: list[PreTokenizer] = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_level(
    pre: PreTokenizer, texts: Sequence[str] = TEXTS, size: int = 900, *, ignore_merges: bool = False
) -> Tokenizer:
    """Byte-level BPE whose merges know nothing of words, so that every split of `pre` shows in the ids."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(CONTROL), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False, max_token_length=12,
    )  # fmt: skip
    pieces = [text[start : start + 60] for text in texts for start in range(0, len(text), 7)]
    tokenizer.train_from_iterator(pieces, trainer)
    tokenizer.pre_tokenizer = pre
    return tokenizer


def every_pair(pre: PreTokenizer, *, ignore_merges: bool = False) -> Tokenizer:
    """Byte-level BPE in which any two bytes are a token, so that a split at another place hardly ever goes unseen."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(left, right) for left in alphabet for right in alphabet]
    random.Random(1).shuffle(pairs)
    tokens = [*CONTROL, *alphabet, *(left + right for left, right in pairs)]
    vocabulary = {text: number for number, text in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs, ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoders.ByteLevel()
    tokenizer.add_special_tokens(list(CONTROL))
    return tokenizer


def save_tokenizer(folder: Path, tokenizer: Tokenizer, **config: Any) -> None:
    """`tokenizer.json` and `tokenizer_config.json`; ChatML unless `config` says otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    values = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": CHATML} | config
    (folder / "tokenizer_config.json").write_text(json.dumps(values), "utf-8")


def llama(
    folder: Path, vocabulary: int, *, eos: int | list[int], mistral: bool = False, **config: Any
) -> PreTrainedModel:
    """A random model, saved; its weights are large enough that positions matter."""
    shape: dict[str, Any] = {
        **{"vocab_size": vocabulary, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256},
        **{"initializer_range": 0.2, "tie_word_embeddings": False, "eos_token_id": eos, "bos_token_id": None},
    }
    torch.manual_seed(1)
    kind, model_kind = (MistralConfig, MistralForCausalLM) if mistral else (LlamaConfig, LlamaForCausalLM)
    model = model_kind(kind(**(shape | config))).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    return model


def random_model(folder: Path, family: str, vocabulary: int, **config: Any) -> PreTrainedModel:
    """A random model of a family of transformers, such as "Qwen3", saved; no norm, bias or expert is idle."""
    shape: dict[str, Any] = {
        **{"vocab_size": vocabulary, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256},
        **{"initializer_range": 0.2, "tie_word_embeddings": False},
        **{"eos_token_id": 2, "bos_token_id": None, "pad_token_id": None},
    }
    torch.manual_seed(1)
    kind = getattr(transformers, {"Gemma3": "Gemma3Text"}.get(family, family) + "Config")
    model: PreTrainedModel = getattr(transformers, f"{family}ForCausalLM")(kind(**(shape | config))).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
            elif "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif "experts" in name or name.endswith("gate.weight"):
                parameter.normal_(0, 0.2)
    model.set_attn_implementation("eager")  # Gemma 2 caps its scores only there
    model.save_pretrained(folder)
    return model


def added(tokenizer: Tokenizer, *texts: str, special: bool = False, **flags: bool) -> None:
    """More added tokens."""
    tokenizer.add_tokens([AddedToken(text, special=special, normalized=False, **flags) for text in texts])


def opened(folder: Path) -> tuple[ModelFiles, OurTokenizer]:
    """The model and tokenizer in a folder."""
    return resolve(str(folder), folder, offline=True), OurTokenizer(folder)


def exported(folder: Path, encoding: str = "F32") -> Path:
    """The folder's model as a GGUF beside it."""
    return write_gguf_of(folder, folder.with_suffix(f".{encoding}.gguf"), encoding)


def write_gguf_of(folder: Path, path: Path, encoding: str, lineage: Mapping[str, str] | None = None) -> Path:
    """The folder's model as the GGUF `path`."""
    ready = prepared(folder, encoding)
    identity = identify(ready.model, finetune="test", base=folder.name, revision=None, lineage=lineage or {})
    write_gguf(ready, path, encoding, identity)
    return path


def prepared(folder: Path, *encodings: str) -> Exportable:
    """The folder's model, checked."""
    return prepare(*opened(folder), encodings)


def notes(folder: Path) -> tuple[str, ...]:
    """Where llama.cpp differs from the folder's tokenizer."""
    return prepared(folder).notes


def refused(folder: Path, *encodings: str) -> dict[str, str]:
    """Code -> sentence of everything that keeps the model from being exported."""
    with pytest.raises(InputError) as caught:
        prepared(folder, *encodings)
    return {problem.code: problem.what for problem in caught.value.problems}


def changed(path: Path, **keys: Any) -> None:
    """Set keys of the JSON object in `path`."""
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | keys), "utf-8")


def model_of(folder: Path, tokenizer: Tokenizer, *, rows: int = 0, eos: int | list[int] = 2, **config: Any) -> Path:
    """A random model with that tokenizer and `rows` more rows than it has tokens."""
    save_tokenizer(folder, tokenizer, **config)
    llama(folder, tokenizer.get_vocab_size() + rows, eos=eos)
    return folder


def codes(folder: Path) -> list[str]:
    """Codes of everything that keeps the model from being exported."""
    with pytest.raises(InputError) as caught:
        prepared(folder, "F32")
    return [problem.code for problem in caught.value.problems]


def different(folder: Path, tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """The texts whose ids in llama.cpp are not the tokenizer's."""
    with Served(exported(folder)) as served:
        return [text for text in texts if served.ids(text) != tokenizer.encode(text, add_special_tokens=False).ids]
