import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localtune.batch import Segment
from localtune.data.prepare import Prepared, load, prepare, save
from localtune.data.report import from_json
from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError, Problem
from localtune.settings import DataSettings
from tests.unit.data.builders import CHATML, CONTROL, all_text, learned_text, save_tokenizer, write_rows
from tests.unit.data.test_render import STRIPPING


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return save_tokenizer(tmp_path / "model")


def pairs(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"prompt": f"say {i}", "completion": f"{i}!", "group": "odd" if i % 2 else None} for i in range(start, count)
    ]


def run(
    folder: Path,
    tokenizer: Tokenizer,
    vocabulary: int = 1000,
    seed: int = 1,
    context: int | None = None,
    **settings: Any,
) -> Prepared:
    given = DataSettings(**({"train": "train.jsonl"} | settings))
    return prepare(
        given,
        tokenizer,
        learn="answers",
        seed=seed,
        base=folder,
        vocabulary=vocabulary,
        context=context,
        samples=["hi", "yo"],
    )


def the_problem(folder: Path, tokenizer: Tokenizer, **settings: Any) -> Problem:
    with pytest.raises(InputError) as caught:
        run(folder, tokenizer, **settings)
    return caught.value.problems[0]


def lines(segments: Sequence[Segment]) -> list[int]:
    return sorted(segment.source for segment in segments)


