"""Control tokens stay in the hands of the template: text that merely looks like one never becomes one.

Where the content of a message holds the string of a control token, `hold` replaces it by a placeholder before the
template runs. In the rendered text every remaining control string is the template's own; `frame` gives those another
name, which only a second tokenizer knows, and writes the held strings back as the plain text they are.
"""

import re
from collections.abc import Collection

from localtune.data.conversations import Role

SPOKEN = frozenset({"<think>", "</think>", "<tool_call>", "</tool_call>"})
"""What an answer says by itself when it reasons or calls a tool."""
ENDS = frozenset({
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|eom|>", "<|end|>", "<|call|>", "<end_of_turn>", "</s>",
    "<|endoftext|>", "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>", "<|end_of_text|>", "<|end_of_turn|>",
})  # fmt: skip
"""Tokens that end a turn, whichever model."""
_SHAPE = re.compile(r"<[|｜].+[|｜]>")
_OPEN, _CLOSE = "\U0010fff0", "\U0010fff1"
_HELD_OPEN, _HELD_CLOSE = "\U0010fff2", "\U0010fff3"
_HELD = re.compile(f"{_HELD_OPEN}([0-9]+){_HELD_CLOSE}")


class Control:
    """The control strings of one tokenizer."""

    def __init__(self, strings: Collection[str]) -> None:
        self.strings = tuple(sorted(strings, key=lambda s: (-len(s), s)))
        """Longest first."""
        self._number = {string: number for number, string in enumerate(self.strings)}
        self.pattern = _any(self.strings)
        self._answer = _any([string for string in self.strings if string not in SPOKEN])

    def hold(self, content: str, role: Role) -> tuple[str, int]:
        """`content` with placeholders for what looks like a control token, and how many there were."""
        pattern = self._answer if role == "assistant" else self.pattern
        return pattern.subn(lambda found: f"{_HELD_OPEN}{self._number[found.group()]}{_HELD_CLOSE}", content)

    def restore(self, text: str) -> str:
        """`text` with the held strings written back."""
        return _HELD.sub(lambda found: self.strings[int(found.group(1))], text) if _HELD_OPEN in text else text

    def frame(self, text: str) -> str:
        """`text` with true control strings under their other name and the held ones as plain text."""
        return self.restore(self.pattern.sub(lambda found: self.framed(found.group()), text))

    def framed(self, string: str) -> str:
        """The other name of a control string."""
        return f"{_OPEN}{self._number[string]}{_CLOSE}"

    def frames(self, text: str) -> int:
        """How many framed control strings `text` holds."""
        return text.count(_OPEN)


def is_held(text: str) -> bool:
    """Whether `text` holds a placeholder."""
    return _HELD_OPEN in text


def looks_like_control(string: str, special: bool, template: str) -> bool:
    """Whether an added token is a control token: flagged special, of the form <|…|>, or written by the template.

    Tokens that only abbreviate text (runs of blanks, HTML tags) are none: their ids are what the text means.
    """
    return bool(string.strip()) and (special or bool(_SHAPE.fullmatch(string)) or string in template)


def _any(strings: Collection[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, strings)) if strings else "(?!)")
