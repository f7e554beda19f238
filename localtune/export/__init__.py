"""Products for other programs: GGUF files that llama.cpp, Ollama and LM Studio read.

`check_exportable` says before any byte is written whether a model can be written exactly; `notes` says where llama.cpp
will read text otherwise than the tokenizer all the same. Overflow of a weight is found only while it is written.
"""

from collections.abc import Callable, Sequence
from functools import partial

from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError, LocaltuneError, Problem
from localtune.model import ModelFiles


def check_exportable(model: ModelFiles, tokenizer: Tokenizer, encodings: Sequence[str]) -> None:
    """Raise one `InputError` with everything that keeps `model` from being written, if anything does."""
    from localtune.export.encodings import known
    from localtune.export.families import convert
    from localtune.export.vocabulary import read_vocabulary

    checks: list[Callable[[], object]] = [partial(convert, model), partial(read_vocabulary, model, tokenizer)]
    checks += [partial(known, encoding) for encoding in encodings]
    problems: list[Problem] = []
    for check in checks:
        try:
            check()
        except LocaltuneError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)


def notes(model: ModelFiles, tokenizer: Tokenizer) -> tuple[str, ...]:
    """Where llama.cpp differs from the tokenizer, one sentence each. Raises `InputError` as `check_exportable` does."""
    from localtune.export.vocabulary import read_vocabulary

    return read_vocabulary(model, tokenizer).notes
