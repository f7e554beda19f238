"""The packages that localtune requires, in the versions it requires, and the command that installs one here.

Known from package metadata alone: "installed" is not "works". Only release numbers are compared (2.13.0 of
"2.13.0rc1+cpu"), and of environment markers only those are read that localtune's own requirements use: `sys_platform`
and `platform_machine`, equal or not, joined by "and", "or" and parentheses.
"""

import importlib.util
import operator
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import zip_longest
from pathlib import Path

from localtune.doctor.finding import Finding

OPTIONAL = {"bitsandbytes", "gguf", "xllamacpp"}
"""Not needed to train a LoRA; each has a finding of its own, which says what it is for."""
LOAD_SECONDS = 4.0

_REQUIREMENT = re.compile(r"([\w.-]+)\s*([^;\[\]]*?)\s*(?:;\s*(.*))?")
_SPECIFIER = re.compile(r"(>=|<=|==|!=|<|>)\s*([\d.]+)")
_CLAUSE = re.compile(r"(sys_platform|platform_machine)\s*(==|!=)\s*['\"]([^'\"]*)['\"]")
_TOKEN = re.compile(rf"\s*({_CLAUSE.pattern}|\(|\)|and\b|or\b)\s*")
_COMPARE = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt
}  # fmt: skip


@dataclass(frozen=True)
class Requirement:
    """A package and the versions of it that will do."""

    name: str
    versions: tuple[tuple[str, str], ...]
    """Comparison and version: (">=", "2.10"), ("<", "3")."""

    def __str__(self) -> str:
        return self.name + ",".join(comparison + version for comparison, version in self.versions)

    def unmet(self, version: str) -> str:
        """The first comparison that `version` does not pass, or ""."""
        for comparison, bound in self.versions:
            if not _COMPARE[comparison](*_padded(version, bound)):
                return comparison
        return ""


def required() -> Iterator[Finding]:
    """One finding for each package that is required on this system."""
    try:
        found = requirements()
    except metadata.PackageNotFoundError:
        text = "localtune runs from a folder it is not installed from, so its requirements are not known"
        yield Finding("localtune", "warning", text, f"{pip('install -e .')}   in that folder")
        return
    for requirement in found:
        if requirement.name not in OPTIONAL:
            yield _held_against(requirement)


def writes_gguf() -> Iterator[Finding]:
    """`gguf`, without which there is no GGUF file."""
    yield optional("gguf", "gguf", "writes GGUF files", "no GGUF file can be exported")


def runs_gguf() -> Iterator[Finding]:
    """`xllamacpp`, tried in a process of its own, since a library that does not fit this processor ends it."""
    without = "an exported GGUF file stays unverified and cannot be chatted with here"
    found = optional("xllamacpp", "xllamacpp", "runs GGUF files: exports are verified", without)
    reason = _does_not_load("xllamacpp") if found.status == "ok" else ""
    if reason:
        fix = pip("install --force-reinstall xllamacpp")
        found = Finding("xllamacpp", "warning", f"xllamacpp does not load, so {without}: {reason}", fix)
    yield found


def optional(finding: str, name: str, use: str, without: str) -> Finding:
    """The package `name` under the name `finding`: what it is for, or what cannot be done `without` it."""
    version = installed(name)
    if not version:
        return Finding(finding, "missing", f"{name} is not installed: {without}", install(name))
    requirement, _ = _known(name)
    if requirement.unmet(version):
        text = f"{name} {version} is not of the versions that are tested: {requirement}"
        return Finding(finding, "warning", text, install(name))
    return Finding(finding, "ok", f"{name} {version} {use}")


