"""What the child is told to load beside a file, and how to serve it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ServerOptions:
    """One file and the adapters beside it."""

    context: int = 0
    """Tokens of prompt and answer together of one conversation, at most; 0 = the model's own length."""
    threads: int | None = None
    """None = llama.cpp's choice."""
    exact: bool = True
    """Float32 everywhere, on the processor; see `server`."""
    adapters: Sequence[Path] = ()
    scales: Sequence[float] = ()
    """What each adapter counts where a request says nothing of it; missing ones are 0."""
    port: int = 0
    """0 = a free one."""
    parallel: int = 1
    """Conversations that are answered at a time, each with a context of its own."""
    cache: bool = True
    """Whether what was computed of a prompt serves the next that begins alike, where a request does not say. llama.cpp
    takes it also of another adapter's prompt for a request without `lora`, which then answers wrongly."""
    alias: str = ""
    """What the model is called to clients; "" = its path."""

    def to_json(self) -> dict[str, Any]:
        """As the child reads it."""
        scales = [*self.scales, *[0.0] * len(self.adapters)]
        return {
            "context": self.context * self.parallel,
            "threads": self.threads,
            "exact": self.exact,
            "adapters": [[str(path), scale] for path, scale in zip(self.adapters, scales, strict=False)],
            "port": self.port,
            "parallel": self.parallel,
            "cache": self.cache,
            "alias": self.alias,
        }
