"""`localtune serve` as a user starts it and as programs ask it: with the `openai` client, and with wrong keys."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from localtune.cli.serve import KEY
from localtune.llamacpp import LlamaServer
from tests.command import Command, wait_until
from tests.unit.chat.tiny_gguf import write_gguf, write_lora

pytest.importorskip("xllamacpp")
openai = pytest.importorskip("openai")

HELLO: list[Any] = [{"role": "user", "content": "hello b"}]
GREEDY: dict[str, Any] = {"messages": HELLO, "max_tokens": 12, "temperature": 0}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base that answers at great length, and two adapters."""
    folder = tmp_path_factory.mktemp("serve")
    loras = [write_lora(folder / f"{name}.gguf", i, hidden=256) for i, name in enumerate(("formal", "brief"))]
    return [write_gguf(folder / "my model.gguf", context=4096, hidden=256), *loras]


def _command(folder: Path) -> Command:
    return Command(folder / "runs", (("OMP_WAIT_POLICY", "PASSIVE"),))


@contextlib.contextmanager
def _serving(folder: Path, *arguments: str | Path) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """The command, and what it says of itself."""
    with _command(folder).start("serve", *arguments, "--json") as child:
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            assert line, child.stderr.read() if child.stderr else ""
            yield child, json.loads(line)
        finally:
            child.kill()


@pytest.fixture(scope="module")
def served(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    base, formal, brief = files
    folder = tmp_path_factory.mktemp("served")
    with _serving(folder, base, "--lora", formal, "--lora", brief, "--parallel", "2", "--context", "256") as (_, said):
        yield said


@pytest.fixture(scope="module")
def client(served: dict[str, Any]) -> Any:
    return openai.OpenAI(base_url=served["url"], api_key=served["key"], max_retries=0)


def _alone(base: Path, *adapters: Path) -> str:
    with LlamaServer(base, exact=False, adapters=adapters) as server:
        return "".join(server.chat(HELLO, tokens=12))


def _said(client: Any, **more: Any) -> str:
    return str(client.chat.completions.create(model="my model", **GREEDY, **more).choices[0].message.content)


def test_it_says_where_it_is_and_lists_the_model_under_its_name(served: dict[str, Any], client: Any) -> None:
    assert served["url"].startswith("http://127.0.0.1:")
    assert (served["model"], [model.id for model in client.models.list()]) == ("my model", ["my model"])
    assert served["adapters"] == [{"id": 0, "name": "formal"}, {"id": 1, "name": "brief"}]
    assert len(served["key"]) >= 32


def test_adapters_are_chosen_by_each_request_and_leave_no_trace(files: list[Path], client: Any) -> None:
    base, formal, brief = files
    wanted = {"base": _alone(base), "formal": _alone(base, formal), "brief": _alone(base, brief)}
    assert len(set(wanted.values())) == 3
    chosen: dict[str, list[dict[str, float]]] = {
        "brief": [{"id": 1, "scale": 1.0}],
        "formal": [{"id": 0, "scale": 1.0}],
        "base": [{"id": 0, "scale": 0.0}],
    }
    for name in ("brief", "base", "formal", "brief"):
        assert _said(client, extra_body={"lora": chosen[name], "samplers": ["temperature"]}) == wanted[name]
    assert _said(client, extra_body={"samplers": ["temperature"]}) == wanted["formal"]


def test_a_stream_is_the_whole_in_pieces(client: Any) -> None:
    lora = {"lora": [{"id": 1, "scale": 1.0}]}
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(model="my model", **GREEDY, stream=True, extra_body=lora)
        if chunk.choices
    ]
    assert len([piece for piece in pieces if piece]) > 3
    assert "".join(pieces) == _said(client, extra_body=lora)


def test_texts_are_continued_too(client: Any) -> None:
    done = client.completions.create(model="my model", prompt="a b", max_tokens=5, temperature=0)
    assert done.usage.completion_tokens == 5
    assert done.choices[0].text


@pytest.mark.parametrize("key", ["wrong", "", " "])
def test_without_the_key_nothing_is_answered(served: dict[str, Any], key: str) -> None:
    if key == "wrong":
        with pytest.raises(openai.AuthenticationError) as refused:
            _said(openai.OpenAI(base_url=served["url"], api_key=key, max_retries=0))
        assert refused.value.status_code == 401
    for route in ("models", "chat/completions", "../lora-adapters", "../props"):
        request = urllib.request.Request(f"{served['url']}/{route}", headers={"Authorization": f"Bearer {key}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with pytest.raises(urllib.error.HTTPError) as caught:
            opener.open(request, timeout=10)
        assert caught.value.code in ((401,) if route == "models" else (401, 404))


def test_each_request_has_the_context_that_was_promised(client: Any) -> None:
    long = [{"role": "user", "content": "b " * 120}]
    assert client.chat.completions.create(model="m", messages=long, max_tokens=1).usage.prompt_tokens > 128
    with pytest.raises(openai.BadRequestError, match="exceed"):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "b " * 400}], max_tokens=1)


