"""Make the quickstart's small chat model from nothing: `model/`, 2.3 million parameters.

    python recipes/quickstart/make_model.py

The run of seed 7 generated 8.3 million tokens of conversations, trained a byte-level BPE of 1,280 tokens on text of the
same kind, and trained a Llama of five layers and width 192 in one pass. It took 28 minutes on two CPU cores that other
work was using too (torch 2.13.0, transformers 5.23.0, `OMP_WAIT_POLICY=PASSIVE`).

Measured: the model copies 99.5 % of 200 lines of made-up words that it has never seen exactly right. It answers
requests with a plain sentence, never with JSON: 0 of the 200 rows of `test.jsonl`. It shows what fine-tuning does; its
plain replies often take up the wrong words of a request. Another processor or other library versions change the
weights in their last digits and may move these figures.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import time
from pathlib import Path

import numpy
import torch
from conversations import Turn, conversation
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from words import Part, made_up_word

FOLDER = Path(__file__).parent
SEED = 7
VOCABULARY = 1280
CONTEXT = 1024
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = [END_OF_TEXT, TURN_START, TURN_END]

TOKENS_PER_BATCH = 4096
MATRIX_RATE, VECTOR_RATE = 1e-2, 3e-3
# The user's words are mostly chance; a small weight on them leaves the replies to lead.
USER_WEIGHT = 0.15
MADE_UP = 0.6

# Merges inside words only: a word has the same tokens after a space as after a quote, which eases copying.
WORD_PATTERN = r"\p{L}+|\p{N}|\s|[^\s\p{L}\p{N}]"

# The same tokens by a sequence that llama.cpp knows as deepseek-coder, so that a GGUF reads the same ids.
LLAMA_CPP_PATTERNS = ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}")

CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'assistant' %}
{%- generation %}{{- message['content'] + '<|im_end|>' }}{%- endgeneration %}
{%- else %}
{{- message['content'] + '<|im_end|>' }}
{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

Segment = tuple[str, bool]


def segments(turns: list[Turn]) -> list[Segment]:
    """The text of a conversation in pieces, each with whether the assistant says it."""
    pieces: list[Segment] = []
    for user, assistant in turns:
        pieces.append((f"{TURN_START}user\n{user}{TURN_END}\n{TURN_START}assistant\n", False))
        pieces.append((f"{assistant}{TURN_END}", True))
        pieces.append(("\n", False))
    return pieces


def train_tokenizer(seed: int) -> Tokenizer:
    """Byte-level BPE; all values in its text are made up, so no listed value is one token."""
    rng = random.Random(seed)
    pieces = [piece for _ in range(40_000) for piece in segments(conversation(rng, made_up=1.0))]
    texts = [text for piece, _ in pieces for text in re.split(r"<\|\w+\|>", piece)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = split_by(WORD_PATTERN)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = split_by(*LLAMA_CPP_PATTERNS)
    return tokenizer


def split_by(*patterns: str) -> pre_tokenizers.PreTokenizer:
    """Isolate what each pattern finds, then go from characters to bytes."""
    splits = [pre_tokenizers.Split(Regex(one), behavior="isolated") for one in patterns]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def encode_pieces(tokenizer: Tokenizer, pieces: list[Segment]) -> tuple[NDArray[numpy.int32], NDArray[numpy.bool_]]:
    """Return the ids of the pieces, and for each whether the assistant says it."""
    encodings = tokenizer.encode_batch([text for text, _ in pieces])
    ids = [numpy.asarray(encoding.ids, dtype=numpy.int32) for encoding in encodings]
    spoken = [numpy.full(len(row), said) for row, (_, said) in zip(ids, pieces, strict=True)]
    return numpy.concatenate(ids), numpy.concatenate(spoken)


def pretraining_tokens(
    tokenizer: Tokenizer, count: int, seed: int
) -> tuple[NDArray[numpy.int32], NDArray[numpy.bool_]]:
    """At least `count` tokens of conversations, with marks on what the assistant says."""
    rng = random.Random(seed)
    parts: list[tuple[NDArray[numpy.int32], NDArray[numpy.bool_]]] = []
    total = 0
    while total < count:
        pieces: list[Segment] = []
        for _ in range(2000):
            pieces += segments(conversation(rng, MADE_UP))
            if rng.random() < 0.5:
                pieces.append((END_OF_TEXT, False))
        parts.append(encode_pieces(tokenizer, pieces))
        total += len(parts[-1][0])
    return numpy.concatenate([ids for ids, _ in parts]), numpy.concatenate([spoken for _, spoken in parts])


def new_model(tokenizer: Tokenizer) -> LlamaForCausalLM:
    """Return a small Llama with random weights."""
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=192,
        intermediate_size=448,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id(TURN_START),
        eos_token_id=tokenizer.token_to_id(TURN_END),
        pad_token_id=tokenizer.token_to_id(END_OF_TEXT),
        initializer_range=0.03,
    )
    return LlamaForCausalLM(config)


def rate_factor(share_done: float) -> float:
    """Linear warmup over the first 3 %, then a cosine down to nothing."""
    if share_done < 0.03:
        return share_done / 0.03
    return 0.5 * (1 + math.cos(math.pi * (share_done - 0.03) / 0.97))


def batch_loss(model: LlamaForCausalLM, ids: torch.Tensor, spoken: torch.Tensor) -> torch.Tensor:
    """Return the mean loss, the assistant's tokens weighing most."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    losses = cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    weights = torch.where(spoken[:, 1:].flatten(), 1.0, USER_WEIGHT)
    return (losses * weights).sum() / weights.sum()


