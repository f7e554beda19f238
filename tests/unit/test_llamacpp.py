"""llama.cpp in a child process: its numbers are those of the file, its failures are sentences, and it ends with us."""

import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from localtune.errors import InputError, MachineError, RunFailed
from localtune.llamacpp import Ended, LlamaServer
from localtune.llamacpp.child import _patience
from tests.command import wait_until
from tests.material import material
from tests.unit.chat.tiny_gguf import CHATML, END, EOS, TOKENS, write_gguf

pytest.importorskip("xllamacpp")

HELLO = [{"role": "user", "content": "hello b"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    with LlamaServer(write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf"), threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def stories() -> Iterator[LlamaServer]:
    with LlamaServer(material("model-stories260K") / "reference/stories260K-f32.gguf", threads=1) as opened:
        yield opened


def _reference() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    folder = material("model-stories260K") / "reference"
    return json.loads((folder / "reference.json").read_text())["greedy"], load_file(folder / "logits.safetensors")


def _largest_difference(server: LlamaServer, *, cache: bool = False) -> float:
    """Over the last positions of the reference prompts and the whole vocabulary, nats."""
    greedy, logits = _reference()
    differences = []
    for i, entry in enumerate(greedy):
        last = logits[f"prompt{i}"][-1].astype(np.float64)
        expected = last - np.logaddexp.reduce(last)
        ids, found = server.next_logprobs(entry["input_ids"], top=server.vocabulary, force=300, cache=cache)
        differences.append(np.abs(found - expected[ids]).max())
    return float(max(differences))


def test_log_probabilities_are_those_of_the_reference(stories: LlamaServer) -> None:
    assert stories.vocabulary == 512
    assert _largest_difference(stories) < 1e-4
    assert _largest_difference(stories, cache=True) < 1e-4


def test_llama_cpps_own_defaults_would_fail_that_check(stories: LlamaServer) -> None:
    with LlamaServer(stories._child.path, threads=1, exact=False) as hasty:
        assert _largest_difference(hasty) > 1e-3


def test_greedy_ids_are_those_of_the_reference(stories: LlamaServer) -> None:
    for entry in _reference()[0]:
        done = stories.complete(entry["input_ids"], tokens=len(entry["new_ids"]))
        assert list(done.ids) == entry["new_ids"]
        assert not done.stopped


def test_the_most_likely_come_first_and_the_whole_softmax_adds_up(server: LlamaServer) -> None:
    ids, found = server.next_logprobs([1, 270, 280], top=len(TOKENS), force=EOS)
    assert (ids.dtype.name, found.dtype.name) == ("int32", "float32")
    assert sorted(ids) == list(range(len(TOKENS)))
    assert (np.diff(found) <= 0).all()
    assert np.logaddexp.reduce(found.astype(np.float64)) == pytest.approx(0, abs=1e-5)


def test_forcing_a_token_changes_no_log_probability(server: LlamaServer) -> None:
    whole = dict(zip(*server.next_logprobs([1, 270], top=len(TOKENS), force=300), strict=True))
    half_a_character = TOKENS.index("<0xE0>")
    for force in (EOS, END, 0, 300, half_a_character):
        ids, found = server.next_logprobs([1, 270], top=5, force=force)
        assert force in ids
        assert len(ids) in (5, 6)
        assert found == pytest.approx([whole[i] for i in ids], abs=1e-5)


def _asked(server: LlamaServer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many log-probabilities each request from now on asks for."""
    numbers: list[int] = []
    ask = server._child.ask

    def noted(method: str, route: str, body: dict[str, Any], *, more: float = 0.0) -> Any:
        numbers.append(body["n_probs"])
        return ask(method, route, body, more=more)

    assert server._plain
    monkeypatch.setattr(server._child, "ask", noted)
    return numbers


def test_half_a_character_asks_for_the_vocabulary_only_where_it_is_unlikely(
    server: LlamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = TOKENS.index("<0xE0>")
    whole = dict(zip(*server.next_logprobs([1, 270], top=len(TOKENS), force=270), strict=True))
    likelier = sum(bool(value > whole[half] + 1e-4) for value in whole.values())
    alike = sum(bool(value > whole[half] - 1e-4) for value in whole.values())  # all bytes are
    asked = _asked(server, monkeypatch)
    for top, sizes in ((alike, [alike] * 2), (likelier, [likelier] * 2 + [len(TOKENS)]), (0, [1, 1, len(TOKENS)])):
        asked.clear()
        ids, found = server.next_logprobs([1, 270], top=top, force=half)
        assert asked == sizes
        assert half in ids
        assert len(ids) == (top if top == alike else top + 1)
        assert found == pytest.approx([whole[i] for i in ids], abs=1e-5)
    asked.clear()
    server.next_logprobs([1, 270], top=5, force=280)
    assert asked == [5]


def test_generation_ends_at_end_tokens_only(server: LlamaServer) -> None:
    assert [server.stops_at([1, 270], token) for token in (EOS, END, 1, 270)] == [True, True, False, False]


def test_a_completion_holds_the_token_that_ended_it(server: LlamaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    done = server.complete([1, 270], tokens=3)
    assert (len(done.ids), done.stopped) == (3, False)
    assert done.text
    ask = server._child.ask
    sure = {"logit_bias": [[END, 1000.0]]}
    monkeypatch.setattr(server._child, "ask", lambda how, route, body, more: ask(how, route, body | sure, more=more))
    done = server.complete([1, 270], tokens=3)
    assert (done.ids, done.text, done.stopped) == ((END,), "", True)


def test_tokens_are_parsed_and_begun_as_asked(server: LlamaServer) -> None:
    bare = server.tokenize("b<s>", special=False, parse=False)
    assert 1 not in bare
    assert server.tokenize("b<s>", special=True, parse=False) == [1, *bare]
    assert server.tokenize("b<s>", special=False, parse=True)[-1] == 1


def _fed(server: LlamaServer) -> int:
    """Tokens the chat endpoint says it fed."""
    body = {"messages": HELLO, "max_tokens": 1}
    return int(server._child.ask("POST", "/v1/chat/completions", body)["usage"]["prompt_tokens"])


def test_template_ids_are_what_the_chat_endpoint_feeds(server: LlamaServer) -> None:
    ids = server.template_ids(HELLO)
    assert ids[0] == 1
    assert END - 1 in ids
    assert len(ids) == _fed(server)


def test_a_template_that_writes_bos_itself_gets_one(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "bos.gguf", template="{{ bos_token }}" + CHATML)
    with LlamaServer(path, threads=1) as server:
        ids = server.template_ids(HELLO)
        assert ids[:2] != [1, 1]
        assert len(ids) == _fed(server)
        assert len(server.tokenize("<s>" + server.template(HELLO), special=True, parse=True)) != _fed(server)


def _whole(answer: Generator[str, None, Ended]) -> tuple[list[str], Ended]:
    pieces = []
    while True:
        try:
            pieces.append(next(answer))
        except StopIteration as end:
            return pieces, end.value


def test_an_answer_streams_and_says_how_it_ended(server: LlamaServer) -> None:
    for answer in (server.chat(HELLO, tokens=9), server.continuation([1, 270], tokens=9)):
        pieces, ended = _whole(answer)
        assert len(pieces) > 3
        assert ended == Ended(9, False)


def test_the_same_seed_draws_the_same_text(server: LlamaServer) -> None:
    draws = ["".join(server.chat(HELLO, temperature=1.0, seed=seed, tokens=30)) for seed in (5, 5, 6)]
    assert draws[0] == draws[1] != draws[2]


def _long(folder: Path) -> LlamaServer:
    """One that answers for many seconds."""
    return LlamaServer(write_gguf(folder / "long.gguf", context=60_000, hidden=256), threads=1)


def test_an_answer_nobody_hears_is_no_longer_computed(tmp_path: Path) -> None:
    with _long(tmp_path) as server:
        began = time.monotonic()
        server.complete([1, 270], tokens=2000)
        assert 25 * (time.monotonic() - began) > 3  # seconds that the whole answer takes at least
        with closing(server.chat(HELLO, tokens=50_000)) as answer:
            assert next(answer)
        began = time.monotonic()
        server.complete([1, 270], tokens=1)
        assert time.monotonic() - began < 2


def test_context_is_the_models_own_at_most(server: LlamaServer) -> None:
    assert server.context == 512
    with LlamaServer(server._child.path, context=9999, threads=1) as wider:
        assert wider.context == 512


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda s: s.complete([1] * 600, tokens=1), "llamacpp.context"),
        (lambda s: list(s.chat([{"role": "user", "content": "b" * 600}])), "llamacpp.context"),
        (lambda s: list(s.continuation([1] * 600)), "llamacpp.context"),
        (lambda s: s.complete([len(TOKENS)], tokens=1), "llamacpp.refused"),
        (lambda s: s.complete([], tokens=1), "llamacpp.refused"),
        (lambda s: s.tokenize("\ud800", special=True, parse=True), "llamacpp.refused"),
    ],
)
def test_what_llama_cpp_refuses_is_an_input_error(server: LlamaServer, ask: Callable[..., Any], code: str) -> None:
    with pytest.raises(InputError) as caught:
        ask(server)
    assert caught.value.problems[0].code == code
    assert server.complete([1], tokens=1).ids


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: b"hello world", "invalid magic"),
        (lambda content: content[: len(content) // 2], "not within the file bounds"),
        (lambda content: content[:2000], "failed to read"),
        (lambda content: content.replace(b"llama", b"lxama"), "unknown model architecture: 'lxama'"),
    ],
)
def test_a_file_that_does_not_load_is_refused_with_the_reason(
    tmp_path: Path, change: Callable[[bytes], bytes], reason: str
) -> None:
    path = write_gguf(tmp_path / "broken.gguf")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError) as caught:
        LlamaServer(path, threads=1)
    (problem,) = caught.value.problems
    assert problem.code == "gguf.unloadable"
    assert reason in problem.evidence
    assert len(problem.evidence.splitlines()) <= 3


def test_without_xllamacpp_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('no such wheel')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MachineError) as caught:
        LlamaServer(tmp_path / "any.gguf")
    (problem,) = caught.value.problems
    assert (problem.code, problem.fix) == ("llamacpp.missing", "pip install xllamacpp")


def test_a_child_that_dies_is_a_failed_run(tmp_path: Path) -> None:
    with _long(tmp_path) as server:
        answer = server.chat(HELLO, tokens=50_000)
        next(answer)
        psutil.Process(server._child.pid).kill()
        with pytest.raises(RunFailed, match="ended with code"):
            list(answer)
        with pytest.raises(RunFailed, match="ended with code"):
            server.tokenize("a", special=True, parse=True)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_child_that_hangs_is_a_failed_run_and_still_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _long(tmp_path) as server:
        answer = server.chat(HELLO, tokens=50_000)
        next(answer)
        child = psutil.Process(server._child.pid)
        child.suspend()
        monkeypatch.setattr("localtune.llamacpp.child.SILENCE", 0.2)
        with pytest.raises(RunFailed, match=r"llamacpp\.died.*does not answer: not a byte in 0 s"):
            server.tokenize("a", special=True, parse=True)
        answer.close()
        monkeypatch.setattr("localtune.llamacpp.server.SLOWEST", 0.01)
        with pytest.raises(RunFailed, match="not a byte in 1 s"):
            server.complete([1], tokens=80)
    assert not child.is_running()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_stream_that_falls_silent_is_a_failed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localtune.llamacpp.child.SILENCE", 3.0)
    with _long(tmp_path) as server:
        answer = server.chat(HELLO, tokens=50_000)
        next(answer)
        psutil.Process(server._child.pid).suspend()
        with pytest.raises(RunFailed, match="not a byte in 3 s"):
            list(answer)


def test_a_long_prompt_shows_signs_of_work_while_it_is_read(tmp_path: Path) -> None:
    with LlamaServer(write_gguf(tmp_path / "long.gguf", context=8192), threads=1) as server:
        body = {"prompt": [1, *[270] * 6000], "n_predict": 1}
        read = [event["prompt_progress"]["processed"] for event in server._child.stream("/completion", body)
                if "prompt_progress" in event]  # fmt: skip
        assert len(read) > 2
        assert max(b - a for a, b in itertools.pairwise(read)) <= 2048


class _Stop(Exception):
    """What a caller raises to end its work."""


def test_a_check_may_end_the_work_between_requests(tmp_path: Path) -> None:
    wanted: list[bool] = []

    def check() -> None:
        if wanted:
            raise _Stop

    with LlamaServer(write_gguf(tmp_path / "tiny.gguf"), threads=1, check=check) as server:
        child = psutil.Process(server._child.pid)
        assert server.complete([1], tokens=1).ids
        wanted.append(True)
        for ask in (lambda: server.complete([1], tokens=1), lambda: list(server.chat(HELLO, tokens=1))):
            with pytest.raises(_Stop):
                ask()
    assert not child.is_running()
    with pytest.raises(_Stop):
        LlamaServer(tmp_path / "tiny.gguf", threads=1, check=check)


OWNER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from localtune.llamacpp import LlamaServer
server = LlamaServer(Path(sys.argv[1]), threads=1)
print(server._child.pid, "xllamacpp" in sys.modules, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_ends_with_its_parent_however_that_ends(tmp_path: Path, number: int) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    command = [sys.executable, "-c", OWNER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, imported = owner.stdout.readline().split()
        assert imported == "False"
        assert psutil.pid_exists(int(pid))
        owner.send_signal(number)
    wait_until(lambda: not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == "zombie", 10)


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def _children(owner: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The process that the owner started, once llama.cpp loads in it."""
    loading: list[psutil.Process] = []

    def loads() -> bool:
        found = psutil.Process(owner.pid).children()
        loading[:] = [child for child in found if any("xllamacpp" in file.path for file in child.memory_maps())]
        return bool(loading) and loading[0].cpu_times().user > 1  # importing takes a quarter of that

    wait_until(loads, 60)
    return loading


@pytest.mark.skipif(sys.platform != "linux", reason="reads the maps of another process")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_so_it_does_while_a_template_that_never_ends_keeps_python_from_running(tmp_path: Path, number: int) -> None:
    path = write_gguf(tmp_path / "endless.gguf", template=ENDLESS)
    command = [sys.executable, "-c", OWNER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as owner:
        (child,) = _children(owner)
        owner.send_signal(number)
        owner.wait(10)
    wait_until(lambda: not child.is_running() or child.status() == "zombie", 10)


def test_a_template_that_never_ends_is_one_line_where_the_file_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localtune.llamacpp.child.LOADING", 2.0)
    with pytest.raises(InputError, match=r"gguf\.endless.*did not load this file within 2 s") as caught:
        LlamaServer(write_gguf(tmp_path / "endless.gguf", template=ENDLESS), threads=1)
    assert "template" in caught.value.problems[0].fix


def test_and_where_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localtune.llamacpp.server.RENDERING", 2.0)
    path = write_gguf(tmp_path / "late.gguf", template=f"{{% if messages[-1].content == 'x' %}}{ENDLESS}{{% endif %}}a")
    with LlamaServer(path, threads=1) as server:
        child = psutil.Process(server._child.pid)
        assert "".join(server.chat(HELLO, tokens=3))
        with pytest.raises(RunFailed, match="its chat template, which may never end, wrote no text in 2 s"):
            list(server.chat([{"role": "user", "content": "x"}]))
    assert not child.is_running()


def test_a_large_file_or_one_in_parts_may_take_its_time(tmp_path: Path) -> None:
    for name, size, seconds in (("a.gguf", 0, 120), ("b.gguf", 10**9, 220), ("c-00001-of-00003.gguf", 10**9, 420)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
        assert _patience(tmp_path / name) == seconds
    assert _patience(tmp_path / "none.gguf") == 120


def test_a_second_interrupt_leaves_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = LlamaServer(write_gguf(tmp_path / "tiny.gguf"), threads=1)
    child = psutil.Process(server._child.pid)

    def interrupted(timeout: float | None = None) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(server._child._process, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            server.close()
    server.close()
    assert not child.is_running()


def test_only_this_machine_and_who_knows_the_key_can_ask(server: LlamaServer) -> None:
    child = psutil.Process(server._child.pid)
    listening = {c.laddr.ip for c in child.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    assert server._child._key not in " ".join(child.cmdline())
    assert server._child._key not in " ".join(os.environ.values())
    connection = http.client.HTTPConnection(server._child.address)
    connection.request("POST", "/tokenize", json.dumps({"content": "a"}), {"Content-Type": "application/json"})
    assert connection.getresponse().status == 401
    connection.close()


def test_its_threads_do_not_spin_beside_other_work(server: LlamaServer) -> None:
    assert psutil.Process(server._child.pid).environ()["OMP_WAIT_POLICY"] == "PASSIVE"


def test_no_proxy_is_asked(server: LlamaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert server.tokenize("a", special=False, parse=False)
