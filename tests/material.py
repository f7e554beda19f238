"""Real models, tokenizers and data with reference numbers, where they lie beside the checkout."""

import os
from pathlib import Path

import pytest


def material(name: str) -> Path:
    """The folder `name` of the reference material; skips the test where it is absent."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LOCALTUNE_MATERIAL", beside)) / name
    if not folder.is_dir():
        pytest.skip(f"needs {name} beside the checkout, or LOCALTUNE_MATERIAL")
    return folder
