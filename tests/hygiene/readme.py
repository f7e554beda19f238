"""The parts of the README that are generated: `python tests/hygiene/readme.py` rewrites them."""

import re
from pathlib import Path

from localtune.recipe import settings_table

README = Path(__file__).parents[2] / "README.md"
_BLOCK = re.compile(r"(<!-- settings: [^\n]*-->\n).*?(<!-- /settings -->)", re.DOTALL)


def fresh(text: str) -> str:
    """`text` with its generated parts as they should be."""
    return _BLOCK.sub(lambda match: f"{match[1]}\n{settings_table().strip()}\n\n{match[2]}", text)


if __name__ == "__main__":
    README.write_text(fresh(README.read_text(encoding="utf-8")), encoding="utf-8")
