"""A model from the Hugging Face hub: into the cache that all tools share, never a pickle, sizes told before bytes.

All `HF_*` variables are huggingface_hub's own and are read when it is first imported, here and lazily: it takes a
while. No token is ever stored, passed on or printed. Sizes are bytes.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from localtune.durable import free_space
from localtune.errors import InputError, LocaltuneError, MachineError, Problem, ResourceError

PATTERNS = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "LICENSE*", "README.md"]
"""Files of a model; data, not code."""
IGNORED = ["*/*", "consolidated*", "adapter_model.safetensors"]
"""Folders (other formats, checkpoints), and the same weights a second time in the maker's own layout."""


@dataclass(frozen=True)
class Download:
    """What would be downloaded, for the question that is asked before it."""

    name: str
    """Hub id."""
    revision: str
    """Commit."""
    files: int
    """Not in the cache yet."""
    size: int
    """Bytes of those."""


def snapshot(
    name: str, revision: str | None, *, offline: bool | None, confirm: Callable[[Download], bool] | None
) -> tuple[Path, str]:
    """Folder and commit of `name` at `revision` (None: its main branch), downloaded unless it is in the cache.

    Without `offline` (None: as `HF_HUB_OFFLINE` says) the hub is asked; where it cannot be reached, what the cache
    holds will do. `confirm` is asked before bytes flow. Raises `MachineError` (model.gated, .offline, .network, .hub,
    .declined), `InputError` (model.not-found, .revision) or `ResourceError` (disk.full).
    """
    import huggingface_hub as hub

    wanted: dict[str, Any] = {"revision": revision, "allow_patterns": PATTERNS, "ignore_patterns": IGNORED}
    try:
        if not (hub.is_offline_mode() if offline is None else offline):
            try:
                _announce(name, hub.snapshot_download(name, dry_run=True, **wanted), confirm)
                return _found(hub.snapshot_download(name, **wanted))
            except _unreachable() as error:
                return _cached(name, wanted, error)
        return _found(hub.snapshot_download(name, local_files_only=True, **wanted))
    except LocaltuneError:
        raise
    except Exception as error:
        _explain(name, revision, error)


def _cached(name: str, wanted: dict[str, Any], reason: BaseException) -> tuple[Path, str]:
    """What the cache holds; without it, `reason` is what to tell."""
    import huggingface_hub as hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return _found(hub.snapshot_download(name, local_files_only=True, **wanted))
    except LocalEntryNotFoundError:
        raise (reason.__cause__ if reason.__cause__ is not None else reason) from None


def _unreachable() -> tuple[type[BaseException], ...]:
    """What huggingface_hub raises when a question could not be asked, as against answered with no."""
    from huggingface_hub.errors import DryRunError, LocalEntryNotFoundError, OfflineModeIsEnabled

    return DryRunError, LocalEntryNotFoundError, OfflineModeIsEnabled


def _found(folder: str) -> tuple[Path, str]:
    return Path(folder), Path(folder).name


def _announce(name: str, files: Any, confirm: Callable[[Download], bool] | None) -> None:
    """Ask for what is not in the cache, and make sure that the disk has room for it."""
    refuse_names(name, [file.filename for file in files])
    missing = [file for file in files if file.will_download]
    if not missing:
        return
    download = Download(name, missing[0].commit_hash, len(missing), sum(file.file_size or 0 for file in missing))
    free = _free(Path(missing[0].local_path))
    if download.size > free:
        what = f"downloading {name} needs {download.size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        raise ResourceError(
            Problem("disk.full", what, fix="free some space, or set HF_HOME to a folder on another disk")
        )
    if confirm is not None and not confirm(download):
        what = f"{name} was not downloaded ({download.size / 1e9:.1f} GB)"
        raise MachineError(Problem("model.declined", what, fix="pass a folder, or a smaller model"))


_NAME = re.compile(
    r"""[^/\\:<>"|?*\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]{1,200}(?<![. ])"""
)
"""A name that is one on every system and shows as what it is: no separators, no drives, no control or bidirectional
characters, no half ones, and at its end nothing that Windows drops."""


def refuse_names(name: str, files: Iterable[str]) -> None:
    """Raise `InputError` (code model.names) where a file of the model `name` may not be called so on this machine."""
    wrong = [file for file in files if not _NAME.fullmatch(file)]
    if wrong:
        what = f"{name} holds a file called {wrong[0][:200]!r}; that is no name on every system"
        fix = "use another copy of this model; who made this one can rename the file"
        raise InputError(Problem("model.names", what, fix=fix))


def _free(path: Path) -> int:
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    return free_space(folder)


def _explain(name: str, revision: str | None, error: BaseException) -> NoReturn:
    """Raise what a person can do about `error`; its own text stays out, for it may hold what no log should."""
    from huggingface_hub import errors

    page = f"{_endpoint()}/{name}"
    if isinstance(error, errors.GatedRepoError):
        state = "and this token's account has not done so" if _has_token() else "and no token was found"
        fix = f"accept on {page} , then  hf auth login    offline copy: pass the folder to -m"
        raise MachineError(
            Problem("model.gated", f"{name} needs you to accept its licence, {state}", fix=fix)
        ) from None
    if isinstance(error, errors.RevisionNotFoundError):
        raise InputError(Problem("model.revision", f"{name} has no revision {revision}", fix=f"see {page}")) from None
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        private = "" if _has_token() else "; if it is private:  hf auth login"
        what = f"the hub has no model {name}, and there is no such folder"
        raise InputError(Problem("model.not-found", what, fix=f"check the name{private}")) from None
    _explain_machine(name, page, error)


def _explain_machine(name: str, page: str, error: BaseException) -> NoReturn:
    from huggingface_hub import errors

    folder = "or pass a folder that holds the model"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        raise ResourceError(
            Problem("disk.full", f"no space left while downloading {name}", fix="free some space")
        ) from None
    if isinstance(error, errors.IncompleteSnapshotError):
        what = f"only a part of {name} is on this machine, and the hub is switched off or out of reach"
        raise MachineError(Problem("model.offline", what, fix=f"run once with a connection, {folder}")) from None
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        what = f"{name} is not on this machine, and the hub is switched off (HF_HUB_OFFLINE)"
        raise MachineError(Problem("model.offline", what, fix=f"unset HF_HUB_OFFLINE once, {folder}")) from None
    if isinstance(error, errors.HfHubHTTPError):
        what = f"the hub answered {error.response.status_code} when asked for {name}"
        raise MachineError(Problem("model.hub", what, fix=f"try again in a while; see {page}")) from None
    what = f"{name} is not on this machine, and {_endpoint()} cannot be reached ({type(error).__name__})"
    raise MachineError(Problem("model.network", what, fix=f"connect, {folder}")) from None


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _has_token() -> bool:
    """By the environment and the file alone: `get_token` may go to the network to renew one."""
    from huggingface_hub import constants

    return bool(os.environ.get("HF_TOKEN")) or Path(constants.HF_TOKEN_PATH).is_file()
