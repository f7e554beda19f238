"""A stand-in of the Hugging Face hub on the loopback: a repository is made, asked about, and gets one commit."""

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

TOKEN = "hf_" + "a1B2" * 9


_QUESTIONS = {
    "making": ("/api/repos/create", "GET /api/models/"),  # asked too: it might be there already
    "storing": ("PUT /upload/",),
    "committing": ("/commit/",),
}


@dataclass
class Hub:
    """What it was asked and what it holds."""

    address: str = ""
    private: bool | None = None
    """Of its one repository, once there is one."""
    refuses: dict[str, int] = field(default_factory=dict)
    """Part of a path -> status to answer with."""
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)
    """What the commit holds."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """Large files by SHA-256, in the commit or not yet."""
    everything: bytearray = field(default_factory=bytearray)
    """Every byte it was sent, decoded where it came in base64."""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON for one question."""
        if path.startswith("/refuse/"):  # a child's order: /refuse/403.storing
            number, _, what = path.removeprefix("/refuse/").partition(".")
            self.private, self.refuses = None, {part: int(number) for part in _QUESTIONS[what]}
            return 200, {}
        for part, status in self.refuses.items():
            if part in f"{method} {path}":
                return status, {"error": "no"}
        if path == "/api/repos/create":
            if self.private is None:
                self.private = json.loads(body).get("visibility") == "private"
                return 200, {"url": f"{self.address}/org/name"}
            return 409, {"error": "You already created this model repo", "url": f"{self.address}/org/name"}
        if method == "GET" and path == "/api/models/org/name" and self.private is not None:
            return 200, {"id": "org/name", "sha": "0" * 40, "private": self.private, "siblings": []}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.startswith("/api/models/org/name/preupload/"):
            files = [
                {"path": file["path"], "uploadMode": self.mode(file["path"]), "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": files}
        if path == "/org/name.git/info/lfs/objects/batch":
            return 200, {"transfer": "basic", "objects": [self.offer(thing) for thing in json.loads(body)["objects"]]}
        if path.startswith("/upload/"):
            self.stored[path.removeprefix("/upload/")] = body
            return 200, {}
        if path.startswith("/api/models/org/name/commit/"):
            self.commit(body)
            return 200, {"commitUrl": f"{self.address}/org/name/commit/1", "commitOid": "1" * 40, "hookOutput": ""}
        return 404, {"error": "not found"}

    def mode(self, path: str) -> str:
        """How a file is sent."""
        return "lfs" if path.endswith((".safetensors", ".gguf")) else "regular"

    def offer(self, thing: dict[str, Any]) -> dict[str, Any]:
        """Where a large file is to be put."""
        return thing | {"actions": {"upload": {"href": f"{self.address}/upload/{thing['oid']}"}}}

    def commit(self, body: bytes) -> None:
        """Take a commit's files over."""
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
                self.everything += self.files[value["path"]]
            elif entry["key"] == "lfsFile":
                self.files[value["path"]] = self.stored[value["oid"]]


@contextmanager
def running() -> Iterator[Hub]:
    """A hub without a repository."""
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            path = self.path.partition("?")[0]
            length = self.headers.get("Content-Length")
            body = self.rfile.read(int(length)) if length else self._chunks()
            hub.asked.append(f"{self.command} {path}")
            hub.everything += f"{self.path}\n".encode() + body
            if token := self.headers.get("Authorization"):
                hub.tokens.add(token)
            status, content = hub.answer(self.command, path, body)
            answer = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def _chunks(self) -> bytes:
            body = b""
            if self.headers.get("Transfer-Encoding", "") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            return body

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
