"""What a chat template writes for given conversations, found out in a process of its own."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from localtune.data.template import ChatTemplate, Refused
from localtune.data.template_child import ask
from localtune.data.tokenizer import Tokenizer

_DAYS = (datetime.date(2001, 2, 3), datetime.date(2034, 11, 22))


def renderings(tokenizer: Tokenizer, conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[str | None]:
    """Each conversation as the template of `tokenizer` asks for an answer, without the BOS that llama.cpp puts first.

    None for one that it refuses, and for one that is written otherwise on another day. Raises `InputError`
    (template.syntax, .endless, .failed).
    """
    begins = tokenizer.names.get("bos_token", "") if tokenizer.prefix else ""  # as in export.special_ids
    asked = {"source": tokenizer.template, "names": tokenizer.names, "begins": begins, "conversations": conversations}
    texts: list[str | None] = ask(__name__, asked)
    return texts


def answer(asked: Mapping[str, Any]) -> list[str | None]:
    """What `renderings` asks."""
    templates = [ChatTemplate(asked["source"], asked["names"], day) for day in _DAYS]
    return [_rendered(templates, chat, asked["begins"]) for chat in asked["conversations"]]


def _rendered(templates: Sequence[ChatTemplate], chat: Sequence[Mapping[str, str]], begins: str) -> str | None:
    try:
        first, *others = (template.render(chat, prompt=True).text for template in templates)
    except Refused:
        return None
    same = all(other == first for other in others)
    return first.removeprefix(begins) if same else None
