"""A model by hub id: a stand-in hub on the loopback, and every way in which the true one says no."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants, errors
from safetensors.numpy import save

from localtune.errors import InputError, LocaltuneError, MachineError, ResourceError
from localtune.model import resolve
from localtune.model.hub import Download, refuse_names, snapshot

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 1,
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_attention_heads": 2,
    "vocab_size": 16,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
}
FILES = {
    "config.json": json.dumps(CONFIG).encode(),
    "model.safetensors": save({"model.embed_tokens.weight": np.zeros((16, 4), np.float32)}),
    "README.md": b"---\nlicense: mit\n---\n",
    "pytorch_model.bin": b"a pickle",
    "modeling_x.py": b"raise SystemExit",
    "consolidated.safetensors": b"twice",
    "onnx/model.safetensors": b"elsewhere",
}


class StandIn(http.server.BaseHTTPRequestHandler):
    """The three questions huggingface_hub asks of a hub: which commit, which files, and their bytes."""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)  # type: ignore[attr-defined]
        kind, body = "application/json", b""
        if path.startswith("/api/models/org/tiny/revision/"):
            siblings = [{"rfilename": name} for name in FILES]
            body = json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": siblings}).encode()
        elif path.startswith("/api/models/org/tiny/tree/"):
            entries = [{"type": "file", "path": n, "size": len(c), "oid": f"{n}-oid"} for n, c in FILES.items()]
            body = json.dumps(entries).encode()
        elif path.startswith(f"/org/tiny/resolve/{COMMIT}/"):
            kind, body = "application/octet-stream", FILES[path.removeprefix(f"/org/tiny/resolve/{COMMIT}/")]
        found = bool(body)
        self.send_response(200 if found else 404)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "ETag": f'"{hash(body) & 0xFFFFFF:x}"'}
        absent = {"X-Error-Code": "RepoNotFound"}
        for name, value in (headers | ({"X-Repo-Commit": COMMIT} if found else absent)).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


SCRIPT = """
import json, sys
from pathlib import Path
from localtune.errors import LocaltuneError
from localtune.model import resolve
asked = []
def confirm(download):
    asked.append([download.name, download.revision, download.files, download.size])
    return True
try:
    model = resolve(sys.argv[1], Path(), confirm=confirm)
except LocaltuneError as error:
    print(json.dumps({"exit": error.exit_code, "code": error.problems[0].code, "what": error.problems[0].what}))
else:
    files = sorted(path.name for path in model.folder.iterdir())
    print(json.dumps({"revision": model.revision, "files": files, "asked": asked}))
