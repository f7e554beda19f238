"""Which keys rows of each shape have: the table that detection goes through, from the most telling to the least.

Keys that hold null count as absent, as rows of a table have all its columns. A name of `data.columns` replaces the key
wherever the table has one for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from localtune.data.conversations import Example
from localtune.data.rows import Row
from localtune.data.shapes import conversation, pairs, preference, text
from localtune.data.shapes.turns import as_list, kind_of
from localtune.data.shapes.values import Unusable
from localtune.settings import Shape

Columns = Mapping[str, str]
"""What a row keeps -> under which key."""


@dataclass(frozen=True)
class Layout:
    """The keys of one shape."""

    shape: Shape
    needed: tuple[Columns, ...]
    """Alternatives; the first that a row has is taken."""
    optional: Mapping[str, tuple[str, ...]]
    """What may be there beside, and the keys it may have; the first that a row has is taken."""
    read: Callable[[Row, Columns, str | None], Example]
    """Raises `Unusable`."""
    fits: Callable[[Mapping[str, Any], Columns, Columns], bool] = lambda value, columns, named: True
    """Whether a row with these columns is of this shape, given what `data.columns` names."""

    def columns(
        self, value: Mapping[str, Any], named: Columns, *, sure: bool = False, null: bool = False
    ) -> Columns | None:
        """Where the row keeps what; None when it is of another shape.

        `sure`: that it is of this shape is known otherwise, so its keys suffice. `null`: they may hold null.
        """
        for alternative in self.needed:
            if not named.keys() <= alternative.keys() | self.optional.keys():
                continue
            found = {name: named.get(name, key) for name, key in alternative.items()}
            if any(value.get(key) is None and not (null and key in value) for key in found.values()):
                continue
            for name, keys in self.optional.items():
                if name in _ASKING and name not in named and not _ASKING.isdisjoint(found.keys() | named.keys()):
                    continue  # one of them is the prompt
                if name not in found and (key := self._key(value, named, name, keys)):
                    found[name] = key
            if sure or self.fits(value, found, named):
                return found
        return None

    @staticmethod
    def _key(value: Mapping[str, Any], named: Columns, name: str, keys: tuple[str, ...]) -> str | None:
        return named.get(name) or next((key for key in keys if value.get(key) is not None), None)

    def names(self) -> frozenset[str]:
        """Everything that `data.columns` may name for this shape."""
        return frozenset(self.optional).union(*self.needed)


def _turns(value: Mapping[str, Any], columns: Columns, kind: str, own: tuple[str, ...], named: Columns) -> bool:
    """Whether the turns are of `kind`; where these do not tell, the key does."""
    key = columns["messages"]
    try:
        found = kind_of(as_list(value[key], key))
    except Unusable:
        found = None
    return found == kind if found else key in own or ("messages" in named and kind == "role")


def _labelled(value: Mapping[str, Any], columns: Columns, named: Columns) -> bool:
    """A label of 1 or 0 may say anything, so it counts only where it is named."""
    if "label" in named:
        return True
    label = value[columns["label"]]
    return isinstance(label, bool | str) and pairs.truth(label) is not None


def _alpaca(value: Mapping[str, Any], columns: Columns, named: Columns) -> bool:
    if {"input", "history"} & named.keys():
        return True
    return columns["prompt"] == "instruction" and (columns["completion"] == "output" or "input" in columns)


def _text(value: Mapping[str, Any], columns: Columns, named: Columns) -> bool:
    alone = sum(part is not None for part in value.values()) == 1
    return columns["text"] == "text" or "text" in named or alone


_ASKING = frozenset(("prompt", "messages"))
_ANY: Mapping[str, tuple[str, ...]] = {"group": ("group",)}
_CHAT = {"system": ("system", "system_prompt"), "tools": ("tools", "functions"), **_ANY}
_PROMPTS = ("prompt", "question", "instruction", "query", "input")
_ALPACA = {"input": ("input", "context"), "history": ("history",), **_CHAT}
_PAIRS = (
    ("prompt", "completion"), ("prompt", "response"), ("question", "answer"), ("question", "response"),
    ("instruction", "response"), ("query", "response"), ("query", "answer"), ("input", "output"),
    ("problem", "solution"),
)  # fmt: skip
"""Keys of prompt and completion, in the order in which they are looked for."""
_CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue", "items")

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "preference",
        (
            {"chosen": "chosen", "rejected": "rejected"},
            {"chosen": "response_j", "rejected": "response_k"},
            {"chosen": "preferred_output", "rejected": "non_preferred_output"},
        ),
        {"prompt": _PROMPTS, "messages": _CHATS, "input": ("input",), **_CHAT},
        preference.from_preference,
    ),
    Layout(
        "kto",
        (
            *({"completion": "completion", "label": key} for key in ("label", "kto_tag")),
            *({"completion": "response", "label": key} for key in ("label", "kto_tag")),
            {"completion": "output", "label": "kto_tag"},
            *({"messages": chat, "label": key} for chat in _CHATS[:2] for key in ("label", "kto_tag")),
        ),
        {"prompt": _PROMPTS, "input": ("input",), **_CHAT},
        pairs.from_labelled,
        _labelled,
    ),
    Layout(
        "messages",
        tuple({"messages": key} for key in _CHATS),
        _CHAT,
        conversation.from_messages,
        lambda value, columns, named: _turns(value, columns, "role", ("messages",), named),
    ),
    Layout(
        "sharegpt",
        tuple({"messages": key} for key in ("conversations", *_CHATS)),
        _CHAT,
        conversation.from_sharegpt,
        lambda value, columns, named: _turns(value, columns, "from", ("conversations",), named),
    ),
    Layout(
        "fim",
        (
            {"prefix": "prefix", "suffix": "suffix", "middle": "middle"},
            {"prefix": "prompt", "suffix": "suffix", "middle": "completion"},
        ),
        _ANY,
        text.from_infill,
    ),
    Layout(
        "alpaca",
        ({"prompt": "instruction", "completion": "output"}, {"prompt": "instruction", "completion": "response"}),
        _ALPACA,
        pairs.from_alpaca,
        _alpaca,
    ),
    Layout(
        "prompt-completion",
        tuple({"prompt": prompt, "completion": completion} for prompt, completion in _PAIRS),
        _CHAT,
        pairs.from_prompt,
    ),
    Layout("text", tuple({"text": key} for key in ("text", "content", "document")), _ANY, text.from_text, _text),
)


def layout(shape: Shape) -> Layout:
    """The layout of `shape`."""
    return next(known for known in LAYOUTS if known.shape == shape)
