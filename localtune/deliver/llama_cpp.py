"""llama.cpp: the commands that chat with a GGUF or serve it, as they can be typed in this system's shell."""

from pathlib import Path

from localtune.typed import WINDOWS, typed


def commands(gguf: Path, *, windows: bool = WINDOWS) -> list[str]:
    """A chat, and a server with an OpenAI-compatible address, with the file's own chat template."""
    chat = typed("llama-cli", "-m", gguf, windows=windows)
    return [chat, typed("llama-server", "-m", gguf, "--jinja", windows=windows)]
