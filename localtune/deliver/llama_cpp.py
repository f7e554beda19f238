"""llama.cpp: the commands that chat with a GGUF or serve it, as they can be typed in this system's shell."""

import shlex
import subprocess
import sys
from pathlib import Path


def commands(gguf: Path, *, adapters: tuple[Path, ...] = (), windows: bool = sys.platform == "win32") -> list[str]:
    """A chat, and a server with an OpenAI-compatible address, with the file's own chat template."""
    loras = [word for adapter in adapters for word in ("--lora", str(adapter))]
    words = (["llama-cli", "-m", str(gguf), *loras], ["llama-server", "-m", str(gguf), *loras, "--jinja"])
    return [subprocess.list2cmdline(line) if windows else shlex.join(line) for line in words]
