"""Text is split in llama.cpp as the tokenizer splits it, for every row of the table; unknown patterns are refused."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.pre_tokenizers import PreTokenizer

from localtune.errors import InputError
from localtune.export.pretokenizers import GPT_4O, LLAMA3, QWEN2, TABLE, pre_tokenizer
from localtune.export.pretokenizers import PreTokenizer as Row
from tests.material import material
from tests.unit.export.served import Served
from tests.unit.export.tiny import (
    TEXTS,
    byte_level,
    different,
    every_pair,
    exported,
    hard_texts,
    model_of,
    split_by,
)


def built(row: Row) -> PreTokenizer:
    """The pre-tokenizer that a row describes."""
    steps: list[PreTokenizer] = []
    for kind, pattern in row.steps:
        if kind == "isolated":
            steps.append(pre_tokenizers.Split(Regex(pattern), behavior="isolated"))
        elif kind == "digits":
            steps.append(pre_tokenizers.Digits(individual_digits=True))
    last = row.steps[-1][0] == "gpt2"
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=last)])


def misread(folder: Path, tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    return different(model_of(folder, tokenizer), tokenizer, texts)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_ids_in_llama_cpp_are_the_tokenizers(tmp_path: Path, row: Row) -> None:
    tokenizer = byte_level(built(row), ignore_merges=row.ignore_merges)
    wrong = misread(tmp_path / "model", tokenizer, TEXTS)
    assert bool(wrong) == bool(row.note) == bool(row.differs)
    assert all(map(row.differs or (lambda _: False), wrong))


@pytest.mark.material
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_ids_of_llama_cpps_own_texts_are_the_tokenizers(tmp_path: Path, row: Row) -> None:
    texts = hard_texts(material("gguf-vocab"))
    tokenizer = byte_level(built(row), [*TEXTS, *texts], ignore_merges=row.ignore_merges)
    wrong = misread(tmp_path / "model", tokenizer, texts)
    assert all(map(row.differs or (lambda _: False), wrong))


HARD = (
    *("É", "é", "a", "B", "ß", "Я", "я", "ก", "็", "\u0301", "ǅ", "ª", "1", "٣", "中", "ʰ", "🙂", "'s", "'S", "'"),
    *(" ", "\u3000", "\xa0", "\x85", "\n", "\r", "/", "!", "aA", "ÉÉ", "éa"),
)
LETTERS = st.integers(0, 9).flatmap(lambda drawn: st.sampled_from(HARD) if drawn else st.characters(codec="utf-8"))
DECLARED = [row for row in TABLE if row.differs]


@pytest.mark.parametrize("row", DECLARED, ids=lambda row: row.name)
def test_no_text_differs_that_is_not_known_to(tmp_path_factory: pytest.TempPathFactory, row: Row) -> None:
    folder = tmp_path_factory.mktemp("m") / "m"
    tokenizer = every_pair(built(row), ignore_merges=row.ignore_merges)
    model_of(folder, tokenizer)
    differs, seen = row.differs, [0, 0]
    assert differs is not None
    with Served(exported(folder)) as served:

        @settings(max_examples=100, deadline=None, derandomize=True, database=None)
        @given(st.lists(LETTERS, min_size=3, max_size=9).map("".join))
        def check(text: str) -> None:
            same = served.ids(text) == tokenizer.encode(text, add_special_tokens=False).ids
            seen[same] += 1
            assert same or differs(text)

        check()
    assert min(seen) > 3  # so a `differs` that is always false would have failed, and one always true says too much


def test_what_is_known_to_differ_leaves_plain_text_alone() -> None:
    for row in DECLARED:
        assert row.differs is not None
        for text in ("The quick brown Fox's iPhone, HTTPServer  123\n\n x", "straße, naïve façade", "안녕하세요 세계"):
            assert not row.differs(text)
    assert all(row.differs("ÉcoleÉcole\u3000x") for row in DECLARED if row.differs)


def test_to_remove_all_but_the_matches_is_to_isolate_them() -> None:
    split = pre_tokenizers.Split(Regex(GPT_4O), behavior="removed", invert=True)
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    assert pre_tokenizer(state_of(pre_tokenizers.Sequence([split, level]))).name == "gpt-4o"
    partial = pre_tokenizers.Split(Regex("[\r\n]"), behavior="removed", invert=True)
    with pytest.raises(InputError):
        pre_tokenizer(state_of(pre_tokenizers.Sequence([partial, level])))


@pytest.mark.parametrize("name", ["default", "gpt-2", "smollm"])
def test_with_a_wrong_name_the_comparison_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("localtune.export.byte_level.pre_tokenizer", lambda state: Row(name, ()))
    assert misread(tmp_path / "model", byte_level(split_by(QWEN2)), TEXTS)


def state_of(pre: PreTokenizer, ignore_merges: bool = False) -> dict[str, object]:
    return {"pre_tokenizer": json.loads(pre.__getstate__()), "model": {"ignore_merges": ignore_merges}}


def test_an_unknown_pattern_is_shown() -> None:
    with pytest.raises(InputError) as caught:
        pre_tokenizer(state_of(split_by(r"\w+|\W+")))
    problem = caught.value.problems[0]
    assert problem.code == "gguf.pre-tokenizer"
    assert r"\w+|\W+" in problem.evidence


def test_a_known_pattern_in_another_order_or_with_a_step_more_is_refused() -> None:
    for pre in (
        split_by(LLAMA3, QWEN2),
        pre_tokenizers.Sequence([split_by(QWEN2), pre_tokenizers.Digits(individual_digits=True)]),
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.Split(Regex(QWEN2), behavior="removed"),
        pre_tokenizers.Split(Regex(QWEN2), behavior="isolated", invert=True),
        pre_tokenizers.Whitespace(),
        pre_tokenizers.Sequence(
            [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), split_by(QWEN2)]
        ),  # patterns that see bytes
    ):
        with pytest.raises(InputError):
            pre_tokenizer(state_of(pre))


def test_ignore_merges_chooses_another_name() -> None:
    assert pre_tokenizer(state_of(split_by(LLAMA3), ignore_merges=True)).name == "llama-bpe"
    assert pre_tokenizer(state_of(split_by(LLAMA3))).name == "dbrx"
    with pytest.raises(InputError, match="ignore_merges"):
        pre_tokenizer(state_of(split_by(QWEN2), ignore_merges=True))


def test_the_quickstarts_patterns_are_known() -> None:
    patterns = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}")
    assert pre_tokenizer(state_of(split_by(*patterns))).name == "deepseek-coder"
    assert pre_tokenizer(state_of(split_by("[\r\n]", *patterns[1:]))).name == "deepseek-coder"
