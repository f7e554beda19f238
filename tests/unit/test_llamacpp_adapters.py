"""LoRA files beside a GGUF: switched between two questions without a trace of the one before, or refused in words."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localtune.errors import InputError
from localtune.llamacpp import Child, LlamaServer, ServerOptions
from tests.unit.chat.tiny_gguf import write_gguf, write_lora

pytest.importorskip("xllamacpp")

IDS = [1, 270, 280]
HELLO = [{"role": "user", "content": "hello b"}]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base and two adapters."""
    folder = tmp_path_factory.mktemp("lora")
    return [write_gguf(folder / "base.gguf"), *(write_lora(folder / f"{name}.gguf", i) for i, name in enumerate("ab"))]


@pytest.fixture(scope="module")
def server(files: list[Path]) -> Iterator[LlamaServer]:
    with LlamaServer(files[0], threads=1, adapters=files[1:]) as opened:
        yield opened


def _alone(base: Path, *adapters: Path) -> str:
    with LlamaServer(base, threads=1, adapters=adapters) as server:
        return server.complete(IDS, tokens=12).text


def test_a_switch_leaves_no_trace_of_the_adapter_before(server: LlamaServer, files: list[Path]) -> None:
    base, a, b = files
    alone = {(0.0, 0.0): _alone(base), (1.0, 0.0): _alone(base, a), (0.0, 1.0): _alone(base, b)}
    assert len(set(alone.values())) == 3
    for scales in (*alone, *reversed(alone)):
        server.scales(scales)
        assert server.complete(IDS, tokens=12).text == alone[scales]


def test_nor_where_the_beginning_of_a_prompt_was_kept(server: LlamaServer, files: list[Path]) -> None:
    long = [{"role": "user", "content": "a b " * 60}]
    base, a, b = files
    wanted = {}
    for scales, adapters in {(0.0, 0.0): (), (1.0, 0.0): (a,), (0.0, 1.0): (b,)}.items():
        with LlamaServer(base, threads=1, adapters=adapters) as alone:
            wanted[scales] = "".join(alone.chat(long, tokens=12))
    for scales in (*wanted, *wanted, *reversed(wanted)):
        server.scales(scales)
        assert "".join(server.chat(long, tokens=12)) == wanted[scales]


@pytest.mark.parametrize("cache", [True, False])
def test_a_request_that_names_no_adapter_is_right_only_without_the_cache(files: list[Path], cache: bool) -> None:
    order = ServerOptions(threads=1, adapters=files[1:], scales=[1.0], cache=cache)
    child = Child(files[0], order)
    try:
        asked = {"messages": HELLO, "max_tokens": 12, "temperature": 0}

        def said(**lora: object) -> str:
            return str(child.ask("POST", "/v1/chat/completions", asked | lora)["choices"][0]["message"]["content"])

        before = said()
        assert said(lora=[{"id": 1, "scale": 1.0}]) != before
        assert (said() == before) is not cache
    finally:
        child.close()


def test_every_kind_of_question_heeds_the_scales(server: LlamaServer) -> None:
    questions: list[Callable[[], object]] = [
        lambda: "".join(server.chat(HELLO, tokens=12)),
        lambda: "".join(server.continuation(IDS, tokens=12)),
        lambda: server.next_logprobs(IDS, top=5, force=270)[1].tolist(),
    ]
    for ask in questions:
        heard = []
        for scales in ([1.0, 0.0], [0.0, 0.0], [1.0, 0.0]):
            server.scales(scales)
            heard.append(ask())
        assert heard[0] == heard[2] != heard[1]


def test_to_begin_with_all_count_in_full(server: LlamaServer, files: list[Path]) -> None:
    server.scales([1.0, 1.0])
    assert _alone(*files) == server.complete(IDS, tokens=12).text


@pytest.mark.parametrize("scales", [[], [1.0], [1.0, 2.0, 3.0], [float("nan"), 0.0], [1e30, 0.0]])
def test_scales_that_are_none_are_refused(server: LlamaServer, scales: list[float]) -> None:
    with pytest.raises(ValueError, match="2 numbers from -100 to 100"):
        server.scales(scales)


BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "of another base": (lambda path: write_lora(path, hidden=96), "maybe wrong base model"),
    "a model": (write_gguf, "expect general.type to be 'adapter'"),
    "of another kind": (lambda path: write_lora(path, kind="x"), "expect adapter.type to be 'lora'"),
    "not there": (lambda path: path, "No such file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_adapter_that_does_not_fit_is_named_with_the_reason(files: list[Path], tmp_path: Path, name: str) -> None:
    make, reason = BROKEN[name]
    path = make(tmp_path / "bad.gguf")
    with pytest.raises(InputError) as caught:
        LlamaServer(files[0], threads=1, adapters=[files[1], path])
    (problem,) = caught.value.problems
    assert (problem.code, problem.where) == ("adapter.unloadable", str(path))
    assert reason in problem.evidence
    assert len(problem.evidence.splitlines()) == 1


@pytest.mark.parametrize("kept", [0, 20, 200, 0.6], ids=str)
def test_a_damaged_adapter_is_named(files: list[Path], tmp_path: Path, kept: float) -> None:
    whole = files[1].read_bytes()
    path = tmp_path / "bad.gguf"
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError) as caught:
        LlamaServer(files[0], threads=1, adapters=[path])
    assert caught.value.problems[0].where == str(path)
