"""Data sets of the hub, streamed by `datasets`, always at one commit: what was read today is read again tomorrow.

A row's place is its number in the split, counted from 1. Pictures and sounds are not decoded. Nothing of a data set is
ever executed: `datasets` no longer runs scripts. No token is stored or printed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from localtune.data.reading.parquet import row_of
from localtune.data.rows import BadRows, Place, Row
from localtune.errors import InputError, MachineError, Problem, safe
from localtune.typed import typed

SCHEME = "hf://datasets/"
_NAME = re.compile(r"([\w.-]+/[\w.-]+?|[\w.-]+?)(?::([\w.-]+))?(?:@([\w./-]+))?")


@dataclass(frozen=True)
class Split:
    """A split of a data set."""

    name: str
    """Of the data set: owner/name, or a folder that is laid out as one."""
    config: str
    revision: str | None
    """Commit; None for a folder."""
    split: str
    said: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """Its name in messages."""
        return f"{self.name}:{self.config}/{self.split}"

    @property
    def identity(self) -> list[str | None]:
        """What decides its rows."""
        return [self.name, self.config, self.revision, self.split]


def resolve(name: str) -> list[Split]:
    """The splits of `owner/name[:configuration][@revision]`, at the commit the revision stands for now.

    Raises `InputError` for a name, a configuration or a revision that is not there, `MachineError` where the hub or
    `datasets` is not.
    """
    match = _NAME.fullmatch(name.removeprefix(SCHEME))
    if match is None:
        fix = "owner/name, owner/name:configuration, or owner/name@revision"
        raise InputError(Problem("data.missing", "is no name of a data set of the hub", name, fix=fix))
    identity, config, revision = match[1], match[2], match[3]
    _library()
    try:
        import huggingface_hub

        about = huggingface_hub.HfApi().dataset_info(identity, revision=revision, timeout=30)
    except Exception as error:
        _explain(identity, revision, error)
    _refuse_patterns(identity, about.card_data)
    return splits_of(identity, config, about.sha)


def splits_of(name: str, config: str | None, revision: str | None) -> list[Split]:
    """The splits of a data set at a commit, or of a folder (`revision` None) that is laid out as one."""
    datasets = _library()
    try:
        configs = datasets.get_dataset_config_names(name, revision=revision)
        chosen = _config(name, config, configs)
        builder = datasets.load_dataset_builder(name, chosen, revision=revision)
        _refuse_elsewhere(name, revision, builder.config.data_files or {})
        splits = datasets.get_dataset_split_names(name, chosen, revision=revision)
    except InputError:
        raise
    except Exception as error:
        _explain(name, revision, error)
    said = (f"{name}: read from the hub at commit {revision[:12]}",) if revision else ()
    return [Split(name, chosen, revision, split, said) for split in splits]


def _refuse_elsewhere(name: str, revision: str | None, files: Mapping[str, Iterable[str]]) -> None:
    """Raise `InputError` where a data set takes rows from files that are not its own.

    A card may name any path as the place of its rows, and `datasets` then reads that file of this machine, or of the
    network.
    """
    own = f"{SCHEME}{name}@{revision}/" if revision else str(Path(name).resolve())
    for file in (file for part in files.values() for file in part):
        is_own = file.startswith(own) and ".." not in file if revision else Path(file).resolve().is_relative_to(own)
        if not is_own:
            what = f"takes rows from {safe(file, 200)!r}, which is no file of the data set"
            raise InputError(Problem("data.elsewhere", what, name, fix="do not use this data set: it is not honest"))


def _refuse_patterns(name: str, card: Any) -> None:
    """Raise `InputError` where the card of a data set names rows elsewhere: looking for them would ask for them."""
    configs = card.get("configs") if card is not None else None
    for config in configs if isinstance(configs, list) else []:
        found = config.get("data_files") if isinstance(config, dict) else None
        for pattern in _texts(found):
            if "://" in pattern or ".." in pattern or pattern.startswith(("/", "\\", "~")) or pattern[1:2] == ":":
                _refuse_elsewhere(name, "", {"": [pattern]})


def _texts(value: Any) -> Iterator[str]:
    """Every text in lists and objects."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)