def test_every_row_is_trained_or_held_out_exactly_once(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_rows(tmp_path / "train.jsonl", pairs(100))
    done = run(tmp_path, tokenizer)
    assert sorted(lines(done.train) + lines(done.valid)) == list(range(1, 101))
    assert (done.report.train.rows, done.report.valid.rows) == (80, 20)
    assert lines(run(tmp_path, tokenizer).valid) == lines(done.valid)
    assert lines(run(tmp_path, tokenizer, seed=2).valid) != lines(done.valid)


def test_counts_are_those_of_the_segments(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_rows(tmp_path / "train.jsonl", pairs(12))
    done = run(tmp_path, tokenizer, valid="none")
    part = done.report.train
    lengths = sorted(len(segment.tokens) for segment in done.train)
    assert part.tokens == sum(lengths)
    assert part.targets == sum(len(str(i)) + 2 for i in range(12))
    assert (part.longest, part.longest_place, part.length_p50) == (lengths[-1], "train.jsonl:11", lengths[6])


def targets_of(done: Prepared) -> int:
    return sum(int((segment.weights > 0).sum()) for segment in done.train)


def test_targets_after_cutting_are_counted_and_rows_without_any_are_not_kept(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    long = {"prompt": "x" * 100, "completion": "y" * 100}
    write_rows(tmp_path / "train.jsonl", [*pairs(150), long])
    whole = run(tmp_path, tokenizer, valid="none")
    cut = run(tmp_path, tokenizer, valid="none", max_tokens=160)
    assert cut.report.train.cut == 1
    assert cut.report.train.targets == targets_of(cut) < whole.report.train.targets == targets_of(whole)
    gone = run(tmp_path, tokenizer, valid="none", max_tokens=64, on_error="skip")
    assert gone.report.losses[0].skipped == 1
    assert "train.jsonl:151  the whole answer is cut away" in gone.report.losses[0].skipped_first[0]
    assert gone.report.losses[0].answers_cut == 1
    assert the_problem(tmp_path, tokenizer, max_tokens=64, on_error="stop").code == "data.answer-cut"
    dropped = run(tmp_path, tokenizer, valid="none", max_tokens=64, too_long="drop")
    assert (dropped.report.losses[0].dropped, dropped.report.losses[0].dropped_first) == (1, ("train.jsonl:151",))


def test_counting_padding_as_targets_would_be_noticed(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_rows(tmp_path / "train.jsonl", pairs(5))
    done = run(tmp_path, tokenizer)
    padded = tuple(Segment(np.append(s.tokens, 0), np.append(s.weights, np.float32(1)), s.source) for s in done.train)
    wrong = Prepared(padded, done.valid, done.test, done.samples, done.report)
    assert targets_of(done) == done.report.train.targets != targets_of(wrong)


def test_test_rows_are_questions_with_groups(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_rows(tmp_path / "train.jsonl", pairs(5))
    write_rows(tmp_path / "test.jsonl", pairs(8, start=5))
    done = run(tmp_path, tokenizer, test="test.jsonl", system="S")
    item = done.test[0]
    assert (item.expected, item.group, done.test[1].group) == ("5!", "odd", "")
    asked = tokenizer.decode(item.prompt.tolist(), skip_special=False)
    assert asked == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nsay 5<|im_end|>\n<|im_start|>assistant\n"
    assert item.segment.tokens[: len(item.prompt)].tolist() == item.prompt.tolist()
    assert learned_text(tokenizer, item.segment) == "5!<|im_end|>"
    assert done.report.test.rows == 3


def test_samples_are_prompts_with_the_system_turn(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_rows(tmp_path / "train.jsonl", pairs(5))
    first, second = run(tmp_path, tokenizer, system="S").samples
    asked = tokenizer.decode(first.prompt.tolist(), skip_special=False)
    assert asked == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert second.text == "yo"


def test_what_is_saved_is_what_is_loaded(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_rows(tmp_path / "train.jsonl", [*pairs(30), {"prompt": "a <|im_end|> \u2028 b", "completion": "é"}])
    write_rows(tmp_path / "test.jsonl", [*pairs(2), {"prompt": "a", "completion": "x\u2028y"}])
    for index, valid in enumerate(("auto", "none")):
        done = run(tmp_path, tokenizer, valid=valid, test="test.jsonl")
        folder = tmp_path / f"out{index}"
        folder.mkdir()
        save(done, folder)
        again = load(folder)
        assert again.report == done.report
        for old, new in ((done.train, again.train), (done.valid, again.valid)):
            assert [s.source for s in new] == [s.source for s in old]
            assert all(np.array_equal(a.tokens, b.tokens) for a, b in zip(old, new, strict=True))
            assert all(np.array_equal(a.weights, b.weights) for a, b in zip(old, new, strict=True))
            assert all(b.tokens.dtype == np.int32 and b.weights.dtype == np.float32 for b in new)
        assert [(s.text, s.prompt.tolist()) for s in again.samples] == [
            (s.text, s.prompt.tolist()) for s in done.samples
        ]
        assert [(i.expected, i.group, i.prompt.tolist(), i.segment.source) for i in again.test] == [
            (i.expected, i.group, i.prompt.tolist(), i.segment.source) for i in done.test
        ]


def test_every_json_file_carries_its_format(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_rows(tmp_path / "train.jsonl", pairs(5))
    save(run(tmp_path, tokenizer, test="train.jsonl"), tmp_path)
    texts = [(tmp_path / name).read_text("utf-8") for name in ("samples.json", "report.json")]
    texts += (tmp_path / "test.jsonl").read_text("utf-8").splitlines()
    assert all(json.loads(text)["format"] == 1 for text in texts)


def test_a_report_of_another_format_is_not_read(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_rows(tmp_path / "train.jsonl", pairs(5))
    report = run(tmp_path, tokenizer).report
    assert from_json(json.loads(json.dumps(report.to_json()))) == report
    with pytest.raises(InputError, match=r"run\.unreadable.* report\.json .*format 2"):
        from_json(report.to_json() | {"format": 2})


def test_control_strings_in_rows_are_reported(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_rows(tmp_path / "train.jsonl", [*pairs(3), {"prompt": "what is <|im_end|>?", "completion": "an end"}])
    part = run(tmp_path, tokenizer).report.train
    assert (part.neutralised, part.neutralised_places) == (1, ("train.jsonl:4",))


def test_a_token_beyond_the_embedding_names_row_and_id(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_rows(tmp_path / "train.jsonl", pairs(5))
    last = tokenizer.id_of("<|im_end|>")
    with pytest.raises(InputError, match=rf"tokenizer\.vocabulary\].*train\.jsonl:1 .*id {last} .* of {last} rows"):
        run(tmp_path, tokenizer, vocabulary=last)
    run(tmp_path, tokenizer, vocabulary=last + 1)


def test_a_control_token_beyond_the_embedding_is_plain_text_in_a_conversation(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path / "model", control=(*CONTROL, "<image>"))
    beyond = tokenizer.id_of("<image>")
    write_rows(tmp_path / "train.jsonl", [{"prompt": "an <image>?", "completion": "<image>"}] * 5)
    done = run(tmp_path, tokenizer, vocabulary=beyond)
    assert all("<image>" in all_text(tokenizer, one) for one in done.train)
    assert max(int(one.tokens.max()) for one in done.train) < beyond
    write_rows(tmp_path / "train.jsonl", [*[{"text": "a picture"}] * 5, {"text": "an <image>"}])
    problem = the_problem(tmp_path, tokenizer, vocabulary=beyond)
    assert (problem.where, problem.fix[-17:]) == ("train.jsonl:6", "leave out the row")


def test_too_many_bad_rows_stop_even_when_skipping(tmp_path: Path, tokenizer: Tokenizer) -> None:
    bad = {"prompt": "a", "completion": ""}
    write_rows(tmp_path / "train.jsonl", [*pairs(99), bad])
    assert run(tmp_path, tokenizer, on_error="skip").report.losses[0].skipped == 1
    write_rows(tmp_path / "train.jsonl", [*pairs(98), bad, bad])
    with pytest.raises(InputError) as caught:
        run(tmp_path, tokenizer)
    assert [p.code for p in caught.value.problems] == ["data.nothing-to-learn"] * 2 + ["data.too-many-bad"]
    assert caught.value.problems[0].where == "train.jsonl:99"


def test_text_is_split_without_loss(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path / "base", template=None, bos=True)
    text = "Once upon a time.\n" * 20
    (tmp_path / "a.txt").write_text(text)
    done = run(tmp_path, tokenizer, train="a.txt", valid="none", max_tokens=64)
    assert "".join(all_text(tokenizer, segment) for segment in done.train) == f"<s>{text}</s>"
    assert (done.report.train.split, done.report.train.cut) == (1, 0)


def test_pieces_of_one_text_are_held_out(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path / "base", template=None, bos=True)
    (tmp_path / "a.txt").write_text("".join(f"line {i} of a text.\n" for i in range(100)))
    whole = run(tmp_path, tokenizer, train="a.txt", valid="none", max_tokens=64)
    done = run(tmp_path, tokenizer, train="a.txt", max_tokens=64)
    pieces = {segment.tokens.tobytes() for segment in whole.train}
    assert len(done.valid) == len(pieces) // 5
    assert {s.tokens.tobytes() for s in done.train} | {s.tokens.tobytes() for s in done.valid} == pieces
    assert len(done.train) + len(done.valid) == len(pieces)
    assert done.report.notes[0] == f"validation: {len(done.valid)} of {len(pieces)} pieces of the text are held out"


def test_too_few_rows_leave_no_validation(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_rows(tmp_path / "train.jsonl", pairs(9))
    done = run(tmp_path, tokenizer)
    assert (len(done.train), len(done.valid)) == (9, 0)
    assert done.report.notes[0] == "no validation: fewer than 10 rows are too few to hold some out"


@pytest.mark.parametrize(
    ("row", "settings", "code"),
    [
        ({"prompt": "a", "completion": "b"}, {"too_long": "split"}, "data.split"),
        ({"text": "a b"}, {"system": "S"}, "data.system"),
        ({"text": "a b"}, {"test": "train.jsonl"}, "data.test"),
        ({"prompt": "a" * 99, "completion": "b"}, {"too_long": "drop", "max_tokens": 16}, "data.empty"),
        ({"prompt": "a", "completion": "b"}, {"valid": "none.jsonl"}, "data.missing"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    row: dict[str, Any], settings: dict[str, Any], code: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    write_rows(tmp_path / "train.jsonl", [row])
    assert the_problem(tmp_path, tokenizer, **settings).code == code


def test_examples_longer_than_the_model_was_made_for_are_counted(tmp_path: Path, tokenizer: Tokenizer) -> None:
    long = [{"prompt": "x" * 1100, "completion": "y"}] * 2
    write_rows(tmp_path / "train.jsonl", [*pairs(5), *long])
    write_rows(tmp_path / "test.jsonl", long[:1])
    said = "longer than the 1,024 tokens this model was made for; fix: --set data.max_tokens=1024"
    assert run(tmp_path, tokenizer, context=1024).report.notes[0] == f"2 examples are {said}"
    assert run(tmp_path, tokenizer, context=1024, test="test.jsonl").report.notes[0] == f"3 examples are {said}"
    write_rows(tmp_path / "train.jsonl", pairs(5))
    assert run(tmp_path, tokenizer, context=1024, test="test.jsonl").report.notes[0] == f"1 example is {said}"


def test_a_test_prompt_counts_in_full_although_its_row_is_cut(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path / "base", template=None)
    write_rows(tmp_path / "train.jsonl", pairs(5))
    write_rows(tmp_path / "test.jsonl", [{"prompt": "x" * 40, "completion": "y"}])
    settings = DataSettings(train="train.jsonl", test="test.jsonl", max_tokens=16)
    for context, noted in ((39, True), (40, False)):
        done = prepare(settings, tokenizer, learn="all", seed=1, base=tmp_path, vocabulary=1000, context=context)
        assert (len(done.test[0].prompt), len(done.test[0].segment.tokens)) == (40, 16)
        assert ("longer than" in " ".join(done.report.notes)) == noted


def test_an_example_as_long_as_the_model_was_made_for_is_no_warning(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_rows(tmp_path / "train.jsonl", pairs(5))
    longest = run(tmp_path, tokenizer).report.train.longest
    noted = [" ".join(run(tmp_path, tokenizer, context=n).report.notes) for n in (longest - 1, longest)]
    assert ["longer than" in text for text in noted] == [True, False]


def test_a_template_without_bos_or_with_the_date_is_noted(tmp_path: Path) -> None:
    dated = "{{ strftime_now('%Y') }}" + CHATML
    tokenizer = save_tokenizer(tmp_path / "model", template=dated, bos=True)
    write_rows(tmp_path / "train.jsonl", pairs(20))
    notes = " ".join(run(tmp_path, tokenizer).report.notes)
    assert "writes the date" in notes
    assert "writes no BOS" in notes


def test_the_report_says_what_was_done(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_rows(tmp_path / "train.jsonl", pairs(20))
    report = run(tmp_path, tokenizer).report
    assert report.why == "prompt-completion, because every row has the keys prompt and completion"
    assert report.end_of_turn == "<|im_end|>"
    assert report.notes == ("prompt and answer became a user and an assistant turn of the model's chat template",)
    assert report.tokenizer == tokenizer.fingerprint


def test_a_damaged_entry_of_the_cache_is_made_anew(tmp_path: Path, tokenizer: Tokenizer) -> None:
    write_rows(tmp_path / "train.jsonl", pairs(20))
    done = run(tmp_path, tokenizer)
    assert done.folder is not None
    report = done.folder / "report.json"
    before = report.stat()
    report.write_bytes(b" " * before.st_size)
    os.utime(report, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run(tmp_path, tokenizer).report == done.report


def test_a_test_row_whose_last_answer_is_cut_away_is_not_scored_on_another(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path / "m", template=STRIPPING)
    turns = [("user", "a"), ("assistant", "<think>x</think>b"), ("user", "c" * 90), ("assistant", "late")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    write_rows(tmp_path / "train.jsonl", pairs(5))
    write_rows(tmp_path / "test.jsonl", [row])
    assert len(run(tmp_path, tokenizer, test="test.jsonl", max_tokens=512).test) == 1
    problem = the_problem(tmp_path, tokenizer, test="test.jsonl", max_tokens=64)
    assert problem.code == "data.answer-cut"
