"""Characters and words that hardly anybody types: what broke on the way, and markup that belongs to templates.

Mojibake, HTML and markup are recognised by patterns, so these counts are estimates; characters and NFC are exact.
"""

import html
import re
import unicodedata
from collections.abc import Iterator

from localtune.data.check.finding import Finding, Seen, Tally

ODD = {
    "control": "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f",
    "zero-width": "\u200b\u2060\ufeff\u00ad",
    "bidirectional": "\u202a-\u202e\u2066-\u2069",
    "replacement U+FFFD": "\ufffd",
    "private use": "\ue000-\uf8ff\U000f0000-\U0010ffff",
}
"""Kind -> class of characters. The joiners U+200C and U+200D are absent: Persian, Hindi and emoji need them."""
_ODD = re.compile("[" + "".join(ODD.values()) + "]")
_ODD_ASCII = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_KINDS = {kind: re.compile(f"[{span}]") for kind, span in ODD.items()}
_CP1252 = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
MOJIBAKE = re.compile(f"Ã[{_CP1252}]|â€[{_CP1252}]?|Â[\u00a0-\u00bf]|ï»¿|ðŸ[{_CP1252}]|(?:[ìëêí][{_CP1252}]{{2}}){{2}}")
HTML = re.compile(
    r"&(?:amp|lt|gt|quot|nbsp|apos|#\d{1,6}|#x[0-9a-f]{1,5});|"
    r"</?(?:div|p|br|span|a|table|tr|td|th|li|ul|ol|h[1-6]|font|img|script|iframe)\b[^<>]{0,200}>",
    re.IGNORECASE,
)
MARKUP = re.compile(
    r"<[|｜][^<>|｜\n]{1,40}[|｜]>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>|"
    r"^###\s?(?:Instruction|Response|Input|Human|Assistant|User|System)\s?:|^(?:USER|ASSISTANT|Human|Assistant):\s",
    re.MULTILINE,
)
"""Strings by which chat templates mark turns."""
_MARKUP_HINT = re.compile(r"<[|｜/sbepu<]|\[/?INST|###|USER:|ASSISTANT:|Human:|Assistant:")
_MOJIBAKE_HINT = re.compile("[ÃÂâïðìëêí]")
"""Hints begin with fixed characters, which makes them several times as fast as what they stand for."""


class Characters:
    """Looks for odd characters, mojibake, text that is not NFC, and rests of HTML."""

    codes = ("characters", "mojibake", "not-nfc", "html")

    def __init__(self) -> None:
        self._odd, self._mojibake, self._not_nfc, self._html = Tally(), Tally(), Tally(), Tally()

    def see(self, row: Seen) -> None:
        """Look at the next row."""
        text = row.text
        if found := (_ODD_ASCII if text.isascii() else _ODD).search(text):
            self._odd.add(row.place, _around(text, found), _kind(found.group()))
        if not text.isascii():
            if _MOJIBAKE_HINT.search(text) and (found := MOJIBAKE.search(text)):
                self._mojibake.add(row.place, _around(text, found))
            if not unicodedata.is_normalized("NFC", text):
                self._not_nfc.add(row.place)
        if ("<" in text or "&" in text) and (found := HTML.search(text)):
            kind = "entities" if found.group().startswith("&") else "tags"
            self._html.add(row.place, _around(text, found), kind)

    def findings(self, name: str) -> Iterator[Finding]:
        """What was seen."""
        show = f"localtune data show {name} --row N   shows one; remove them where they are not meant"
        yield from self._odd.finding("characters", "warning", "invisible or broken characters are learned too", show)
        what = "text was read in the wrong encoding once, and saved so (such as Ã© for é)"
        fix = "mend it with the package ftfy, or export it again as UTF-8"
        yield from self._mojibake.finding("mojibake", "warning", what, fix)
        what = "text is not in Unicode's NFC: the same word can then have other tokens than the one that is typed"
        fix = f"localtune data check {name} --fix nfc -o clean.jsonl"
        yield from self._not_nfc.finding("not-nfc", "note", what, fix)
        example = html.escape("<")
        what = (
            f"HTML tags or entities such as {example}; fine where HTML is the subject, else the model will write them"
        )
        yield from self._html.finding("html", "note", what, "remove them where they are not the subject")


class Markup:
    """Looks for turn marks of templates inside the text."""

    codes = ("markup",)

    def __init__(self) -> None:
        self._found = Tally()

    def see(self, row: Seen) -> None:
        """Look at the next row."""
        if _MARKUP_HINT.search(row.text) and (found := MARKUP.search(row.text)):
            self._found.add(row.place, _around(row.text, found), found.group().strip())

    def findings(self, name: str) -> Iterator[Finding]:
        """What was seen."""
        what = (
            "turn marks of a template stand inside the text: the rows were rendered before, and would be marked twice"
        )
        fix = f"localtune data show {name} --row N   shows one; split the text into messages"
        yield from self._found.finding("markup", "warning", what, fix)


def _kind(character: str) -> str:
    return next(kind for kind, pattern in _KINDS.items() if pattern.match(character))


def _around(text: str, found: re.Match[str]) -> str:
    start = max(0, found.start() - 20)
    return text[start : found.end() + 20].replace("\n", " ")
