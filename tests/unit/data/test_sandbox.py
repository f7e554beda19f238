"""Templates that do not behave end as one error that names the row, soon."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from localtune.data import bounds, child
from localtune.data.conversations import Example, Message
from localtune.data.render import Tokenised
from localtune.data.rendering import Rendering
from localtune.data.rows import Place
from localtune.errors import InputError, Problem
from tests.unit.data.builders import CHATML, TALK, save_tokenizer

ONLY = "{% if messages[-1].content == 'bad' %}"
MANY = "range(99999)"
LOOP = (
    f"{{% for a in {MANY} %}}{{% for b in {MANY} %}}{{% for c in {MANY} %}}{{% endfor %}}{{% endfor %}}{{% endfor %}}"
)
IN_C = (
    f"{{% set x = messages[0].content * 40000000 %}}{{% for a in {MANY} %}}{{{{ x.count('ab') and '' }}}}{{% endfor %}}"
)
HUGE = "{{ messages[0].content * 10**11 }}"
GROWS = "{% set n = namespace(x='aa') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}"
DEEP = "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"
WITHIN = 4.0
"""Seconds, the start of a process included, on a machine that does other things too."""


def rows(bad: int) -> list[Example]:
    """Ten rows; the one in line `bad` says so."""
    talks = [replace(TALK, place=Place("d.jsonl", i + 1), messages=(
        Message("user", "x"), Message("assistant", "bad" if i + 1 == bad else "ok"))) for i in range(10)]  # fmt: skip
    return [*talks]


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    before = psutil.Process().children()
    yield
    assert psutil.Process().children() == before


@pytest.mark.parametrize(("does", "code"), [(LOOP, "endless"), (IN_C, "endless"), (HUGE, "memory"), (GROWS, "memory")])
def test_a_template_that_does_not_behave_is_named_with_its_row(does: str, code: str, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=f"{ONLY}{does}{{% endif %}}{CHATML}")
    began = time.monotonic()
    with Rendering(tokenizer, learn="answers") as rendering:
        with pytest.raises(InputError) as caught:
            list(rendering.render([rows(7)]))
        assert time.monotonic() - began < WITHIN
        (problem,) = caught.value.problems
        assert (problem.code, problem.where) == (f"template.{code}", "d.jsonl:7")
        (fine,) = rendering.render([rows(0)])  # it goes on with another process
        assert all(isinstance(result, Tokenised) for result in fine)


def test_a_template_that_calls_itself_for_ever_refuses_the_row_alone(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=f"{ONLY}{DEEP}{{% endif %}}{CHATML}")
    with Rendering(tokenizer, learn="answers") as rendering:
        (done,) = rendering.render([rows(3)])
    assert [result.where for result in done if isinstance(result, Problem)] == ["d.jsonl:3"]


@pytest.mark.parametrize(("does", "code"), [(LOOP, "endless"), (HUGE, "memory")])
def test_questions_and_prompts_end_too(does: str, code: str, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=does + CHATML)
    with Rendering(tokenizer, learn="answers") as rendering:
        with pytest.raises(InputError, match=rf"template\.{code}.*there"):
            rendering.conversation_ids([Message("user", "hi")], where="there")
        with pytest.raises(InputError, match=rf"template\.{code}.*data\.jsonl:7"):
            rendering.question(TALK)


def test_constants_of_a_template_are_bounded(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template="{{ ('a' * 10**9) | upper }}" + CHATML)
    with Rendering(tokenizer, learn="answers") as rendering, pytest.raises(InputError, match=r"template\.memory"):
        list(rendering.render([rows(0)]))


def test_a_row_that_is_slow_and_behaves_is_rendered(tmp_path: Path) -> None:
    slow = "{% for a in range(1000) %}{% for b in range(5000) %}{% endfor %}{% endfor %}"
    tokenizer = save_tokenizer(tmp_path, template=f"{slow}{CHATML}")
    with Rendering(tokenizer, learn="answers") as rendering:
        began = time.monotonic()
        count = 0
        while time.monotonic() - began <= bounds.SECONDS + 2 * bounds.SLACK:  # the clock is each row's own
            (done,) = rendering.render([rows(0)])
            count += sum(isinstance(result, Tokenised) for result in done)
    assert count
    assert count % 10 == 0


PROGRAM = """
import sys
from localtune.data import bounds
from localtune.data.bounds import MEMORY, Limits
from localtune.data.rows import Place
bounds.SECONDS = 100.0  # a busy machine needs seconds to hand out this much memory
progress, kept = open(sys.argv[1], "wb"), []
limits = Limits(progress.fileno())
with limits:
    for line in range(1, 4):
        limits.row(Place("d", line))
        kept.append(bytearray(MEMORY * 3 // 4))
    try:
        kept.append(bytearray(MEMORY // 2))
    except MemoryError:
        print("refused")
kept.append(bytearray(2 * MEMORY))
print(len(kept), open(sys.argv[1], "rb").read())
"""


@pytest.mark.skipif(not bounds.ENFORCED, reason="the system does not bound memory")
def test_memory_is_counted_anew_for_each_row_and_free_again_behind_the_last(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "progress")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["refused", f"4 {bytes(8)!r}"]


def test_memory_is_looked_at_from_outside_where_the_system_does_not_bound_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "ENFORCED", False)
    monkeypatch.setattr(child, "MEMORY", -1)  # any process holds too much
    tokenizer = save_tokenizer(tmp_path, template=LOOP + CHATML)
    with Rendering(tokenizer, learn="answers") as rendering, pytest.raises(InputError, match=r"template\.memory.*:1"):
        list(rendering.render([rows(0)[:1]]))