def installed(name: str) -> str:
    """The version of a package, or ""."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def requirements() -> list[Requirement]:
    """What localtune requires on this system, without extras. Raises `PackageNotFoundError`, `ValueError`."""
    return [requirement for requirement, here in _declared() if here]


def install(name: str) -> str:
    """The command that installs a package here, in the versions required; "" where it is not offered for the system."""
    requirement, here = _known(name)
    return pip(f'install "{requirement}"') if here else ""


def pip(arguments: str) -> str:
    """`pip` with `arguments` as it is called for the Python that runs this, whoever made its environment."""
    python = this_python()
    if importlib.util.find_spec("pip") is None:  # uv, and pipx with uv, make environments without it
        verb, _, rest = arguments.partition(" ")
        return f"uv pip {verb} --python {python} {rest}"
    program = shutil.which("pip")
    ours = program is not None and Path(program).parent == Path(sys.executable).parent
    return f"pip {arguments}" if ours else f"{python} -m pip {arguments}"


def this_python() -> str:
    """The interpreter that runs this, for a command line."""
    return f'"{sys.executable}"' if " " in sys.executable else sys.executable


def _held_against(requirement: Requirement) -> Finding:
    version, fix = installed(requirement.name), install(requirement.name)
    if not version:
        return Finding(requirement.name, "missing", f"not installed; {requirement} is needed", fix, needed=True)
    unmet = requirement.unmet(version)
    if unmet in (">=", ">", "=="):
        return Finding(requirement.name, "missing", f"{version} is too old; {requirement} is needed", fix, needed=True)
    if unmet:
        return Finding(requirement.name, "warning", f"{version} is not among those tested: {requirement}", fix)
    return Finding(requirement.name, "ok", version)


def _declared() -> list[tuple[Requirement, bool]]:
    """Every requirement outside extras, and whether it holds on this system."""
    parsed = [_parse(text) for text in metadata.requires("localtune") or ()]
    return [(found, _applies(marker)) for found, marker in parsed if not re.search(r"\bextra\b", marker)]


def _known(name: str) -> tuple[Requirement, bool]:
    """What is required of the package `name`, and whether on this system; any version where nothing is declared."""
    try:
        declared = {requirement.name: (requirement, here) for requirement, here in _declared()}
    except (metadata.PackageNotFoundError, ValueError):
        declared = {}
    return declared.get(name, (Requirement(name, ()), True))


def _parse(text: str) -> tuple[Requirement, str]:
    match = _REQUIREMENT.fullmatch(text)
    specifiers = [part.strip() for part in match[2].strip("() ").split(",") if part.strip()] if match else []
    versions = [_SPECIFIER.fullmatch(part) for part in specifiers]
    if match is None or None in versions:
        raise ValueError(f"not a requirement that is understood: {text}")
    return Requirement(match[1], tuple((found[1], found[2]) for found in versions if found)), match[3] or ""


def _applies(marker: str) -> bool:
    tokens, place = [], 0
    while match := _TOKEN.match(marker, place):
        tokens.append(match[1])
        place = match.end()
    held = _any(tokens) if tokens else True
    if tokens or place < len(marker):
        raise ValueError(f"not a marker that is understood: {marker}")
    return held


def _any(tokens: list[str]) -> bool:
    """Take one expression off `tokens`; "and" binds closer than "or" (PEP 508)."""
    held = _all(tokens)
    while tokens[:1] == ["or"]:
        del tokens[0]
        held = _all(tokens) or held
    return held


def _all(tokens: list[str]) -> bool:
    held = _one(tokens)
    while tokens[:1] == ["and"]:
        del tokens[0]
        held = _one(tokens) and held
    return held


def _one(tokens: list[str]) -> bool:
    first = tokens.pop(0) if tokens else ""
    if first == "(":
        held = _any(tokens)
        if tokens[:1] == [")"]:
            del tokens[0]
            return held
    elif match := _CLAUSE.fullmatch(first):
        here = sys.platform if match[1] == "sys_platform" else platform.machine()
        return bool(_COMPARE[match[2]](here, match[3]))
    raise ValueError("not a marker that is understood")


def _padded(*versions: str) -> tuple[tuple[int, ...], ...]:
    """Release numbers of equal length, since 3 and 3.0 are the same."""
    numbers = []
    for version in versions:
        match = re.match(r"[\d.]+", version)
        numbers.append([int(part) for part in match[0].split(".") if part] if match else [])
    return tuple(zip(*zip_longest(*numbers, fillvalue=0), strict=True)) or ((), ())


def _does_not_load(name: str) -> str:
    try:
        tried = subprocess.run(
            [sys.executable, "-P", "-c", f"import {name}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=LOAD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"not within {LOAD_SECONDS:g} s"
    said = tried.stderr.strip().splitlines()
    return "" if tried.returncode == 0 else said[-1] if said else f"its process ended with {tried.returncode}"