def rows(split: Split, number: int, bad: BadRows) -> Iterator[Row]:
    """Rows of `split`, the part with this `number`; unusable ones go to `bad`."""
    datasets = _library()
    try:
        stream = datasets.load_dataset(
            split.name, split.config, split=split.split, revision=split.revision, streaming=True
        )
        values = iter(stream.decode(False))
    except Exception as error:
        _explain(split.name, split.revision, error)
    for at, value in enumerate(_told(values, split), start=1):
        place = Place(split.shown, at, number)
        found = row_of(value, place)
        if isinstance(found, Problem):
            bad.add(found)
        else:
            yield Row(place, found)


def _told(values: Iterator[dict[str, Any]], split: Split) -> Iterator[dict[str, Any]]:
    """The rows, whatever goes wrong between them explained."""
    while True:
        try:
            value = next(values)
        except StopIteration:
            return
        except Exception as error:
            _explain(split.name, split.revision, error)
        yield value


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        what = "data sets of the hub are read by `datasets`, which is not installed"
        raise MachineError(Problem("data.hub", what, fix=typed("pip", "install", "localtune[data]"))) from None
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    return datasets


def _config(name: str, wanted: str | None, offered: list[str]) -> str:
    if wanted is None and len(offered) == 1:
        return offered[0]
    if wanted is None and "default" in offered:
        return "default"
    if wanted in offered:
        return str(wanted)
    names = ", ".join(safe(config, 80) for config in offered[:20])
    what = f"has no configuration {wanted}; it has {names}" if wanted else f"has several configurations: {names}"
    raise InputError(Problem("data.configuration", what, name, fix=f"{name}:{offered[0]}"))


def _explain(name: str, revision: str | None, error: Exception) -> NoReturn:
    """Raise what a person can do about `error`; its own text stays out where it may hold what no log should."""
    from huggingface_hub import constants, errors

    chain = _causes(error)
    page, copy = f"{constants.ENDPOINT}/datasets/{name}", f"hf download --repo-type dataset {name} --local-dir data"

    def is_one(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in chain)

    if is_one(errors.GatedRepoError):
        fix = f"accept its terms on {page} , then  hf auth login"
        raise MachineError(Problem("data.gated", "you must accept the terms of this data set first", name, fix=fix))
    if is_one(errors.RevisionNotFoundError):
        raise InputError(Problem("data.revision", f"the data set has no revision {revision}", name, fix=f"see {page}"))
    if is_one(errors.RepositoryNotFoundError, errors.HFValidationError):
        what = "no such file or folder, and the hub has no data set of this name"
        raise InputError(Problem("data.missing", what, name, fix="check the name; if it is private:  hf auth login"))
    if is_one(errors.OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        what = "is no file or folder here, and the hub is switched off (HF_HUB_OFFLINE)"
        fix = f"with a connection:  {copy}    then name the folder"
        raise MachineError(Problem("data.offline", what, name, fix=fix))
    answer = next((cause for cause in chain if isinstance(cause, errors.HfHubHTTPError)), None)
    if answer is not None and answer.response is not None:
        what = f"the hub answered {answer.response.status_code}"
        raise MachineError(Problem("data.hub", what, name, fix=f"try again in a while; see {page}"))
    if is_one(*_unreachable()):
        what = f"is no file or folder here, and {constants.ENDPOINT} cannot be reached ({type(error).__name__})"
        raise MachineError(Problem("data.network", what, name, fix=f"connect, then:  {copy}    and name the folder"))
    what = f"the data set cannot be read: {type(error).__name__}: {safe(str(error), 200).partition(chr(10))[0]}"
    raise InputError(Problem("data.hub", what, name, fix=f"{copy}    and name a file in it"))


def _unreachable() -> tuple[type[BaseException], ...]:
    import httpx2

    return ConnectionError, TimeoutError, httpx2.TransportError


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in chain:
        chain.append(found)
        found = found.__cause__ or found.__context__
    return chain
