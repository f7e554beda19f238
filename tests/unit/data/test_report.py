"""A report counts what became of the rows and names them by file and line."""

import json
from dataclasses import replace
from typing import Any

import numpy as np

from localtune.batch import Segment
from localtune.data.fit import Fitted, TooLong, fit
from localtune.data.parts import Tokenised
from localtune.data.report import Losses, Part, Report, RowFigures, from_json, part, place
from localtune.data.rows import Place

FILES = ("a.jsonl", "b.jsonl")


def row(number: int, line: int, length: int, learned: int, *, too_long: TooLong = "cut", held: int = 0) -> Fitted:
    where = Place(FILES[number], line, number)
    weights = np.zeros(length, np.float32)
    weights[length - learned :] = 1
    done = fit(Tokenised(where, (Segment(np.ones(length, np.int32), weights, where.id),), held), 10, too_long)
    assert isinstance(done, Fitted)
    return done


ROWS = [row(0, 3, 4, 2), row(0, 5, 15, 8, held=2), row(1, 2, 10, 3), row(1, 9, 25, 24, too_long="split", held=1)]


def of_rows() -> Part:
    return part("data", ROWS)


def test_the_figures_are_those_of_the_rows() -> None:
    done = of_rows()
    assert (done.rows, done.segments, done.tokens, done.targets) == (4, 6, 4 + 10 + 10 + 25, 2 + 3 + 3 + 22)
    assert (done.cut, done.cut_tokens, done.cut_targets, done.cut_answers) == (1, 5, 5, 1)
    assert (done.split, done.split_firsts) == (1, 2)
    assert (done.longest, done.longest_place) == (10, "a.jsonl:5")
    assert (done.neutralised, done.neutralised_places) == (2, ("a.jsonl:5", "b.jsonl:9"))


def test_a_cut_behind_the_answer_loses_none_of_it() -> None:
    weights = np.array([0, 1, *[0] * 13], np.float32)
    where = Place("a.jsonl", 1)
    done = fit(Tokenised(where, (Segment(np.ones(15, np.int32), weights, 1),)), 10, "cut")
    assert isinstance(done, Fitted)
    assert (part("a.jsonl", [done]).cut, part("a.jsonl", [done]).cut_answers) == (1, 0)


def test_a_part_of_the_rows_has_the_figures_of_these() -> None:
    figures = RowFigures()
    for one in ROWS:
        figures.add(one)
    chosen = np.array([0, 2], np.int64)
    segments = [segment for i in chosen for segment in ROWS[i].row.segments]
    assert figures.part("data", segments, FILES, chosen) == part("data", [ROWS[0], ROWS[2]])
    assert len(figures) == 4


def test_no_rows_are_a_part_without_figures() -> None:
    empty = part("", [])
    assert (empty.rows, empty.tokens, empty.longest, empty.longest_place) == (0, 0, 0, "")


def report() -> Report:
    losses = (Losses("data", 1, ("a.jsonl:1  x",), 1, ("b.jsonl:7",), answers_cut=1),)
    return Report("text", "because", "", "f", of_rows(), of_rows(), part("", []), losses, ("note",), FILES)


def test_a_source_is_named_by_file_and_line() -> None:
    assert place(report(), Place("b.jsonl", 12, 1).id) == "b.jsonl:12"
    assert place(report(), Place("a.jsonl", 12, 0).id) == "a.jsonl:12"
    assert place(replace(report(), files=()), 12) == "data:12"
    assert place(report(), Place("?", 12, 7).id) == "file 8:12"


def test_a_report_is_read_as_it_was_written() -> None:
    assert from_json(json.loads(json.dumps(report().to_json()))) == report()


def test_reports_of_one_file_with_lines_alone_are_still_read() -> None:
    old: dict[str, Any] = json.loads(json.dumps(report().to_json()))
    del old["files"]
    for name in ("train", "valid", "test"):
        entry = old[name]
        for figure in ("cut_tokens", "cut_targets", "cut_answers", "split", "split_firsts", "longest_place"):
            del entry[figure]
        entry["longest_line"] = 5 if entry["rows"] else 0
        entry["neutralised_lines"] = [5, 9] if entry.pop("neutralised_places") else []
    (loss,) = old["losses"]
    del loss["answers_cut"], loss["dropped_first"]
    loss["dropped_lines"] = [7]
    read = from_json(old)
    assert (read.train.longest_place, read.test.longest_place) == ("data:5", "")
    assert read.train.neutralised_places == ("data:5", "data:9")
    assert read.losses[0].dropped_first == ("data:7",)
    assert (read.train.cut_tokens, read.files, place(read, 4)) == (0, (), "data:4")
