"""Modelfiles as Ollama's grammar reads them, `ollama create` as a stand-in program, and a server's answer."""

import http.server
import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.deliver.chat_format import known_format
from localtune.deliver.ollama import address_of, create, licence_text, modelfile, modelfile_of, probe, stops_of
from localtune.errors import InputError, MachineError, RunFailed
from localtune.export.identity import identify
from localtune.typed import typed
from tests.unit.deliver.modelfile import Unreadable, parse
from tests.unit.deliver.models import quickstart

_PIECES = [*" \t\n\r\"'#ab{}$`\\\u00a0\u200d\x00한😀", "FROM ", "\nSYSTEM ", '""']
ANY = st.lists(st.sampled_from(_PIECES), max_size=30).map("".join)


def read(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in parse(text):
        found.setdefault(name, []).append(value)
    return found


def test_a_modelfile_says_all_of_it() -> None:
    text = modelfile(
        "M-1B-v1.0-Q8_0.gguf",
        template='{{ .System }}\n"x"\n',
        stops=["<|im_end|>", "<|im_end|>", "</s>"],
        sampling={"top_k": 20, "top_p": 0.8, "temp": 0.7, "penalty_repeat": 1.05, "min_p": 0.0},
        license='Apache\n"License"\nSYSTEM no',
        context=4096,
    )
    assert read(text) == {
        "from": ["./M-1B-v1.0-Q8_0.gguf"],
        "template": ['{{ .System }}\n"x"\n'],
        "stop": ["<|im_end|>", "</s>"],
        "num_ctx": ["4096"],
        "top_k": ["20"],
        "top_p": ["0.8"],
        "min_p": ["0"],
        "temperature": ["0.7"],
        "repeat_penalty": ["1.05"],
        "license": ['Apache\n"License"\nSYSTEM no'],
    }


@given(st.lists(ANY.filter(bool), max_size=3), ANY.filter(bool))
def test_no_text_escapes_its_quotes_or_is_changed(stops: list[str], template: str) -> None:
    texts = "".join([template, *stops])
    if set(texts) & set("\u00a0\u200d\x00") or any('"""' in text for text in (template, *stops)):
        with pytest.raises(InputError, match=r"ollama\.text"):
            modelfile("m.gguf", stops=stops, template=template)
        return
    text = modelfile("m.gguf", stops=stops, template=template)
    expected = {"from": ["./m.gguf"], "template": [template]}
    assert read(text) == (expected | {"stop": list(dict.fromkeys(stops))} if stops else expected)


@given(ANY)
def test_any_licence_can_be_written(licence: str) -> None:
    found = read(modelfile("m.gguf", license=licence))
    assert set(found) <= {"from", "license"}


def test_texts_without_their_quotes_would_escape() -> None:
    with pytest.raises(Unreadable):
        parse('FROM ./m.gguf\nSYSTEM """a"""\nb"""\n')
    assert read("FROM ./m.gguf\nSYSTEM a\nPARAMETER stop x\n")["stop"] == ["x"]


@pytest.mark.parametrize("name", ["../m.gguf", "a/b.gguf", "m\n.gguf", '"m.gguf', " m.gguf", ""])
def test_only_a_file_beside_the_modelfile_is_named(name: str) -> None:
    with pytest.raises(InputError, match=r"ollama\.text"):
        modelfile(name)


def test_a_models_own_files_say_what_goes_in(tmp_path: Path) -> None:
    model, tokenizer = quickstart()
    identity = identify(model, finetune="chatty", base=None, revision=None, lineage={})
    found = read(modelfile_of(tmp_path / "m.gguf", model, tokenizer, identity, known_format(tokenizer)))
    assert found["from"] == ["./m.gguf"]
    assert found["stop"] == stops_of(model, tokenizer) == ["<|im_end|>", "<|endoftext|>"]
    assert found["num_ctx"] == [str(min(8192, model.config.context))]
    assert found["template"][0].count("<|im_start|>") >= 3


def test_a_licence_file_is_carried_over(tmp_path: Path) -> None:
    assert licence_text(tmp_path) == ""
    (tmp_path / "LICENSE.txt").write_bytes(b"Do\r\nwhat\x0cyou like\xff\n")
    assert read(modelfile("m.gguf", license=licence_text(tmp_path)))["license"] == ["Do\nwhat you like�"]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("box.local", "http://box.local:11434"),
        ("http://box.local", "http://box.local:80"),
        ("https://box.local", "https://box.local:443"),
        ("[::1]:99", "http://[::1]:99"),
        ("[::]", "http://127.0.0.1:11434"),
        ("file:///etc/passwd", "http://127.0.0.1:11434"),
        ("box:port", "http://127.0.0.1:11434"),
        (' "127.0.0.1" ', "http://127.0.0.1:11434"),
    ],
)
def test_the_server_is_where_the_variable_says(host: str, address: str) -> None:
    assert address_of(host) == address


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[str]:
    """A server that says `body` to everything; yields its host and port."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_running_server_says_its_version_and_others_why_not(tmp_path: Path) -> None:
    with answering(b'{"version": "0.24.1"}') as host:
        found = probe({"OLLAMA_HOST": host, "PATH": str(tmp_path), "HTTP_PROXY": "http://127.0.0.1:9"})
        assert (found.program, found.version, found.why) == (None, "0.24.1", "")
    gone = probe({"OLLAMA_HOST": host, "PATH": str(tmp_path)})
    assert gone.version is None
    assert "nothing answers at" in gone.why
    for body in (b"hello", b"[]", b"{}", b"\xff"):
        with answering(body) as host:
            assert "is not Ollama" in probe({"OLLAMA_HOST": host, "PATH": ""}).why
    with answering(b"{}", 500) as host:
        assert probe({"OLLAMA_HOST": host, "PATH": ""}).version is None


def program(folder: Path, code: str) -> None:
    """An `ollama` in `folder` that runs this Python."""
    path = folder / "ollama"
    path.write_text(f"#!{sys.executable}\nimport sys\n{code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script with a #! line")
def test_ollama_is_told_to_create_and_its_words_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "Modelfile").write_text("FROM ./somebody-elses.gguf\n")
    program(tmp_path, "print('\\x1b[?25lgathering', sys.argv[1:4], open(sys.argv[4]).read().strip(), '\\x1b[K')")
    said: list[str] = []
    create("me/chatty:q8", tmp_path, "FROM ./m.gguf\n", said.append)
    assert said == ["gathering ['create', 'me/chatty:q8', '-f'] FROM ./m.gguf"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Modelfile", "ollama"]
    program(tmp_path, "print('Error: no server', file=sys.stderr); sys.exit(3)")
    with pytest.raises(RunFailed, match=r"ollama\.failed.*ended with 3\n.*no server"):
        create("chatty", tmp_path, "FROM ./m.gguf\n", said.append)


def test_without_ollama_the_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = tmp_path / "my models"
    with pytest.raises(MachineError, match=r"ollama\.missing") as caught:
        create("chatty", folder, "FROM ./m.gguf\n", print)
    assert caught.value.problems[0].fix.endswith(typed("ollama", "create", "chatty", "-f", folder / "Modelfile"))


@pytest.mark.parametrize("name", ["-rf", "a b", "", "a;b", "../x", "a" * 300, "x\n"])
def test_no_other_words_are_taken_for_a_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ollama\.name"):
        create(name, tmp_path, "FROM ./m.gguf\n", print)
