"""Real templates and tokenizers: what is learned is exactly the answers and the end of each turn."""

import datetime
import json
import re
from pathlib import Path
from typing import Any

import pytest

from localtune.data.conversations import Conversation, Message
from localtune.data.prepare import prepare
from localtune.data.render import Renderer, Tokenised
from localtune.data.tokenizer import Tokenizer
from localtune.errors import Problem
from localtune.settings import DataSettings
from tests.goals import Reached
from tests.material import material
from tests.unit.data.builders import PLACE, all_text, learned_text

pytestmark = pytest.mark.material
TODAY = datetime.date(2026, 1, 15)
NO_THINKING = "<think>\n\n</think>\n\n"
ENDS = {
    "HuggingFaceTB-SmolLM3-3B": "<|im_end|>",
    "LFM2-8B-A1B": "<|im_end|>",
    "Qwen-Qwen2.5-7B-Instruct": "<|im_end|>",
    "Qwen-Qwen3-0.6B": "<|im_end|>",
    "Qwen3-Coder": "<|im_end|>",
    "google-gemma-2-2b-it": "<end_of_turn>",
    "meta-llama-Llama-3.1-8B-Instruct": "<|eot_id|>",
    "meta-llama-Llama-3.2-3B-Instruct": "<|eot_id|>",
    "microsoft-Phi-3.5-mini-instruct": "<|end|>",
    "mistralai-Mistral-Nemo-Instruct-2407": "</s>",
}
WRITTEN = re.compile(r"<[|｜][^'\"<>{}]+[|｜]>|<(?:start|end)_of_turn>|\[/?INST\]")
TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello! How can I help?"},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4, 넷 😀"},
]


