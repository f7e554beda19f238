"""Tokens become text one by one; the pieces together are what the tokenizer makes of all tokens at once.

That is exact for every answer that is UTF-8; of bytes that are none, only their number may differ. A token may be part
of a character, and may be written differently at the beginning of a text. So each is decoded behind those that made the
piece before it, and what ends in the middle of a character waits for the rest.
"""

from localtune.data.tokenizer import Tokenizer

_CUT = "\ufffd"
"""What the tokenizer writes for bytes that are no character."""


class Pieces:
    """The text of one answer; special tokens say nothing."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._context: list[int] = []
        """The tokens of the last piece."""
        self._waiting: list[int] = []

    def add(self, token: int) -> str:
        """The text that is certain with `token`; "" while a character is incomplete."""
        self._waiting.append(token)
        text = self._new()
        return "" if text.endswith(_CUT) else self._said(text)

    def rest(self) -> str:
        """What still waits when no token follows."""
        return self._said(self._new())

    def _new(self) -> str:
        before = self._decode(self._context)
        return self._decode([*self._context, *self._waiting])[len(before) :]

    def _said(self, text: str) -> str:
        if text:
            self._context, self._waiting = self._waiting, []
        return text

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special=True)
