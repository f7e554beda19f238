"""A stand-in hub on the loopback: the questions that huggingface_hub and datasets ask of a hub about one data set."""

import http.server
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _parquet(prompts: list[str]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"prompt": prompts, "completion": [text.upper() for text in prompts]}), out)
    return out.getvalue()


FILES = {
    "data/train-00000-of-00002.parquet": _parquet(["one", "two"]),
    "data/train-00001-of-00002.parquet": _parquet(["three"]),
    "data/validation-00000-of-00001.parquet": _parquet(["four"]),
    "data/test-00000-of-00001.parquet": _parquet(["five"]),
    "README.md": b"---\nlicense: mit\n---\n",
}
LINES = {"train.jsonl": b'{"text": "a"}\n{"text": "b"}\n', "README.md": b"---\nlicense: mit\n---\n"}


def _card(data_files: str) -> dict[str, bytes]:
    """A data set whose card names rows at another place."""
    card = f"---\nconfigs:\n- config_name: default\n  data_files: {json.dumps(data_files)}\n---\n"
    return {"train.jsonl": LINES["train.jsonl"], "README.md": card.encode()}


ELSEWHERE = {
    "org/absolute": "/proc/self/environ",
    "org/above": "../../../../etc/hostname",
    "org/network": "http://127.0.0.1:9/rows.jsonl",
    "org/foreign": "hf://datasets/org/lines/train.jsonl",
}
SETS = {"org/tiny": FILES, "org/lines": LINES} | {name: _card(there) for name, there in ELSEWHERE.items()}


class _StandIn(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(with_body=True, wanted=asked.get("paths"))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _answer(self, *, with_body: bool, wanted: list[str] | None = None) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        name = next((name for name in SETS if f"datasets/{name}" in path), None)
        status, kind, body = 404, "application/json", b"{}"
        headers = {"X-Error-Code": "RepoNotFound"}
        if name and "/revision/gone" in path:
            headers = {"X-Error-Code": "RevisionNotFound"}
        elif name:
            found = _body(path, name, wanted)
            if found is None:
                headers = {"X-Error-Code": "EntryNotFound"}
            else:
                status, (kind, body) = 200, found
                headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hash(body) & 0xFFFFFF:x}"', "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        if asked and status == 200:
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            last = min(int(end or len(body) - 1), len(body) - 1)
            headers["Content-Range"] = f"bytes {begin}-{last}/{len(body)}"
            status, body = 206, body[int(begin) : last + 1]
        self.send_response(status)
        for key, value in (headers | {"Content-Type": kind, "Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _body(path: str, name: str, wanted: list[str] | None) -> tuple[str, bytes] | None:
    files = SETS[name]
    if "/paths-info/" in path or "/tree/" in path:
        under = path.partition(f"/tree/{COMMIT}")[2].strip("/")
        inside = [n for n in files if n.startswith(f"{under}/" if under else "")]
        names = [n for n in inside if "/" not in n.removeprefix(f"{under}/")] if wanted is None else wanted
        folders = {n.partition("/")[0] for n in inside if "/" in n} if not under and wanted is None else set()
        entries = [{"type": "file", "path": n, "size": len(files[n]), "oid": f"{n}-oid"} for n in names if n in files]
        entries += [{"type": "directory", "path": folder, "oid": f"{folder}-oid"} for folder in folders]
        return "application/json", json.dumps(entries).encode()
    if path in (
        f"/api/datasets/{name}",
        f"/api/datasets/{name}/revision/{COMMIT}",
        f"/api/datasets/{name}/revision/main",
    ):
        about: dict[str, Any] = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": n} for n in files]}
        if name in ELSEWHERE:
            about["cardData"] = {"configs": [{"config_name": "default", "data_files": ELSEWHERE[name]}]}
        return "application/json", json.dumps(about).encode()
    inner = path.removeprefix(f"/datasets/{name}/resolve/{COMMIT}/")
    return ("application/octet-stream", files[inner]) if inner in files else None


@contextmanager
def stand_in() -> Iterator[Any]:
    """A running hub; `.server_address`, and `.asked` with what was asked of it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _StandIn)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