def _ended(child: "subprocess.Popen[str]", number: int) -> tuple[int, str, list[psutil.Process]]:
    inner = psutil.Process(child.pid).children()
    child.send_signal(number)
    _, said = child.communicate(timeout=30)
    return child.returncode, said, inner


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("number", "code", "named"), [(signal.SIGINT, 0, True), (signal.SIGTERM, 143, False)])
def test_it_ends_when_it_is_told_to_and_takes_llama_cpp_along(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int, named: bool
) -> None:
    key = "a-key-of-mine-with-16-characters"
    if not named:
        monkeypatch.setenv(KEY, key)
    with _serving(tmp_path, files[0], *(["--key", key] if named else [])) as (child, said):
        found, words, inner = _ended(child, number)
    assert (found, len(inner)) == (code, 1)
    assert "Traceback" not in words
    assert said["key"] == key
    assert key not in words
    wait_until(lambda: not inner[0].is_running(), 10)


def test_what_a_user_needs_is_on_stderr_with_the_key_that_was_made(files: list[Path], tmp_path: Path) -> None:
    with _serving(tmp_path, files[0], "--lora", files[1]) as (child, said):
        assert child.stderr is not None
        lines = [child.stderr.readline() for _ in range(6)]
        child.kill()
    text = "".join(lines)
    assert f"serving my model at {said['url']}, to this machine only" in text
    assert text.count(f"key: {said['key']}") == 1
    assert "adapter 0: formal, on unless a request says otherwise" in text
    command = next(line for line in lines if line.startswith("curl "))
    assert f"{said['url']}/chat/completions" in command
    assert '"lora": [{"id": 0, "scale": 1.0}]' in command


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_crash_of_llama_cpp_is_told_in_words(files: list[Path], tmp_path: Path) -> None:
    with _serving(tmp_path, files[0]) as (child, _):
        (inner,) = psutil.Process(child.pid).children()
        inner.send_signal(signal.SIGABRT)
        _, said = child.communicate(timeout=30)
    assert child.returncode == 1
    assert "error[llamacpp.died]: my model.gguf  llama.cpp ended with code" in said
    assert "Traceback" not in said


def _refused(folder: Path, *arguments: str | Path, code: int = 2) -> str:
    result = _command(folder)("serve", *arguments, cwd=folder, timeout=60)
    assert (result.code, result.out) == (code, ""), result.err
    assert "Traceback" not in result.err
    return result.err


def test_a_port_that_is_taken_is_one_line(files: list[Path], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = _refused(tmp_path, files[0], "--port", str(port), code=4)
    assert f"port {port} is taken" in said


def test_the_port_that_is_asked_for_is_the_one(files: list[Path], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with _serving(tmp_path, files[0], "--port", str(port)) as (_, said):
        assert said["url"] == f"http://127.0.0.1:{port}/v1"


def test_what_cannot_be_served_is_one_line(files: list[Path], tmp_path: Path) -> None:
    base, formal, _ = files
    (tmp_path / "notes.gguf").write_text("eggs, milk")
    (tmp_path / "half.gguf").write_bytes(base.read_bytes()[:5000])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    assert "gguf.foreign" in _refused(tmp_path, "notes.gguf")
    assert "gguf.truncated" in _refused(tmp_path, "half.gguf")
    assert "answers only together with its base" in _refused(tmp_path, formal)
    assert "is a model, not an adapter" in _refused(tmp_path, base, "--lora", base)
    assert "localtune export folder --gguf Q8_0" in _refused(tmp_path, "folder")
    assert "no run is called 'nothing'" in _refused(tmp_path, "nothing")
    assert "visible ASCII" in _refused(tmp_path, base, "--key", "two words")
    wrong = write_lora(tmp_path / "wrong.gguf", hidden=64)
    assert "does not load this adapter" in _refused(tmp_path, base, "--lora", wrong)


def test_a_run_stands_for_its_only_file(files: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "runs" / "bot-20260101-120000"
    (run / "export").mkdir(parents=True)
    (run / "plan.json").write_text("{}")
    assert f"localtune export {run.name} --gguf Q8_0" in _refused(tmp_path, "bot")
    os.link(files[0], run / "export" / "one.gguf")
    os.link(files[1], run / "export" / "a-LoRA.gguf")
    os.link(files[0], run / "export" / "two.failed.gguf")
    with _serving(tmp_path, "bot") as (_, said):
        assert said["model"] == "one"
    os.link(files[0], run / "export" / "two.gguf")
    assert "2 GGUF files" in _refused(tmp_path, "bot")
