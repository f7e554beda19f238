import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localtune.data.conversations import (
    Conversation,
    Example,
    Infill,
    Labelled,
    Message,
    Pair,
    Passage,
    Preference,
    ToolCall,
)
from localtune.data.render import Renderer, Tokenised
from localtune.data.rendering import Rendering
from localtune.data.rendering import blocks as grown
from localtune.data.rows import Place
from localtune.data.tokenizer import Tokenizer
from localtune.data.wire import packed, unpacked
from localtune.errors import InputError, Problem
from tests.unit.data.builders import CHATML, PLACE, TALK, save_tokenizer
from tests.unit.data.test_turns import TOOLS, WITH_TOOLS

FIM = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
CONTROL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", *FIM)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    ["<|im_end|>", "a", "<think>x</think>", "한 😀", "\U0010fff0", "\u2028"]
)
PLACES = st.builds(Place, st.just("d.jsonl"), st.integers(1, 2**33), st.integers(0, 9))
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
                    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
                    max_leaves=4)  # fmt: skip
CALLS = st.lists(st.builds(ToolCall, TEXT, st.dictionaries(TEXT, JSON, max_size=2), TEXT), max_size=2).map(tuple)
WEIGHTS = st.sampled_from([0.0, 0.5, 1.0, 1.0])
ANSWERS = st.builds(Message, st.just("assistant"), TEXT, st.just("") | TEXT, CALLS, weight=WEIGHTS)
ASKED = st.builds(Message, st.sampled_from(["user", "system", "tool"]), TEXT, name=st.just("") | TEXT)
TURNS = st.tuples(ASKED, st.lists(ASKED | ANSWERS, max_size=3), ANSWERS).map(lambda t: (t[0], *t[1], t[2]))
TALKS = st.builds(Conversation, PLACES, TURNS, st.just("g"), st.sampled_from([(), TOOLS]))
PAIRS = st.builds(Pair, PLACES, TEXT, TEXT)
BOTH = TALKS | PAIRS
EXAMPLES = (
    BOTH
    | st.builds(Passage, PLACES, TEXT)
    | st.builds(Preference, PLACES, BOTH, BOTH)
    | st.builds(Labelled, PLACES, BOTH, st.booleans())
    | st.builds(Infill, PLACES, TEXT, TEXT, TEXT)
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return save_tokenizer(tmp_path_factory.mktemp("rendering"), template=WITH_TOOLS, control=CONTROL)


@pytest.fixture(scope="module")
def rendering(tokenizer: Tokenizer) -> Iterator[Rendering]:
    with Rendering(tokenizer, learn="answers", workers=1) as made:
        yield made


def shown(results: Iterable[Tokenised | Problem]) -> list[Any]:
    """Results as values that can be compared."""
    return [
        r if isinstance(r, Problem) else (r.place, r.held, [(*s.tokens, *s.weights, s.source) for s in r.segments])
        for r in results
    ]


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def rows(count: int) -> list[Example]:
    return [replace(TALK, place=Place("d.jsonl", i + 1)) for i in range(count)]


def blocks(examples: Sequence[Example], size: int) -> list[Sequence[Example]]:
    return [examples[i : i + size] for i in range(0, len(examples), size)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EXAMPLES, max_size=5))
def test_results_are_those_of_the_renderer(tokenizer: Tokenizer, rendering: Rendering, examples: list[Example]) -> None:
    renderer = Renderer(tokenizer, learn="answers")
    rendering.seen.clear()
    (done,) = rendering.render([examples])
    assert shown(done) == shown(renderer.render(examples))
    assert rendering.seen == +renderer.seen


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EXAMPLES)
def test_what_crosses_the_pipe_is_the_same_on_the_other_side(example: Example) -> None:
    assert repr(unpacked(packed(example))) == repr(example)


def test_questions_and_prompts_are_those_of_the_renderer(tokenizer: Tokenizer, rendering: Rendering) -> None:
    renderer = Renderer(tokenizer, learn="answers")
    assert rendering.question(TALK) == renderer.question(TALK)
    refused = Conversation(PLACE, (Message("user", "\U0010fff0"), Message("assistant", "b")))
    assert rendering.question(refused) == renderer.question(refused)
    assert rendering.prompt_ids("hi", "S") == renderer.prompt_ids("hi", "S")
    asked = [Message("user", "hi")]
    assert rendering.conversation_ids(asked, tools=TOOLS) == renderer.conversation_ids(asked, tools=TOOLS)
    with pytest.raises(InputError, match=r"data\.reserved.*here"):
        rendering.conversation_ids([Message("user", "\U0010fff0")], where="here")


