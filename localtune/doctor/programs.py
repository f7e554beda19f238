"""The programs one chats in: Ollama, LM Studio, llama.cpp. All are optional, so "not found" needs no mending.

Only a server on this machine is asked (Ollama's GET /api/version), over plain HTTP, past any proxy.
"""

import http.client
import ipaddress
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from localtune.doctor.finding import Finding
from localtune.errors import safe

ANSWER_SECONDS = 0.3
DEFAULT_PORT = 11434
LLAMA_CPP = ("llama-cli", "llama-server", "llama-quantize")


def ollama() -> Iterator[Finding]:
    """Its command and its server."""
    program = shutil.which("ollama")
    host, port = ollama_address(os.environ.get("OLLAMA_HOST", ""))
    if not _is_here(host):
        found = "installed; " if program else "no command; "
        yield Finding("ollama", "ok", f"{found}its server is on another machine ({safe(host, 80)}), which is not asked")
        return
    version = _version(host, port)
    if version:
        command = "" if program else ", but there is no ollama command"
        yield Finding("ollama", "ok", f"{version} answers at {host}:{port}{command}")
    elif program:
        yield Finding("ollama", "warning", f"installed, no server answers at {host}:{port}", "ollama serve")
    else:
        yield Finding("ollama", "missing", "not found")


def lm_studio() -> Iterator[Finding]:
    """Its command line, or the folder it keeps its models in."""
    folder = Path.home() / ".lmstudio"
    program = shutil.which("lms")
    if program or folder.is_dir():
        command = "with its command lms" if program else "without its command lms on PATH"
        yield Finding("lm studio", "ok", f"found, {command}")
    else:
        yield Finding("lm studio", "missing", "not found")


def llama_cpp() -> Iterator[Finding]:
    """Its programs on PATH."""
    found = [name for name in LLAMA_CPP if shutil.which(name)]
    yield Finding("llama.cpp", "ok" if found else "missing", ", ".join(found) if found else "not found on PATH")


def ollama_address(given: str) -> tuple[str, int]:
    """Host and port that `OLLAMA_HOST` names: "", "host", ":port", "http://host:port/path" (ollama's envconfig)."""
    scheme, _, rest = given.strip().strip("\"'").rpartition("://")
    usual = {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT)
    try:
        parts = urlsplit(f"//{rest}")
        host = parts.hostname or "127.0.0.1"
    except ValueError:
        return "127.0.0.1", DEFAULT_PORT
    try:
        port = parts.port or usual
    except ValueError:
        port = usual
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _version(host: str, port: int) -> str:
    """What the server says of itself, or ""."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/api/version")
        answer = json.loads(connection.getresponse().read(1000))
        return safe(str(answer["version"]), 40)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return ""
    finally:
        connection.close()