def with_template(folder: Path, name: str) -> Tokenizer:
    """The minimind vocabulary with the control tokens that template `name` writes."""
    source = (material("chat-templates") / f"{name}.jinja").read_text("utf-8")
    state = json.loads((material("tok-minimind") / "tokenizer.json").read_text("utf-8"))
    known = {token["content"] for token in state["added_tokens"]}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    for token in dict.fromkeys(["<s>", "</s>", *WRITTEN.findall(source)]):
        if token not in known:
            number = 6400 + len(state["added_tokens"]) - len(known)
            state["added_tokens"].append({"id": number, "content": token} | flags)
    (folder / "tokenizer.json").write_text(json.dumps(state), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    (folder / "chat_template.jinja").write_text(source, "utf-8")
    return Tokenizer(folder)


def rendered(tokenizer: Tokenizer, messages: list[dict[str, Any]], learn: Any = "answers") -> Tokenised | Problem:
    (done,) = Renderer(tokenizer, learn=learn, today=TODAY).render(
        [Conversation(PLACE, tuple(Message(**message) for message in messages))]
    )
    return done


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("turns", [2, 4])
@pytest.mark.parametrize("system", [True, False])
def test_the_mask_decodes_to_the_answers_and_their_ends(
    name: str, turns: int, system: bool, tmp_path: Path, goal: Reached
) -> None:
    tokenizer = with_template(tmp_path, name)
    messages = ([{"role": "system", "content": "Answer briefly."}] if system else []) + TALK[:turns]
    done = rendered(tokenizer, messages)
    if system and ("gemma" in name or "Mistral" in name):
        assert isinstance(done, Problem)
        assert done.code == ("template.refused" if "gemma" in name else "template.unmaskable")
        return
    assert isinstance(done, Tokenised)
    before = NO_THINKING if "Qwen3-0.6B" in name else ""
    expected = [f"{before}{turn['content']}{ENDS[name]}" for turn in TALK[1:turns:2]]
    texts = [learned_text(tokenizer, segment) for segment in done.segments]
    assert texts == (expected[::-1] if before else ["".join(expected)])
    assert all(segment.tokens.tolist().count(tokenizer.bos_id) <= 1 for segment in done.segments)
    if turns == 4 and not system:
        goal("tokens", f"{name}: the mask decodes to exactly the answers and their ends, at most one BOS")


@pytest.mark.parametrize("name", ENDS)
def test_ids_are_those_of_the_reference_rendering(name: str, tmp_path: Path, goal: Reached) -> None:
    tokenizer = with_template(tmp_path, name)
    folder = material("chat-templates")
    messages = json.loads((folder / "conversations.json").read_text("utf-8"))["multi_turn"]["messages"]
    rows = (json.loads(line) for line in (folder / "vectors.jsonl").read_text("utf-8").split("\n") if line)
    wanted = (f"{name}.jinja", "multi_turn", False)
    (text,) = [r["text"] for r in rows if (r["template"], r["conversation"], r["add_generation_prompt"]) == wanted]
    done = rendered(tokenizer, messages)
    assert isinstance(done, Tokenised)
    assert done.segments[0].tokens.tolist() == tokenizer.encode(text, special=False)
    assert all_text(tokenizer, done.segments[0]) == text
    goal("tokens", f"{name}: ids of the reference rendering, exact")


def test_golden_ids_and_mask_of_qwen() -> None:
    tokenizer = Tokenizer(material("tok-qwen2.5"))
    done = rendered(tokenizer, [{"role": "system", "content": "S"}, *TALK[:1], {"role": "assistant", "content": "4"}])
    assert isinstance(done, Tokenised)
    (one,) = done.segments
    start, end, line = 151644, 151645, 198
    system, user, answer = [8948, line, 50], [872, line, 13048], [77091, line, 19]
    expected = [start, *system, end, line, start, *user, end, line, start, *answer, end, line]
    assert one.tokens.tolist() == expected
    assert one.weights.nonzero()[0].tolist() == [len(expected) - 3, len(expected) - 2]


def test_a_prompt_that_forces_empty_thinking_is_followed_by_the_answer() -> None:
    tokenizer = Tokenizer(material("tok-minimind"))
    done = rendered(tokenizer, TALK)
    assert isinstance(done, Tokenised)
    (one,) = done.segments
    assert learned_text(tokenizer, one) == "Hello! How can I help?<|im_end|>4, 넷 😀<|im_end|>"
    assert all_text(tokenizer, one).count(NO_THINKING) == 2
    thinking = [TALK[0], {"role": "assistant", "content": "<think>\nhm\n</think>\n\n4"}]
    assert isinstance(rendered(tokenizer, thinking), Problem)


def test_a_template_that_prompts_what_it_does_not_write_is_refused(tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B")
    done = rendered(tokenizer, TALK)
    assert isinstance(done, Problem)
    assert done.code == "template.unmaskable"
    assert isinstance(rendered(tokenizer, TALK, "all"), Tokenised)


@pytest.mark.parametrize("name", ENDS)
def test_control_strings_of_a_user_never_become_control_ids(name: str, tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, name)
    counts = []
    for content in ("say x", f"say {ENDS[name]} and <s>"):
        done = rendered(tokenizer, [{"role": "user", "content": content}, {"role": "assistant", "content": "ok"}])
        assert isinstance(done, Tokenised)
        (one,) = done.segments
        counts.append(sum(token in tokenizer.control_ids for token in one.tokens.tolist()))
        assert content in all_text(tokenizer, one)
    assert counts[0] == counts[1]


def test_raw_pairs_of_a_sentencepiece_model_are_text_again() -> None:
    tokenizer = Tokenizer(material("model-stories260K"))
    settings = DataSettings(
        train="train-2000.jsonl", valid="none", columns={"prompt": "question", "completion": "answer"}
    )
    base = material("sft-gsm8k")
    done = prepare(settings, tokenizer, learn="answers", seed=1, base=base, vocabulary=512)
    rows = [json.loads(line) for line in (base / "train-2000.jsonl").read_text("utf-8").split("\n") if line]
    assert len(done.train) == 2000
    for row, segment in zip(rows[:50], done.train[:50], strict=True):
        prompt = tokenizer.encode(row["question"], special=True)
        assert segment.tokens[: len(prompt)].tolist() == prompt
        assert tokenizer.decode(segment.tokens.tolist(), skip_special=True) == row["question"] + row["answer"]
        assert segment.tokens[-1] == tokenizer.eos_id
        assert segment.targets == len(segment.tokens) - len(prompt)


def test_ids_are_those_of_the_vocabulary_vectors() -> None:
    folder = material("gguf-vocab")
    tokenizer = Tokenizer(material("tok-qwen2.5"))
    texts = (folder / "ggml-vocab-qwen2.gguf.inp").read_text("utf-8").split("\n__ggml_vocab_test__\n")
    lines = (folder / "ggml-vocab-qwen2.gguf.out").read_text("utf-8").split("\n")
    for text, line in zip(texts, lines, strict=False):
        assert tokenizer.encode(text, special=False) == [int(i) for i in line.split()]


def test_a_tiny_corpus_is_split_into_all_of_its_text() -> None:
    tokenizer = Tokenizer(material("model-stories260K"))
    settings = DataSettings(train="ko-constitution.txt", valid="none", max_tokens=128)
    base = material("cpt-text")
    done = prepare(settings, tokenizer, learn="answers", seed=1, base=base, vocabulary=512)
    text = (base / "ko-constitution.txt").read_bytes().decode("utf-8").replace("\r\n", "\n")
    ids = [token for segment in done.train for token in segment.tokens.tolist()]
    assert tokenizer.decode(ids, skip_special=True) == text
