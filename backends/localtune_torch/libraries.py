"""transformers, peft and bitsandbytes, imported late, quietly, and without a connection.

They take seconds to import, so nothing here happens before a model is opened. bitsandbytes asks the package `kernels`
for code from the hub while it is imported; that is shut here, so that opening a model downloads and runs nothing. It
also hands two functions to torch's compiler, which takes a second to load and a C++ compiler to run: that is shut, too.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_QUIET = {"TRANSFORMERS_VERBOSITY": "error", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}


def transformers() -> Any:
    """The module `transformers`, with its warnings and progress bars off."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    with quietly():
        import transformers as module
    module.utils.logging.set_verbosity_error()
    module.utils.logging.disable_progress_bar()
    return module


def peft() -> Any:
    """The module `peft`."""
    transformers()
    _bitsandbytes_if_there()
    with quietly():
        import peft as module
    return module


def bitsandbytes() -> Any:
    """The module `bitsandbytes`. Raises `ImportError` where it is not installed."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with quietly(), _no_hub_kernels(), _no_compiler():
        import bitsandbytes as module
    return module


@contextmanager
def quietly() -> Iterator[None]:
    """Python warnings off: what they say concerns the libraries, not the person at the screen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _bitsandbytes_if_there() -> None:
    try:
        bitsandbytes()
    except ImportError:
        return


@contextmanager
def _no_hub_kernels() -> Iterator[None]:
    before = sys.modules.get("kernels")
    sys.modules["kernels"] = None  # type: ignore[assignment]  # an import of it now raises ImportError
    try:
        yield
    finally:
        if before is None:
            del sys.modules["kernels"]
        else:
            sys.modules["kernels"] = before


@contextmanager
def _no_compiler() -> Iterator[None]:
    """`torch.compile` leaves functions as they are; what the user has set wins."""
    name = "TORCHDYNAMO_DISABLE"
    before = os.environ.get(name)
    os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
