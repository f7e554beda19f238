"""Chats and templates, and whether llama.cpp reads them as training does."""

from pathlib import Path
from typing import Any

from localtune.data.template import ChatTemplate
from tests.unit.export.served import Served
from tests.unit.export.tiny import exported, opened

MESSAGES = [
    {"role": "user", "content": "  two blanks <|im_end|> and\n"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "é?"},
]


PHI_3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


LLAMA_2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)


CHATS = (
    [{"role": "user", "content": "the cat"}],
    [
        {"role": "user", "content": "  the  cat\n"},
        {"role": "assistant", "content": "sat"},
        {"role": "user", "content": "x"},
    ],
)


def misread_chats(folder: Path) -> list[Any]:
    """The chats whose ids in llama.cpp are not those of training."""
    tokenizer = opened(folder)[1]
    assert tokenizer.template is not None
    template = ChatTemplate(tokenizer.template, tokenizer.names)
    with Served(exported(folder)) as served:
        return [
            chat for chat in CHATS
            if served.ids(served.prompt(chat), special=True)
            != tokenizer.encode(template.render(chat, prompt=True).text, special=False)
        ]  # fmt: skip
