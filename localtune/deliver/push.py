"""A folder to a repository of the Hugging Face hub: listed first, private unless asked otherwise, in one commit.

The sending, its retries and what it skips because it is there already are huggingface_hub's own. The token is the one
that `hf auth login` or HF_TOKEN left; it is handed to that library, never stored, shown or written by this program.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from localtune.deliver.hub_folder import Sent
from localtune.errors import InputError, LocaltuneError, MachineError, Problem

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True)
class Pushed:
    """What the hub holds now."""

    url: str
    """Of the repository."""
    commit: str
    private: bool
    files: int
    size: int
    """Bytes."""


def ready(repository: str) -> str:
    """The token to push with. Raises `InputError` (push.name), `MachineError` (push.offline, push.login)."""
    import huggingface_hub as hub

    if not _REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        raise InputError(Problem("push.name", "is no name of a repository", repository, fix="--to owner/name"))
    if hub.is_offline_mode():
        what, fix = "the hub is switched off (HF_HUB_OFFLINE)", "unset HF_HUB_OFFLINE, then push again"
        raise MachineError(Problem("push.offline", what, repository, fix=fix))
    token = hub.get_token()
    if not token:
        raise MachineError(Problem("push.login", "no token for the hub was found", repository, fix="hf auth login"))
    return token


def push(files: Sequence[Sent], repository: str, token: str, *, public: bool = False) -> Pushed:
    """Send `files` to the model `repository`, which is made if it is not there: private unless `public`.

    One that is there already stays as it is; without `public` a public one is refused. Raises `InputError`
    (push.public), `MachineError` (push.token, .denied, .missing, .conflict, .busy, .hub, .network).
    """
    import huggingface_hub as hub

    api = hub.HfApi(token=token)
    try:
        url = api.create_repo(repository, private=not public, exist_ok=True)
        private = bool(api.model_info(repository).private)
        if not private and not public:
            what = "this repository is there already, and everybody can read it"
            raise InputError(Problem("push.public", what, repository, fix="add --public, or push to another name"))
        commit = api.create_commit(
            repository,
            [hub.CommitOperationAdd(sent.name, _content(sent)) for sent in files],
            commit_message=f"{len(files)} files by localtune",
        )
    except LocaltuneError:
        raise
    except Exception as error:  # the library raises what its HTTP library does, and wraps some of it
        _explain(repository, error)
    return Pushed(str(url), commit.oid, private, len(files), sum(sent.size for sent in files))


def _content(sent: Sent) -> str | bytes:
    return sent.content if isinstance(sent.content, bytes) else str(sent.content)


_ANSWERS = {
    401: ("push.token", "the hub does not accept your token", "hf auth login"),
    403: ("push.denied", "your token may not write there", "take a token with the right to write:  hf auth login"),
    404: ("push.missing", "the hub has no such owner or repository, or hides it from you", "check the name of --to"),
    409: ("push.conflict", "the repository changed at the same time", "push again"),
    412: ("push.conflict", "the repository changed at the same time", "push again"),
    413: ("push.too-large", "a file is larger than the hub takes", "push a smaller type of file"),
    429: ("push.busy", "the hub asks to wait: too many requests", "push again in some minutes"),
}
"""Status of an answer -> code, sentence and fix."""


def _explain(repository: str, error: BaseException) -> NoReturn:
    """Raise what a person can do about `error`; its own text stays out, for it may hold what no log should."""
    from huggingface_hub import constants

    status = _status(error)
    if status is not None:
        otherwise = ("push.hub", f"the hub answered {status}", "try again in a while")
        code, what, fix = _ANSWERS.get(status, otherwise)
        raise MachineError(Problem(code, f"{what} ({status})", repository, fix=fix)) from None
    if isinstance(error, OSError) and error.filename:
        what = f"cannot be read: {error.strerror}"
        raise MachineError(Problem("push.system", what, str(error.filename), fix="push again")) from None
    what = f"{constants.ENDPOINT} cannot be reached, or broke off ({type(error).__name__})"
    fix = "check the connection, then push again: what has arrived is not sent twice"
    raise MachineError(Problem("push.network", what, repository, fix=fix)) from None


def _status(error: BaseException | None) -> int | None:
    """The status that the hub answered with, of `error` or what it was raised from."""
    for _ in range(10):
        if error is None:
            return None
        response: Any = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__ or error.__context__
    return None
