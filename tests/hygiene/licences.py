"""Licences of what an installation brings, and the notices: `python -m tests.hygiene.licences FILE` writes them.

What a licence is, is what the package's own metadata says; what a wheel bundles is known as far as it is said there.
"""

import importlib.metadata
import re
import sys
from importlib.metadata import Distribution
from pathlib import Path

from tests.hygiene.locks import needed

EXTRAS = ["torch", "data", "mlx-cpu", "dev"]

ALLOWED = {
    # Do as you like, and keep the notice:
    "MIT", "MIT License", "ISC", "ISC License", "0BSD", "Zlib", "CC0-1.0", "BSL-1.0",
    "BSD", "BSD License", "BSD-2-Clause", "BSD 2-Clause License", "BSD-3-Clause", "3-Clause BSD License",
    "Apache", "Apache-2.0", "Apache 2.0", "Apache 2.0 License", "Apache Software License",
    "Apache-2.0 WITH LLVM-exception", "PSF-2.0", "CNRI-Python",
    # Changes to its own files stay open; here they are used as they come:
    "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)",
}  # fmt: skip
"""As SPDX or as packages spell them. What is not here is refused: no GPL, AGPL or LGPL is."""

NAMED = {
    r"nvidia-.*": "NVIDIA's own terms: the user fetches these libraries with torch for CUDA; nothing here holds them",
    r"cuda-toolkit": "an empty package that names NVIDIA's libraries",
}
"""Pattern of names -> why a package is used whose licence is not in `ALLOWED`."""

ELSEWHERE = {
    "colorama": "BSD License",
    "cuda-bindings": "Apache-2.0",
    "cuda-pathfinder": "Apache-2.0",
    "httpx2-jsfetch": "BSD-3-Clause",
    "mlx-metal": "MIT",
    "triton": "MIT",
}
"""What is in a lock and not installed under Linux without a graphics card, as its metadata says."""


def licence(package: Distribution) -> str:
    """The licence by the package's metadata: an expression, else a short name, else its classifiers; "" for none."""
    lines = _lines(package, "License-Expression") or _lines(package, "License")
    if lines and "\n" not in lines[0] and len(lines[0]) < 200:
        return lines[0]
    classifiers = _lines(package, "Classifier")
    return " AND ".join(line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: OSI"))


def _lines(package: Distribution, field: str) -> list[str]:
    return [line.strip() for line in package.metadata.get_all(field) or [] if line.strip()]


def allowed(text: str) -> bool:
    """Whether an expression without brackets may be used: all parts of one of its alternatives are in `ALLOWED`."""
    return any(set(choice.split(" AND ")) <= ALLOWED for choice in text.split(" OR "))


def named(package: str) -> str:
    """Why `package` is used whatever its licence, or ""."""
    return next((why for pattern, why in NAMED.items() if re.fullmatch(pattern, package)), "")


def installed() -> list[Distribution]:
    """All that localtune brings here, by name."""
    found = []
    for name in sorted(needed("localtune", EXTRAS, {})):
        try:
            found.append(importlib.metadata.distribution(name))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def notices(packages: list[Distribution]) -> str:
    """Name, version, licence and the licence's text of each package, as far as it ships one."""
    return "\n\n".join("\n\n".join([_heading(package), *_texts(package)]) for package in packages) + "\n"


def _heading(package: Distribution) -> str:
    line = f"{package.metadata['Name']} {package.version}: {licence(package)}"
    return f"{line}\n{'=' * len(line)}"


def _texts(package: Distribution) -> list[str]:
    files = [file for file in package.files or [] if re.match(r"(licen[cs]e|copying|notice)", file.name, re.IGNORECASE)]
    paths = [Path(str(file.locate())) for file in files if ".dist-info" in str(file)]
    return [path.read_text(encoding="utf-8", errors="replace").strip() for path in paths if path.is_file()]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(notices(installed()), encoding="utf-8")
