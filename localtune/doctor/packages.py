"""The packages that localtune requires, in the versions it requires, and the command that installs one here.

Known from package metadata alone: "installed" is not "works". Requirements are read by `packaging`; where that is
missing itself, only the presence of what every system needs is looked at.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from localtune.doctor.finding import Finding

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

OPTIONAL = {"bitsandbytes", "gguf", "xllamacpp"}
"""Not needed to train a LoRA; each has a finding of its own, which says what it is for."""
OF_BACKENDS = {"torch", "transformers", "accelerate", "peft", "mlx", "mlx-lm"}
"""One backend suffices to train, so whether any of these is needed is said where the backends are tried."""
LOAD_SECONDS = 4.0


@dataclass(frozen=True)
class Requirement:
    """A package and the versions of it that will do."""

    name: str
    text: str
    """As pip takes it: "torch<3,>=2.10"."""
    here: bool = True
    """Whether this system is one that it is required on."""
    versions: "SpecifierSet | None" = None
    """None where any will do, or nothing here can tell."""

    def met(self, version: str) -> bool:
        """Whether that version will do; one that is no version in PEP 440's sense will not."""
        with suppress(ValueError):
            return self.versions is None or self.versions.contains(version, prereleases=True)
        return False

    def too_old(self, version: str) -> bool:
        """Whether a newer version is needed."""
        from packaging.version import Version

        with suppress(ValueError):
            lowest = [each.version for each in self.versions or () if each.operator in (">=", ">")]
            return any(Version(version) < Version(each) for each in lowest)
        return False


def required() -> Iterator[Finding]:
    """One finding for each package that is required on this system, or is here for a backend that is not."""
    try:
        found = requirements()
    except metadata.PackageNotFoundError:
        text = "localtune runs from a folder it is not installed from, so its requirements are not known"
        yield Finding("localtune", "warning", text, f"{pip('install -e .')}   in that folder")
        return
    named = {requirement.name for requirement in found}
    chosen = {each.name: each for each in _declared(extras=True) if each.here and each.name in OF_BACKENDS - named}
    for requirement in found + [each for each in chosen.values() if installed(each.name)]:
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
    requirement = _known(name)
    if not requirement.met(version):
        text = f"{name} {version} is not of the versions that are tested: {requirement.text}"
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
    return [requirement for requirement in _declared() if requirement.here]


def install(name: str) -> str:
    """The command that installs a package here, in the versions required; "" where it is not offered for the system."""
    requirement = _known(name)
    return pip(f'install "{requirement.text}"') if requirement.here else ""


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
    name, version, fix = requirement.name, installed(requirement.name), install(requirement.name)
    needed = name not in OF_BACKENDS
    if not version:
        return Finding(name, "missing", f"not installed; {requirement.text} is needed", fix, needed=needed)
    if requirement.met(version):
        return Finding(name, "ok", version)
    if requirement.too_old(version):
        return Finding(name, "missing", f"{version} is too old; {requirement.text} is needed", fix, needed=needed)
    return Finding(name, "warning", f"{version} is not among those tested: {requirement.text}", fix)


def _declared(*, extras: bool = False) -> Iterator[Requirement]:
    """Every requirement outside extras, or in one; without `packaging` those that name no system, in any version."""
    texts = metadata.requires("localtune") or ()
    try:
        from packaging.requirements import Requirement as Declared
    except ImportError:
        bare = [text for text in texts if ";" not in text and not extras]
        yield from (Requirement(re.split(r"[^\w.-]", text)[0], text) for text in bare)
        return
    for read in map(Declared, texts):
        names = re.findall(r"""extra == ["']([^"']+)""", str(read.marker))
        if bool(names) == extras:
            here = read.marker is None or any(read.marker.evaluate({"extra": name}) for name in names or [""])
            yield Requirement(read.name, f"{read.name}{read.specifier}", here, read.specifier)


def _known(name: str) -> Requirement:
    """What is required of the package `name`; any version where nothing is declared."""
    try:
        declared = {requirement.name: requirement for requirement in _declared()}
    except (metadata.PackageNotFoundError, ValueError):
        declared = {}
    return declared.get(name, Requirement(name, name))


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