"""


def ask(hub: Any, home: Path, name: str, **environ: str) -> dict[str, Any]:
    """What a fresh process says to `name`: huggingface_hub reads its environment once, when it is imported."""
    keep = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    port = hub.server_address[1]
    there = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name],
        env=keep | there | {"PYTHONPATH": os.pathsep.join(sys.path)} | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_model_is_downloaded_once_without_pickles_or_code_and_then_found_offline(hub: Any, tmp_path: Path) -> None:
    first = ask(hub, tmp_path, "org/tiny")
    wanted = ["README.md", "config.json", "model.safetensors"]
    size = sum(len(FILES[name]) for name in wanted)
    assert first == {"revision": COMMIT, "files": wanted, "asked": [["org/tiny", COMMIT, 3, size]]}
    again = ask(hub, tmp_path, f"org/tiny@{COMMIT}")
    assert again == first | {"asked": []}
    hub.asked.clear()
    offline = ask(hub, tmp_path, "org/tiny", HF_HUB_OFFLINE="1")
    assert offline == first | {"asked": []}
    assert hub.asked == []


def test_a_cached_model_is_found_when_the_hub_is_out_of_reach(hub: Any, tmp_path: Path) -> None:
    first = ask(hub, tmp_path, "org/tiny")
    assert ask(hub, tmp_path, "org/tiny", HF_ENDPOINT="http://127.0.0.1:9") == first | {"asked": []}


def test_a_model_that_the_hub_does_not_have_is_an_input_error(hub: Any, tmp_path: Path) -> None:
    found = ask(hub, tmp_path, "org/other")
    assert (found["exit"], found["code"]) == (2, "model.not-found")


def test_offline_without_a_cached_copy_is_a_matter_of_the_machine(hub: Any, tmp_path: Path) -> None:
    found = ask(hub, tmp_path, "org/tiny", HF_HUB_OFFLINE="1")
    assert (found["exit"], found["code"]) == (3, "model.offline")
    assert hub.asked == []


def test_no_connection_and_no_cached_copy_is_a_matter_of_the_machine(hub: Any, tmp_path: Path) -> None:
    found = ask(hub, tmp_path, "org/tiny", HF_ENDPOINT="http://127.0.0.1:9")
    assert (found["exit"], found["code"]) == (3, "model.network")
    assert "http://127.0.0.1:9 cannot be reached" in found["what"]


def answer(status: int) -> Any:
    request = httpx2.Request("GET", "https://huggingface.co/api/models/org/tiny")
    return httpx2.Response(status, request=request)


def dry_run_error(cause: Exception) -> Exception:
    error = errors.DryRunError("no dry run")
    error.__cause__ = cause
    return error


def raising(error: Exception) -> Callable[..., Any]:
    def snapshot_download(*args: object, local_files_only: bool = False, **rest: object) -> str:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not here")
        raise error

    return snapshot_download


SECRET = "hf_planted_token"


@pytest.mark.parametrize(
    ("error", "kind", "code", "part"),
    [
        (errors.GatedRepoError(SECRET, response=answer(403)), MachineError, "model.gated", "accept its licence"),
        (dry_run_error(errors.GatedRepoError(SECRET, response=answer(401))), MachineError, "model.gated", "licence"),
        (
            errors.RepositoryNotFoundError(SECRET, response=answer(404)),
            InputError,
            "model.not-found",
            "no model org/tiny",
        ),
        (errors.RevisionNotFoundError(SECRET, response=answer(404)), InputError, "model.revision", "no revision v9"),
        (errors.HFValidationError(SECRET), InputError, "model.not-found", "no model org/tiny"),
        (errors.HfHubHTTPError(SECRET, response=answer(429)), MachineError, "model.hub", "answered 429"),
        (dry_run_error(errors.HfHubHTTPError(SECRET, response=answer(503))), MachineError, "model.hub", "answered 503"),
        (dry_run_error(httpx2.ConnectError(SECRET)), MachineError, "model.network", "cannot be reached"),
        (errors.OfflineModeIsEnabled(SECRET), MachineError, "model.offline", "HF_HUB_OFFLINE"),
        (httpx2.ProxyError(SECRET), MachineError, "model.network", "ProxyError"),
        (OSError(28, "No space left on device"), ResourceError, "disk.full", "no space left"),
        (RuntimeError(SECRET), MachineError, "model.network", "RuntimeError"),
    ],
)
def test_every_no_of_the_hub_has_a_sentence_a_fix_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[LocaltuneError], code: str, part: str
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", raising(error))
    with pytest.raises(kind) as caught:
        snapshot("org/tiny", "v9", offline=False, confirm=None)
    problem = caught.value.problems[0]
    assert problem.code == code
    assert part in problem.what
    assert problem.fix
    assert SECRET not in str(caught.value)


def test_a_gated_model_says_where_to_accept_and_whether_a_token_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    gated = errors.GatedRepoError("no", response=answer(403))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", raising(gated))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "no-such-file")
    for token, words in (("", "and no token was found"), (SECRET, "and this token's account has not done so")):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(MachineError, match=words) as caught:
            snapshot("org/tiny", None, offline=False, confirm=None)
        assert "https://huggingface.co/org/tiny" in caught.value.problems[0].fix
        assert "hf auth login" in caught.value.problems[0].fix


def test_a_partial_copy_offline_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def partial(*args: object, **rest: object) -> str:
        raise errors.IncompleteSnapshotError("part", snapshot_path="x")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", partial)
    with pytest.raises(MachineError, match="only a part of org/tiny"):
        snapshot("org/tiny", None, offline=True, confirm=None)


def pending(tmp_path: Path, size: int) -> Callable[..., Any]:
    """A hub with one file of `size` bytes that is not in the cache."""

    def snapshot_download(*args: object, dry_run: bool = False, **rest: object) -> Any:
        assert dry_run, "downloaded without a yes"
        local = str(tmp_path / "none" / "yet" / "model.safetensors")
        file = {"filename": "model.safetensors", "local_path": local, "file_size": size}
        return [SimpleNamespace(will_download=True, commit_hash=COMMIT, **file)]

    return snapshot_download


def test_nothing_is_downloaded_after_a_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", pending(tmp_path, 10**6))
    asked: list[Download] = []

    def say_no(download: Download) -> bool:
        asked.append(download)
        return False

    with pytest.raises(MachineError) as caught:
        resolve("org/tiny", tmp_path, offline=False, confirm=say_no)
    assert caught.value.problems[0].code == "model.declined"
    assert asked == [Download("org/tiny", COMMIT, 1, 10**6)]


def test_a_download_larger_than_the_disk_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", pending(tmp_path, 10**18))
    with pytest.raises(ResourceError) as caught:
        resolve("org/tiny", tmp_path, offline=False)
    assert caught.value.problems[0].code == "disk.full"
    assert "needs 1000000000.0 GB" in caught.value.problems[0].what


def test_the_hub_library_is_not_imported_for_a_folder() -> None:
    script = "import sys, localtune.model, localtune.recipe; sys.exit('huggingface_hub' in sys.modules)"
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", script], env=environ, check=False).returncode == 0


def test_names_of_any_language_are_names_and_what_no_system_takes_is_refused() -> None:
    refuse_names("org/x", ["modèle.safetensors", "model@q4.safetensors", "LICENSE,v2", "模型.json", "#1 'a' [b]~.json"])
    for name in ("a/b", "a ", "a.", "..", "a\u202eb", "a\tb", "a?", "a" * 201):
        with pytest.raises(InputError) as refused:
            refuse_names("org/x", [name])
        assert "honest" not in str(refused.value)
