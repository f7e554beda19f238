"""Products for other programs: GGUF files that llama.cpp, Ollama and LM Studio read.

`prepare` says before any byte is written whether a model can be written exactly, where llama.cpp will read text or
compute otherwise than in training all the same, and which tensors cannot have the type asked for. Overflow of a weight
is found only while it is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from localtune.data.tokenizer import Tokenizer
from localtune.export.encodings import ENCODINGS, known
from localtune.export.families import convert
from localtune.export.placed import Conversion
from localtune.export.problems import Problems
from localtune.export.type_plan import TypePlan, type_plan
from localtune.export.vocabulary import Vocabulary, read_vocabulary
from localtune.model import ModelFiles


@dataclass(frozen=True)
class Exportable:
    """A model that can be written, and what writing needs."""

    model: ModelFiles
    conversion: Conversion
    vocabulary: Vocabulary
    types: Mapping[str, TypePlan]
    """Every encoding, asked for or not -> the type of each tensor in it."""
    notes: tuple[str, ...]
    """Where llama.cpp differs from the model or its tokenizer, and, of the encodings asked for, which tensors have
    another type; one sentence each."""


def prepare(model: ModelFiles, tokenizer: Tokenizer, encodings: Sequence[str]) -> Exportable:
    """Check everything at once. Raises one `InputError` with all that keeps `model` from being written."""
    conversion: Conversion | None = None
    vocabulary: Vocabulary | None = None
    problems = Problems()
    with problems.kept():
        conversion = convert(model)
    with problems.kept():
        vocabulary = read_vocabulary(model, tokenizer)
    for encoding in encodings:
        with problems.kept():
            known(encoding)
    problems.end()
    assert conversion is not None
    assert vocabulary is not None
    types = {name: type_plan(conversion, encoding) for name, encoding in ENCODINGS.items()}
    planned = [f"{name}: {note}" for name in encodings for note in types[name].notes]
    return Exportable(model, conversion, vocabulary, types, (*vocabulary.notes, *conversion.notes, *planned))
