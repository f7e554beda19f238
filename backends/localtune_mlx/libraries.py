"""mlx-lm's models, imported late and quietly.

Importing mlx-lm imports transformers, which takes seconds and warns where torch is missing; nothing of it happens
before a model is opened.
"""

import importlib
import os
import warnings
from typing import Any

_QUIET = {"TRANSFORMERS_VERBOSITY": "error", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}


def models(name: str) -> Any:
    """The module `mlx_lm.models.<name>`. Raises `ImportError` where the installed mlx-lm has none."""
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"mlx_lm.models.{name}")
