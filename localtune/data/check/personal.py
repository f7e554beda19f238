"""Strings that look like personal data or keys; shown masked.

Patterns, with check digits where there are any: card numbers (Luhn), IBAN (mod 97), Korean resident numbers issued
before October 2020 (weights mod 11; later ones have no check digit and are not found). Names and addresses are not
found, and an invented number counts like a real one: the counts are estimates in both directions.
"""

import re
from collections.abc import Callable, Iterator

from localtune.data.check.finding import Finding, Seen, Tally

_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,4}\.[A-Za-z]{2,24}\b"
)
_KEY = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}|"
    r"hf_[A-Za-z0-9]{30,}|AIza[\w-]{35}|xox[abprs]-[\w-]{10,}|glpat-[\w-]{20,})|-----BEGIN [A-Z ]{0,20}PRIVATE KEY"
)
_KEY_HINTS = ("sk-", "gh", "AKIA", "ASIA", "hf_", "AIza", "xox", "glpat-", "PRIVATE KEY")
_IPV4 = re.compile(r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.]*\d)", re.ASCII)
_OWN_IPV4 = re.compile(r"(?:10|127|0)\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|169\.254\.|255\.")
_CARD = re.compile(r"(?<![\d.-])[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\d-]*\d)", re.ASCII)
_RRN = re.compile(r"(?<!\d)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])-?[1-8]\d{6}(?!\d)", re.ASCII)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b", re.ASCII)
_PHONE = re.compile(
    r"(?<![\w.+/=*-])(?:"
    r"\+\d{1,3}[ .-]?\(?\d{1,4}\)?(?:[ .-]?\d{2,4}){2,4}|"  # international
    r"01[016-9][ .-]?\d{3,4}[ .-]?\d{4}|0(?:2|[3-6]\d|70)-\d{3,4}-\d{4}|"  # Korea
    r"\(\d{3}\) ?\d{3}-\d{4}|\d{3}[-.]\d{3}[-.]\d{4}"  # North America
    r")(?![\w/*-]|\.\d)",
    re.ASCII,
)
_IBAN_HINT = re.compile("[A-Z][A-Z][0-9][0-9] ?[A-Z0-9]")
_DIGITS = re.compile("[0-9][ .()-]{0,2}(?:[0-9][ .()-]{0,2}){4,30}[0-9]")
_AROUND = 24
"""Characters before and after some digits in which a number may begin and end."""


def personal_strings(text: str) -> Iterator[tuple[str, str]]:
    """(kind, string) of everything in `text` that looks personal or secret; a string is of one kind only."""
    if "@" in text:
        yield from (("e-mail", found.group()) for found in _EMAIL.finditer(text))
    if any(hint in text for hint in _KEY_HINTS):
        yield from (("key", found.group()) for found in _KEY.finditer(text))
    if _IBAN_HINT.search(text):
        yield from (("IBAN", found.group()) for found in _IBAN.finditer(text) if is_iban(found.group()))
    for digits in _DIGITS.finditer(text):
        yield from _number(text, digits.start(), digits.end())


def masked(string: str) -> str:
    """`string` with all but its first two and last two characters hidden; short ones show less."""
    shown = 2 if len(string) >= 8 else 1
    return string[:shown] + "*" * min(8, len(string) - 2 * shown) + string[-shown:]


def is_card(string: str) -> bool:
    """Whether the digits of `string` have the length and check digit (Luhn) of a card number."""
    digits = [int(c) for c in string if c.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_resident_number(string: str) -> bool:
    """Whether `string` has the check digit of a Korean resident registration number."""
    digits = [int(c) for c in string if c.isdigit()]
    total = sum(d * w for d, w in zip(digits, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=False))
    return len(digits) == 13 and (11 - total % 11) % 10 == digits[12]


def is_iban(string: str) -> bool:
    """Whether `string` has the check digits of an IBAN."""
    plain = string.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


class Personal:
    """Looks for strings that look personal or secret."""

    codes = ("personal", "keys")

    def __init__(self) -> None:
        self._personal, self._keys = Tally(), Tally()

    def see(self, row: Seen) -> None:
        """Look at the next row."""
        found: dict[str, str] = {}
        for kind, string in personal_strings(row.text):
            found.setdefault(kind, string)
        if key := found.pop("key", ""):
            self._keys.add(row.place, f"key {masked(key)}")
        if found:
            shown = ", ".join(f"{kind} {masked(string)}" for kind, string in found.items())
            self._personal.add(row.place, shown)
            for kind in found:
                self._personal.details[kind] = self._personal.details.get(kind, 0) + 1

    def findings(self, name: str) -> Iterator[Finding]:
        """What was seen."""
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in self._personal.details.items())
        what = f"strings that look like personal data, which a model can repeat to anybody: {kinds} rows"
        fix = f"localtune data show {name} --row N   shows one; replace what is real"
        yield from self._personal.finding("personal", "warning", what, fix)
        what = "strings that look like keys or passwords of services: a model can repeat them to anybody"
        yield from self._keys.finding("keys", "warning", what, "remove them, and revoke those that are real")


def _number(text: str, start: int, end: int) -> Iterator[tuple[str, str]]:
    """What the digits in `text[start:end]` are part of, the first kind that fits; usually nothing."""
    window = max(0, start - _AROUND), end + _AROUND
    for kind, pattern, holds in _NUMBERS:
        for found in pattern.finditer(text, *window):
            if found.start() < end and start < found.end() and holds(found.group()):
                yield kind, found.group()
                return


_NUMBERS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("IPv4 address", _IPV4, lambda string: not _OWN_IPV4.match(string)),
    ("card number", _CARD, is_card),
    ("resident number", _RRN, is_resident_number),
    ("phone number", _PHONE, lambda string: True),
)
