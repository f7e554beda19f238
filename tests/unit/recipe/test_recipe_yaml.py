"""The YAML of a recipe: values, places, and what is refused."""

import time
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.errors import InputError, Problem
from localtune.recipe.yaml import LIMIT, read, read_value, resolve, write_value


def refusal(text: str | bytes) -> Problem:
    with pytest.raises(InputError) as caught:
        read(text.encode() if isinstance(text, str) else text, "r.yaml")
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e-4", 1e-4), ("2e-4", 2e-4), ("no", "no"), ("yes", "yes"), ("on", "on"), ("010", 10), ("0o10", 8)),
        *(("0x1F", 31), ("1_000", "1_000"), ("12:30", "12:30"), ("~", None), ("", None), ("True", True)),
        *(("3%", "3%"), (".5", 0.5), ("5.", 5.0), ("-7", -7), ("2024-01-01", "2024-01-01"), ("NULL", None)),
    ],
)
def test_plain_scalars_resolve_by_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


def test_every_key_and_value_has_its_line_and_column() -> None:
    document = read(b"model: x\ndata:\n  train: a\n  columns: {prompt: q}\nlist:\n  - one\n", "r.yaml")
    assert document.value == {"model": "x", "data": {"train": "a", "columns": {"prompt": "q"}}, "list": ["one"]}
    assert document.where(("model",)) == "r.yaml:1:8"
    assert document.where(("data", "train"), key=True) == "r.yaml:3:3"
    assert document.where(("data", "columns", "prompt")) == "r.yaml:4:21"
    assert document.where(("list", 0)) == "r.yaml:6:5"
    assert document.where(("data", "columns", "absent")) == "r.yaml:4:12"


@pytest.mark.parametrize(
    ("text", "where", "part"),
    [
        ("a: &x 1", "r.yaml:1:4", "anchors"),
        ("a: 1\nb: *a", "r.yaml:2:4", "aliases"),
        ("a: !!str 1", "r.yaml:1:4", "tags"),
        ("a: !x {b: 1}", "r.yaml:1:4", "tags"),
        ("a: 1\n---\nb: 2", "r.yaml:2:1", "second document"),
        ("%YAML 1.1\n---\na: 1", "r.yaml:2:1", "directives"),
        ("? [a]\n: 1", "r.yaml:1:3", "plain word"),
        ("&k a: 1", "r.yaml:1:1", "plain word"),
        ("a: [1", "r.yaml:1:6", "not valid YAML"),
        ("a:\n\tb: 1", "r.yaml:2:1", "not valid YAML"),
        ("a: b: c", "r.yaml:1:5", "not valid YAML"),
        ('a: "\\ud800"', "r.yaml:1:4", "half a character"),
        ('a: "\\UFFFFFFFF"', "r.yaml:1:1", "not valid YAML"),
        ("a: " + "[" * 40, "r.yaml:1:19", "nested deeper than 16"),
    ],
)
def test_what_a_recipe_may_not_use_is_refused_with_its_place(text: str, where: str, part: str) -> None:
    problem = refusal(text)
    assert (problem.code, problem.where) == ("recipe.yaml", where)
    assert part in problem.what


def test_a_syntax_error_shows_the_line() -> None:
    assert refusal("a: 1\nb: c: d\n").evidence == "2 | b: c: d"


def test_bytes_that_are_not_utf_8_are_named_with_their_line() -> None:
    problem = refusal(b"a: 1\nb: \xe9t\xe9\n")
    assert (problem.code, problem.where, problem.fix) == ("recipe.encoding", "r.yaml:2", "save the file as UTF-8")
    assert "0xe9" in problem.what


def test_a_control_character_is_named_with_its_place() -> None:
    problem = refusal("a: 1\nb: x\x1b[2J\n")
    assert (problem.code, problem.where) == ("recipe.control-character", "r.yaml:2:5")
    assert "U+001B" in problem.what


def test_more_than_256_kb_are_refused_and_exactly_256_kb_are_not() -> None:
    assert refusal(b"#" * (LIMIT + 1)).code == "recipe.size"
    assert read(b"#" * LIMIT, "r.yaml").value is None


def test_a_duplicate_key_is_a_problem_and_the_first_counts() -> None:
    document = read(b"a: 1\nb: {c: 1, c: [2]}\na: 3\n", "r.yaml")
    assert document.value == {"a": 1, "b": {"c": 1}}
    assert [(p.code, p.where) for p in document.problems] == [
        ("recipe.duplicate-key", "r.yaml:2:11"),
        ("recipe.duplicate-key", "r.yaml:3:1"),
    ]
    assert "first is on line 1" in document.problems[1].what


def test_a_byte_order_mark_windows_line_ends_and_json_are_read() -> None:
    assert read(b"\xef\xbb\xbfa: 1\r\nb: x\r\n", "r.yaml").value == {"a": 1, "b": "x"}
    assert read(b'{"a": "\\ud83d\\ude00"}', "r.yaml").value == {"a": "\N{GRINNING FACE}"}


def test_an_alias_bomb_is_refused_at_once() -> None:
    levels = [b"l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    levels += [b"l%d: &l%d [%s]" % (n, n, b", ".join([b"*l%d" % (n - 1)] * 9)) for n in range(1, 12)]
    tracemalloc.start()
    started = time.perf_counter()
    problem = refusal(b"\n".join(levels))
    seconds, peak = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert problem.where == "r.yaml:1:5"
    assert seconds < 1
    assert peak < 5_000_000


@pytest.mark.parametrize("unit", [b"[", b"{", b"- ", b"? ", b"a: ", b"[a,", b"- a\n", b"!", b'"', b"%a\n", b"|\n"])
def test_a_full_file_of_one_pattern_ends_quickly(unit: bytes) -> None:
    started = time.perf_counter()
    with suppress(InputError):
        read((unit * LIMIT)[:LIMIT], "r.yaml")
    assert time.perf_counter() - started < 10


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_input_errors(data: bytes) -> None:
    with suppress(InputError):
        read(data, "r.yaml")


@given(st.text(alphabet=" \n\t-?:,[]{}#&*!|>'\"%@`~\\ab01.eEuxU\u2028\u00e9", max_size=60))
def test_random_yaml_raises_nothing_but_input_errors(text: str) -> None:
    with suppress(InputError):
        read(text.encode(), "r.yaml")


SCALARS = st.none() | st.booleans() | st.integers(-(10**29), 10**29) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(st.dictionaries(TEXT, st.recursive(SCALARS | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=5)))
def test_what_is_written_is_read_back(value: dict[str, Any]) -> None:
    assert read(write_value(value).encode(), "r.yaml").value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1e-4", 1e-4), ("3%", "3%"), ("[a, 1]", ["a", 1]), ("{a: b}", {"a": "b"}), ('"1"', "1"), ("", None)),
        *(("Answer: #1", "Answer: #1"), ("*x", "*x"), ("@x", "@x"), ("- a", "- a"), (" 7 ", 7), ("a\nb", "a\nb")),
    ],
)
def test_a_value_of_the_command_line_needs_no_quotes(text: str, value: object) -> None:
    assert read_value(text, "--set k").value == value


@given(st.text(max_size=40))
def test_random_values_raise_nothing_but_input_errors(text: str) -> None:
    with suppress(InputError):
        read_value(text, "--set k")