def test_pieces_of_a_row_are_its_text(rendering: Rendering) -> None:
    painted = rendering.paint(TALK)
    assert not isinstance(painted, Problem)
    (pieces,) = painted
    assert "".join(piece.text for piece in pieces if piece.weight) == "one<|im_end|>two <|im_end|>"


def test_blocks_come_back_in_order_from_several_processes(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    examples, before = rows(3000), children()
    with Rendering(tokenizer, learn="answers", workers=2) as rendering:
        done = list(rendering.render(blocks(examples, 100)))
        assert len(children() - before) == 2
    assert [len(block) for block in done] == [100] * 30
    places = [result.place.line for block in done for result in block if isinstance(result, Tokenised)]
    assert places == list(range(1, 3001))
    assert rendering.end_of_turn == "<|im_end|>"
    assert children() == before


def test_few_rows_are_rendered_by_one_process(tmp_path: Path) -> None:
    before = children()
    with Rendering(save_tokenizer(tmp_path), learn="answers", workers=4) as rendering:
        assert children() == before
        list(rendering.render(blocks(rows(300), 100)))
        assert len(children() - before) == 1


def test_only_a_few_blocks_are_taken_ahead(tmp_path: Path) -> None:
    taken = 0

    def source() -> Iterator[Sequence[Example]]:
        nonlocal taken
        for block in blocks(rows(2000), 10):
            taken += 1
            yield block

    with Rendering(save_tokenizer(tmp_path), learn="answers", workers=2) as rendering:
        done = rendering.render(source())
        for wanted in range(1, 50):
            next(done)
            assert taken <= wanted + 4


def test_what_holds_for_every_row_is_raised(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=None)
    with Rendering(tokenizer, learn="answers") as rendering, pytest.raises(InputError, match=r"template\.missing"):
        list(rendering.render([rows(1)]))
    broken = save_tokenizer(tmp_path / "b", template="{% if %}")
    with Rendering(broken, learn="answers") as rendering, pytest.raises(InputError, match=r"template\.syntax"):
        rendering.prompt_ids("hi", None)


def test_a_tokenizer_that_breaks_meanwhile_is_named(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with Rendering(tokenizer, learn="answers") as rendering, pytest.raises(InputError, match=r"tokenizer\.broken"):
        list(rendering.render([rows(1)]))


def test_an_error_of_the_source_is_its_own(tmp_path: Path) -> None:
    def source() -> Iterator[Sequence[Example]]:
        yield rows(2)
        raise InputError(Problem("data.json", "broken"))

    with Rendering(save_tokenizer(tmp_path), learn="answers") as rendering:
        done = rendering.render(source())
        with pytest.raises(InputError, match=r"data\.json"):
            list(done)


PROGRAM = """
import signal, sys
from pathlib import Path
from localtune.data.conversations import Pair
from localtune.data.rendering import Rendering
from localtune.data.rows import Place
from localtune.data.tokenizer import Tokenizer
def source():
    for number in range(10**4):
        yield [Pair(Place("d", 1), "a", "b")] * 100
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
with Rendering(Tokenizer(Path(sys.argv[1])), learn="answers", workers=2) as rendering:
    for number, _ in enumerate(rendering.render(source())):
        if number == 30:
            print("ready", flush=True)
"""


@pytest.mark.parametrize("way", ["interrupt", "kill"])
def test_processes_end_with_the_one_that_asks(way: str, tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        children = psutil.Process(program.pid).children()
        assert len(children) == 2
        if way == "kill":
            program.kill()
        else:
            program.send_signal(signal.SIGINT)
        try:
            _, said = program.communicate(timeout=10)
        finally:
            program.kill()  # or it would go on beside every later test
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert said.strip().splitlines()[-1:] == ([] if way == "kill" else ["KeyboardInterrupt"])
    assert said.count("Traceback") <= 1


def test_a_process_that_is_killed_is_replaced(tmp_path: Path) -> None:
    slow = "{% for i in range(99999) %}{% endfor %}" * 3 + CHATML
    tokenizer, before = save_tokenizer(tmp_path, template=slow), children()
    with Rendering(tokenizer, learn="answers") as rendering:
        done = rendering.render(blocks(rows(20), 10))
        first = next(done)
        (child,) = children() - before
        time.sleep(0.02)
        child.kill()
        second = next(done)
    assert [isinstance(result, Tokenised) for result in [*first, *second]] == [True] * 20


def test_blocks_grow_and_end_behind_many_characters() -> None:
    short = [Passage(Place("d", line), "a") for line in range(1, 1001)]
    assert [len(block) for block in grown(iter(short))] == [256, 512, 232]
    long = [Passage(Place("d", line), "a" * 2**21) for line in range(1, 8)]
    assert [len(block) for block in grown(iter(long))] == [3, 3, 1]
