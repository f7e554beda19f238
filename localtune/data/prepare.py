"""From the recipe's data settings to segments, test items and a report: reading, rendering, fitting, holding out.

A function of files, settings, tokenizer and seed, and of the date where the template writes one. What was made once is
kept under the hash of all of these (see `cache`), so the same data is tokenised once. Rows keep the order of their
files; the order of training is `order`'s. Memory does not grow with the number of training rows but for some 60 bytes
each.
"""

import atexit
import contextlib
import datetime
import hashlib
import importlib.metadata
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import localtune
from localtune.data import cache
from localtune.data.making import Making, make
from localtune.data.prepared import Prepared, load, save
from localtune.data.reading import Source, find
from localtune.data.tokenizer import Tokenizer
from localtune.data.turns import Learn
from localtune.errors import InputError, Problem, ResourceError
from localtune.settings import DataSettings

__all__ = ["Prepared", "load", "prepare", "save"]


@dataclass(frozen=True)
class Sources:
    """What the settings name."""

    train: Source
    valid: Source | None
    """None = rows of `train` are held out, or none."""
    test: Source | None

    @property
    def all(self) -> tuple[Source, ...]:
        """In the order of their files' numbers."""
        return tuple(source for source in (self.train, self.valid, self.test) if source is not None)


def sources(settings: DataSettings, base: Path) -> Sources:
    """The files or data sets that `settings` names; relative paths count from `base`. Raises `InputError`."""
    train = find(settings.train, base, separator=settings.separator)
    first = len(train.files)
    if settings.valid == "auto":
        valid = train.valid and train.valid.numbered(first)
    else:
        valid = None if settings.valid == "none" else find(settings.valid, base, settings.separator, first)
    first += len(valid.files) if valid else 0
    test = find(settings.test, base, settings.separator, first) if settings.test else None
    return Sources(train, valid, test)


def prepare(
    settings: DataSettings,
    tokenizer: Tokenizer,
    *,
    learn: Learn,
    seed: int,
    base: Path,
    vocabulary: int,
    context: int | None = None,
    samples: Sequence[str] = (),
    today: datetime.date | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Prepared:
    """Everything `settings` names, as segments.

    `base`: the folder that paths are relative to. `vocabulary`: rows of the model's embedding. `context`: the most
    tokens the model was made for; None = not known. `samples`: prompts to answer. `today`: the date a template writes;
    None = the day this is called. `say` hears what is worth telling meanwhile. Raises `InputError` when rows cannot be
    used, when a token id lies beyond the embedding, and for settings that do not go together.
    """
    found = sources(settings, base)
    if "strftime_now" in (tokenizer.template or ""):
        today = today or datetime.date.today()
    hashes = tuple(text for source in found.all for text in source.hashes())
    making = Making(settings, found.train, found.valid, found.test, hashes, tokenizer, learn, seed, vocabulary, context,
                    tuple(samples), today)  # fmt: skip
    name = cache.key(_decides(making, found))
    entry = cache.find(name)
    if entry is not None:
        with contextlib.suppress(InputError):  # damaged although its sizes and times agree
            return load(entry)
        cache.remove(entry)
    entry = cache.keep(name, lambda folder: make(making, folder), say=say)
    return load(entry or _elsewhere(making))


def _decides(making: Making, found: Sources) -> dict[str, object]:
    """Everything the tokens depend on, this code included."""
    return {
        "files": [[source.files, source.first] for source in found.all],
        "hashes": making.hashes,
        "settings": making.settings.model_dump(mode="json"),
        "tokenizer": making.tokenizer.fingerprint,
        "learn": making.learn,
        "seed": making.seed,
        "vocabulary": making.vocabulary,
        "context": making.context,
        "samples": making.samples,
        "today": str(making.today),
        "code": _code(),
        "versions": [importlib.metadata.version(name) for name in ("tokenizers", "jinja2", "numpy", "pyarrow")],
        "python": sys.version,
    }


def _code() -> str:
    total = hashlib.sha256()
    for path in sorted(Path(localtune.__file__).parent.rglob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


def _elsewhere(making: Making) -> Path:
    """A folder for this process alone, where the cache cannot be written."""
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="localtune-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        make(making, folder)
    except OSError as error:
        what = f"the tokens cannot be written: {error.strerror or error}"
        fix = "free some space, or name another disk:  LOCALTUNE_CACHE=FOLDER"
        raise ResourceError(Problem("data.disk", what, str(folder or ""), fix=fix)) from None
    return folder
