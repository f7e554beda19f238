"""Which encoding a text file is in: decided once per file, by a bounded look at its beginning, and never in silence.

In this order: a byte order mark; NUL bytes at every other place (UTF-16); strict UTF-8 over the first 64 MiB. A file
in which fewer than 1 % of the lines are no UTF-8, or fewer than those that are UTF-8 beyond ASCII, is UTF-8 with bad
rows. What remains is an estimate: charset-normalizer's, among the encodings below, over 256 KiB from the first bad
line on; it is said with its reason, and refused where nothing fits.
"""

import codecs
from dataclasses import dataclass
from typing import BinaryIO

LOOK = 64 * 2**20
"""Bytes that are looked at."""
_CHUNK = 2**20
_SAMPLE = 2**18
_NEAR = 10_000
"""Lines before the first bad one that are weighed against it."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with a byte order mark"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
OLDER = {
    "cp949": ("CP949", "Korean Windows"),
    "big5": ("BIG5", "traditional Chinese"),
    "gb18030": ("GB18030", "Chinese"),
    "cp932": ("CP932", "Japanese Windows"),
    "shift_jis": ("SHIFT_JIS", "Japanese"),
    "euc_jp": ("EUC-JP", "Japanese Unix"),
    "cp1251": ("CP1251", "Cyrillic Windows"),
    "cp1252": ("CP1252", "Western Windows, the same as Latin-1 but for quotation marks and dashes"),
}
"""Python's name -> the name that iconv takes, and what it is."""
_WIDE = ("cp949", "big5", "gb18030", "cp932", "shift_jis", "euc_jp")


@dataclass(frozen=True)
class Encoding:
    """How the bytes of a file become text."""

    codec: str | None
    """Python's name; None = it could not be decided."""
    said: str = ""
    """Why, as the end of a sentence; "" for plain UTF-8."""
    line: int = 1
    """Where that was seen."""


def encoding_of(stream: BinaryIO) -> Encoding:
    """The encoding of `stream`, of which at most `LOOK` bytes are read."""
    first = stream.read(_CHUNK)
    for mark, codec, name in _BOMS:
        if first.startswith(mark):
            return Encoding(codec, f"read as {name}, because it begins with its mark")
    if codec16 := _alternating(first):
        order = "little" if codec16.endswith("le") else "big"
        return Encoding(codec16, f"read as UTF-16, {order} end first, because every other byte of a line end is NUL")
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, looked, chunk = 1, 0, first
    while chunk and looked < LOOK:
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as error:
            line += chunk.count(b"\n") - error.object[error.start :].count(b"\n")
            return _not_utf8(error, line, stream)
        line += chunk.count(b"\n")
        looked += len(chunk)
        chunk = stream.read(_CHUNK)
    return Encoding("utf-8")


def _alternating(sample: bytes) -> str | None:
    """UTF-16 without a mark: NUL bytes at even or at odd places only, and ends of lines of that kind."""
    nul = sample.count(0)
    if nul * 20 < len(sample) or not nul:
        return None
    for codec, places, others in (("utf-16-le", sample[1::2], sample[::2]), ("utf-16-be", sample[::2], sample[1::2])):
        ends = sum(low == 10 and not high for low, high in zip(others, places, strict=False))
        if nul == places.count(0) and (ends or nul * 3 >= len(sample) > 3):
            return codec
    return None


def _not_utf8(error: UnicodeDecodeError, line: int, stream: BinaryIO) -> Encoding:
    begin = max(error.object.rfind(end, 0, error.start) for end in (b"\n", b"\r")) + 1
    sample = _whole_lines(error.object[begin:] + stream.read(8 * _CHUNK), 8 * _CHUNK)
    if mostly_utf8(error.object[:begin].splitlines()[-_NEAR:] + sample.splitlines(), max(0, line - 1 - _NEAR)):
        return Encoding("utf-8")
    why = f"it is not UTF-8: byte 0x{error.object[error.start]:02x} at line {line:,}"
    sizes = [_SAMPLE, *(size for size in (2**14, 2**10, 2**8) if size < len(sample))]
    guesses = (older(_whole_lines(sample, size)) for size in sizes)  # one bad byte hides the encoding of a sample
    codec = next((codec for codec in guesses if codec and _reads(sample, codec)), None)
    if codec is None:
        return Encoding(None, why, line)
    name, what = OLDER[codec]
    return Encoding(codec, f"read as {name} ({what}), because {why}", line)


def _whole_lines(sample: bytes, most: int) -> bytes:
    """At most `most` bytes, cut at the end of a line where there is one."""
    cut = sample[:most]
    return sample if len(sample) <= most else cut[: cut.rfind(b"\n") + 1] or cut


def mostly_utf8(lines: list[bytes], before: int) -> bool:
    """Whether `lines`, which follow `before` others that are UTF-8, belong to a UTF-8 file."""
    bad = good = 0
    for line in lines:
        try:
            good += not line.decode("utf-8").isascii()
        except UnicodeDecodeError:
            bad += 1
    return bad * 100 < len(lines) + before or good > bad


def older(sample: bytes) -> str | None:
    """The encoding of `OLDER` that `sample`, which is no UTF-8, is most likely in."""
    import charset_normalizer

    found = charset_normalizer.from_bytes(sample, cp_isolation=list(OLDER), threshold=0.35)
    for match in found:
        codec = match.encoding
        if codec in OLDER and _is_told_by(str(match), codec):
            return codec
    return "cp1252" if _reads(sample, "cp1252", most=0) and not _looks_wide(sample) else None


def _is_told_by(text: str, codec: str) -> bool:
    """Whether the letters beyond ASCII are those the encoding is for: any bytes are letters of some encoding."""
    letters = [c for c in text if not c.isascii() and c.isalpha()]
    if codec == "cp1252":
        return True
    if codec == "cp1251":
        return len(letters) >= 4 and sum("А" <= c <= "я" or c in "Ёё" for c in letters) * 10 >= len(letters) * 9
    wide = sum("\u3040" <= c <= "\u9fff" or "\uac00" <= c <= "\ud7a3" for c in letters)
    return wide >= 2 and wide * 10 >= len(letters) * 9


def _looks_wide(sample: bytes) -> bool:
    """Whether high bytes stand in runs, as the letters of two bytes do and those of Western languages seldom."""
    high = [byte >= 0x80 for byte in sample]
    return sum(map(lambda a, b: a and b, high, high[1:])) * 2 > max(sum(high), 2)


def _reads(sample: bytes, codec: str, most: int = 1) -> bool:
    """Whether at most `most` percent of the characters of `sample` are bytes that the encoding does not have."""
    text = sample.decode(codec, "replace")
    return text[:-2].count("\ufffd") * 100 <= most * len(text)
