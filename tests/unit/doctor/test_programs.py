"""Ollama, LM Studio and llama.cpp are found, and nothing beyond this machine is asked."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.doctor import can_train, programs
from tests.unit.doctor.builders import POSIX, only, program


@pytest.fixture
def fake_ollama() -> Iterator[tuple[int, dict[str, Any]]]:
    """A server on a free port, and what it answers."""
    says: dict[str, Any] = {"body": b'{"version": "0.12.6"}', "asked": [], "wait": threading.Event()}
    says["wait"].set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            says["asked"].append(self.path)
            says["wait"].wait()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(says["body"])

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port, says
    says["wait"].set()
    server.shutdown()
    server.server_close()


def test_an_ollama_that_answers_is_found_past_any_proxy(
    programs_here: Path, monkeypatch: pytest.MonkeyPatch, fake_ollama: tuple[int, dict[str, Any]]
) -> None:
    port, says = fake_ollama
    monkeypatch.setenv("OLLAMA_HOST", f"http://0.0.0.0:{port}/")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    found = only(programs.ollama)
    assert found.status == "ok"
    assert found.text == f"0.12.6 answers at 127.0.0.1:{port}, but there is no ollama command"
    assert says["asked"] == ["/api/version"]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"other": 1}', b'{"version": "' + b"x" * 5000 + b'"}'])
def test_another_server_on_that_port_is_not_taken_for_ollama(
    programs_here: Path, monkeypatch: pytest.MonkeyPatch, fake_ollama: tuple[int, dict[str, Any]], body: bytes
) -> None:
    port, says = fake_ollama
    says["body"] = body
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{port}")
    assert only(programs.ollama).text == "not found"


@POSIX
def test_a_server_that_does_not_answer_is_waited_for_a_moment_only(
    programs_here: Path, monkeypatch: pytest.MonkeyPatch, fake_ollama: tuple[int, dict[str, Any]]
) -> None:
    port, says = fake_ollama
    says["wait"].clear()
    program(programs_here, "ollama")
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{port}")
    began = time.monotonic()
    found = only(programs.ollama)
    assert time.monotonic() - began < 1.5
    assert (found.status, found.fix) == ("warning", "ollama serve")


def test_a_server_on_another_machine_is_not_asked(programs_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "create_connection", never)
    monkeypatch.setenv("OLLAMA_HOST", "https://me:secret@models.example.com")
    found = only(programs.ollama)
    assert "models.example.com" in found.text
    assert "secret" not in found.text
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1")
    with pytest.raises(AssertionError, match="was opened"):
        only(programs.ollama)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("", ("127.0.0.1", 11434)),
        (":8080", ("127.0.0.1", 8080)),
        ("0.0.0.0", ("127.0.0.1", 11434)),
        ("localhost:1", ("localhost", 1)),
        ("http://h", ("h", 80)),
        ("https://h/path", ("h", 443)),
        ("[::1]:5", ("::1", 5)),
        ("[::", ("127.0.0.1", 11434)),
        ("h:99999", ("h", 11434)),
    ],
)
def test_ollamas_address_is_read_as_ollama_reads_it(given: str, address: tuple[str, int]) -> None:
    assert programs.ollama_address(given) == address


@given(st.text())
def test_any_address_is_read_without_an_error(text: str) -> None:
    host, port = programs.ollama_address(text)
    assert host
    assert 0 < port < 65536


@POSIX
def test_programs_are_found_on_path_and_not_found_is_no_fault(programs_here: Path, tmp_path: Path) -> None:
    absent = [only(programs.lm_studio), only(programs.llama_cpp)]
    assert [(finding.status, finding.fix) for finding in absent] == [("missing", "")] * 2
    assert can_train(absent)
    program(programs_here, "llama-cli")
    program(programs_here, "llama-server")
    (tmp_path / ".lmstudio").mkdir()
    assert only(programs.llama_cpp).text == "llama-cli, llama-server"
    assert only(programs.lm_studio).text == "found, without its command lms on PATH"
    program(programs_here, "lms")
    assert only(programs.lm_studio).text == "found, with its command lms"