def batch_at(
    tokens: NDArray[numpy.int32], spoken: NDArray[numpy.bool_], start: int, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one batch of rows of the asked length."""
    shape = (-1, length)
    ids = tokens[start : start + TOKENS_PER_BATCH].reshape(shape)
    marks = spoken[start : start + TOKENS_PER_BATCH].reshape(shape)
    return torch.from_numpy(ids).long(), torch.from_numpy(marks)


def make_optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, which learns to copy in far fewer steps; AdamW for the rest."""
    named = list(model.named_parameters())
    matrices = [parameter for name, parameter in named if parameter.dim() == 2 and "embed" not in name]
    others = [parameter for name, parameter in named if parameter.dim() != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=VECTOR_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def pretrain(model: LlamaForCausalLM, tokens: NDArray[numpy.int32], spoken: NDArray[numpy.bool_]) -> None:
    """One pass over the tokens; rows of 256 tokens first, rows of 512 in the last fifth."""
    optimizers = make_optimizers(model)
    steps = len(tokens) // TOKENS_PER_BATCH
    schedulers = [LambdaLR(optimizer, lambda step: rate_factor((step + 1) / steps)) for optimizer in optimizers]
    started, recent = time.time(), 0.0
    for step in range(steps):
        length = 256 if step < 0.8 * steps else 512
        loss = batch_loss(model, *batch_at(tokens, spoken, step * TOKENS_PER_BATCH, length))
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
        model.zero_grad()
        recent += loss.item()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{steps} loss {recent / 100:.4f} seconds {time.time() - started:.0f}", flush=True)
            recent = 0.0


def copy_tasks(count: int, seed: int) -> list[tuple[str, str]]:
    """Requests to copy made-up words that pretraining has never seen."""
    rng = random.Random(seed)
    tasks = []
    for _ in range(count):
        text = " ".join(made_up_word(rng, Part.TEST) for _ in range(rng.choice((1, 2, 3))))
        tasks.append(rng.choice(((f"Repeat: {text}", text), (f"Put this in quotes: {text}", f'"{text}"'))))
    return tasks


@torch.inference_mode()
def replies(model: LlamaForCausalLM, tokenizer: Tokenizer, requests: list[str]) -> list[str]:
    """Greedy replies to single-turn requests, padded on the left."""
    end, pad = tokenizer.token_to_id(TURN_END), tokenizer.token_to_id(END_OF_TEXT)
    prompts = [tokenizer.encode(segments([(request, "")])[0][0]).ids for request in requests]
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in prompts])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts])
    made = model.generate(
        ids, attention_mask=mask, max_new_tokens=64, do_sample=False, eos_token_id=end, pad_token_id=pad
    )
    rows: list[list[int]] = made[:, longest:].tolist()
    return [tokenizer.decode(row[: row.index(end)] if end in row else row) for row in rows]


def copy_share(model: LlamaForCausalLM, tokenizer: Tokenizer, count: int = 200) -> float:
    """Return the share of copying tasks that the model gets exactly right."""
    tasks = copy_tasks(count, seed=1)
    said = replies(model, tokenizer, [request for request, _ in tasks])
    return sum(reply == wanted for reply, (_, wanted) in zip(said, tasks, strict=True)) / count


def write_json(path: Path, content: object) -> None:
    """Write a file of indented JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write the tokenizer, its settings and the chat template."""
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": TURN_START,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "additional_special_tokens": SPECIAL_TOKENS,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
    }
    write_json(folder / "tokenizer_config.json", settings)


def write_model(folder: Path, model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    """The folder in the common layout, the weights in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    end, pad = tokenizer.token_to_id(TURN_END), tokenizer.token_to_id(END_OF_TEXT)
    model.generation_config = GenerationConfig(
        do_sample=False, bos_token_id=tokenizer.token_to_id(TURN_START), eos_token_id=[end, pad], pad_token_id=pad
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # Older readers look for the base of the rotary angles at the top level.
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    write_json(folder / "config.json", config)
    write_tokenizer(folder, tokenizer)


def main() -> None:
    """Make the tokenizer and the model, write both, and measure copying."""
    parser = argparse.ArgumentParser(description="Make the quickstart's model.")
    parser.add_argument("--tokens", type=int, default=8_200_000, help="tokens of pretraining text")
    parser.add_argument("--out", type=Path, default=FOLDER / "model")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer(SEED)
    tokens, spoken = pretraining_tokens(tokenizer, arguments.tokens, SEED + 1)
    print(f"{len(tokens)} tokens, {spoken.mean():.1%} said by the assistant", flush=True)
    model = new_model(tokenizer)
    print(f"{sum(parameter.numel() for parameter in model.parameters())} parameters", flush=True)
    pretrain(model, tokens, spoken)
    write_model(arguments.out, model.eval(), tokenizer)
    print(f"copied exactly: {copy_share(model, tokenizer):.1%} of held-out made-up words", flush=True)


if __name__ == "__main__":
    main()
