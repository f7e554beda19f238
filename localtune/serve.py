"""A GGUF behind llama.cpp's own server: OpenAI's API on this machine alone, for who knows the key.

It runs in a child process that binds 127.0.0.1 and ends with this one. Adapters beside the file count as a request's
`lora` says ([{"id": 0, "scale": 1.0}], others not at all), without it the first in full. With adapters each request is
computed from its beginning: what llama.cpp keeps of another adapter's prompt can make an answer wrong, so a client
should not ask for `cache_prompt` there either. llama.cpp checks neither ids nor scales: an id that is not there is
ignored, so that the base answers, and whoever has the key can change the scales of all later requests by POST
/lora-adapters, which cannot be switched off; a scale of 1e30 can spoil every answer until the service is started again.
"""

import errno
import secrets
import socket
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from localtune.chat.adapters import read_adapters
from localtune.chat.opening import CONTEXT, find, has_template
from localtune.errors import InputError, Problem, ResourceError
from localtune.export.read import read_gguf
from localtune.llamacpp import Child, ServerOptions
from localtune.runs.folder import Run
from localtune.typed import typed

GLANCE = 0.5
"""Seconds between two looks at the child, after which a Ctrl+C is heard on every system."""


class Service(AbstractContextManager["Service"]):
    """One model that is served. Leaving the context ends it."""

    def __init__(
        self,
        path: Path,
        loras: Sequence[str] = (),
        *,
        port: int = 0,
        key: str | None = None,
        parallel: int = 1,
        context: int = CONTEXT,
    ) -> None:
        """Load `path` and serve it at `port`, 0 = a free one, for clients that send `key`, by default a new one.

        `context` tokens at most of each of the `parallel` conversations at a time, and no more than the model reads.
        Raises `InputError` for files that are no model or no LoRA of it, or do not load, and a key that no client can
        send, `ResourceError` for a port that is taken, `MachineError` without xllamacpp.
        """
        self.template = has_template(path)
        """Whether the model reads conversations; without one llama.cpp puts ChatML around them."""
        adapters = read_adapters(loras, path)
        self.key = secrets.token_urlsafe(24) if key is None else _sendable(key)
        self.model = path.stem
        """What clients call it."""
        self.adapters = adapters.names if adapters else ()
        """Their places are their ids in a request."""
        self.notes = adapters.notes if adapters else ()
        """What a user should know of them, one sentence each."""
        if port:
            _refuse_taken(port)
        options = ServerOptions(
            context=min(context, _longest(path) or context),
            exact=False,
            adapters=adapters.paths if adapters else (),
            scales=adapters.scales if adapters else (),
            port=port,
            parallel=parallel,
            cache=adapters is None,
            alias=self.model,
        )
        self._child = Child(path, options, key=self.key)

    @property
    def url(self) -> str:
        """What clients call the base URL."""
        return f"http://{self._child.address}/v1"

    def wait(self) -> None:
        """Serve on. Raises `RunFailed` when llama.cpp ends by itself."""
        while True:
            self._child.watch(GLANCE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.close()


def served_file(name: str) -> Path:
    """The GGUF that `name` means: a file, or the one that a run was exported to. Raises `InputError`."""
    found = find(name)
    if isinstance(found, Run):
        return _only_file(found)
    if found.is_dir():
        what, fix = "is a folder; what is served is a GGUF file", f"localtune export {typed(name)} --gguf Q8_0"
        raise InputError(Problem("serve.which", what, name, fix=fix))
    return found


def _only_file(run: Run) -> Path:
    files = [path for path in run.products() if path.suffix == ".gguf" and not _is_adapter(path)]
    if len(files) == 1:
        return files[0]
    if not files:
        fix = f"localtune export {run.name} --gguf Q8_0"
        raise InputError(Problem("serve.which", "this run has no GGUF file yet", run.name, fix=fix))
    evidence = "\n".join(str(path) for path in files)
    what = f"this run has {len(files)} GGUF files"
    raise InputError(Problem("serve.which", what, run.name, evidence, fix=f"localtune serve {typed(files[0])}"))


def _is_adapter(path: Path) -> bool:
    return read_gguf(path).metadata.get("general.type") == "adapter"


def _longest(path: Path) -> int:
    """Tokens that the model reads, 0 where the file does not say."""
    summary = read_gguf(path)
    length = summary.metadata.get(f"{summary.architecture}.context_length")
    return length if isinstance(length, int) else 0


def _sendable(key: str) -> str:
    """`key`, if it can stand in a header."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        what = "a key is one or more visible ASCII characters without blanks"
        raise InputError(Problem("serve.key", what, fix="leave out --key, and one is made"))
    return key


def _refuse_taken(port: int) -> None:
    """A model is not loaded first for a port that cannot be had; where it is taken meanwhile, llama.cpp says so."""
    with socket.socket() as probe:
        if sys.platform != "win32":  # where it would let a port be taken twice
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            taken = error.errno in (errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", errno.EADDRINUSE))
            what = f"port {port} is taken" if taken else f"port {port} cannot be used: {error.strerror or error}"
            raise ResourceError(Problem("serve.port", what, fix="another --port, or none for a free one")) from None
