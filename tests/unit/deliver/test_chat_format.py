"""Known chat templates: recognised by what they render, and written as Go templates that render the same."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.deliver.chat_format import CONVERSATIONS, FORMATS, ChatFormat, known_format, recognised
from localtune.deliver.renderings import renderings
from localtune.errors import InputError
from tests.material import material
from tests.unit.deliver.go_template import prompt_of
from tests.unit.deliver.models import quickstart, with_template

KNOWN = {
    "Qwen-Qwen2.5-7B-Instruct": "ChatML",
    "google-gemma-2-2b-it": "Gemma",
    "meta-llama-Llama-3.1-8B-Instruct": "Llama 3",
    "microsoft-Phi-3.5-mini-instruct": "Phi-3",
    "mistralai-Mistral-Nemo-Instruct-2407": "Mistral",
}
OTHERS = {
    "HuggingFaceTB-SmolLM3-3B": "has a system text of its own with the date",
    "Qwen-Qwen3-0.6B": "leaves thoughts out of the history",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": "another format",
}
MISTRAL_V1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% elif m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}"
    "{% endif %}{% endfor %}"
)
GEMMA_3 = (
    "{{ bos_token }}{% set first = (messages[0].content + '\n\n') if messages[0].role == 'system' else '' %}"
    "{% for m in messages if m.role != 'system' %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role)"
    " + '\n' + (first if loop.first else '') + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


SPECIAL: dict[str, str | bool] = {"bos_token": "<|endoftext|>", "eos_token": "</s>", "add_bos_token": True}


def check(template: str, folder: Path, name: str) -> ChatFormat:
    """The format found, which renders every conversation as the template does, in Go as here."""
    tokenizer = with_template(folder, template, **SPECIAL)
    found = known_format(tokenizer)
    assert found is not None
    assert found.name == name
    rendered = renderings(tokenizer, CONVERSATIONS)
    assert sum(text is not None for text in rendered) >= 2
    for chat, text in zip(CONVERSATIONS, rendered, strict=True):
        if text is not None:
            assert prompt_of(found.go_template(), chat) == text
    return found


@pytest.mark.parametrize("template", KNOWN)
def test_the_makers_templates_are_recognised_and_go_renders_the_same(template: str, tmp_path: Path) -> None:
    text = (material("chat-templates") / f"{template}.jinja").read_text("utf-8")
    check(text, tmp_path / "model", KNOWN[template])


@pytest.mark.parametrize("template", OTHERS)
def test_templates_that_say_more_are_left_to_the_file(template: str, tmp_path: Path) -> None:
    text = (material("chat-templates") / f"{template}.jinja").read_text("utf-8")
    assert known_format(with_template(tmp_path / "model", text, **SPECIAL)) is None


@pytest.mark.parametrize(("template", "name"), [(MISTRAL_V1, "Mistral"), (GEMMA_3, "Gemma")])
def test_other_forms_of_a_family_are_recognised(template: str, name: str, tmp_path: Path) -> None:
    check(template, tmp_path / "model", name)


def test_the_quickstarts_template_is_chatml() -> None:
    found = known_format(quickstart()[1])
    assert found is not None
    assert found.name == "ChatML"


@pytest.mark.parametrize(
    "change",
    [
        ("<|im_end|>\n", "<|im_end|>"),
        ("m.content", "m.content | upper"),
        ("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n"),
        ("{% for", "{{ strftime_now('%Y') }}{% for"),
        ("{% for", "{% if messages|length > 2 %}{{ raise_exception('long') }}{% endif %}{% for"),
    ],
)
def test_a_template_that_differs_anywhere_is_not_taken_for_a_known_one(change: tuple[str, str], tmp_path: Path) -> None:
    chatml = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    assert known_format(with_template(tmp_path / "as it is", chatml)) is not None
    assert change[0] in chatml
    assert known_format(with_template(tmp_path / "changed", chatml.replace(*change))) is None


def test_a_bos_that_nobody_else_writes_is_not_left_out(tmp_path: Path) -> None:
    assert known_format(with_template(tmp_path / "file adds it", GEMMA_3, **SPECIAL)) is not None
    alone = SPECIAL | {"add_bos_token": False}
    assert known_format(with_template(tmp_path / "template alone", GEMMA_3, **alone)) is None


def test_a_template_that_never_ends_is_ended(tmp_path: Path) -> None:
    endless = "{% for i in range(10**5) %}{% for j in range(10**5) %}{% endfor %}{% endfor %}"
    with pytest.raises(InputError, match=r"template\.endless"):
        known_format(with_template(tmp_path / "model", endless))
    with pytest.raises(InputError, match=r"template\.syntax"):
        known_format(with_template(tmp_path / "broken", "{% if %}"))


def test_a_system_text_that_go_would_execute_is_not_taken_over() -> None:
    rendered = [
        f"<|im_start|>system\n{{{{ .Secret }}}}<|im_end|>\n<|im_start|>user\n{chat[0]['content']}<|im_end|>\n"
        for chat in CONVERSATIONS[:2]
    ]
    assert recognised([*rendered, None, None]) is None


TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)


@given(st.sampled_from(FORMATS), TEXT.filter(bool), st.lists(TEXT, min_size=1, max_size=5), st.booleans())
def test_go_renders_every_chat_as_the_format_does(
    known: ChatFormat, system: str, texts: list[str], instructed: bool
) -> None:
    turns = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    turns = turns if len(turns) % 2 else turns[:-1]
    chat = ([{"role": "system", "content": system}] if instructed else []) + turns
    if not turns:
        return
    assert prompt_of(known.go_template(), chat) == known.render(chat)
