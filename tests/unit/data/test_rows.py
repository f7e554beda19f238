import pytest

from localtune.data.rows import SKIP, BadRows, Place
from localtune.errors import InputError, Problem


def problem(line: int, fix: str = "mend it") -> Problem:
    return Problem("data.json", "not JSON", f"a.jsonl:{line}", "oops", fix)


def test_a_place_has_a_number_of_its_own_in_every_file() -> None:
    places = [Place("a", 1), Place("a", 2), Place("b", 1, 1), Place("b", 2**39, 1), Place("c", 1, 2)]
    assert len({place.id for place in places}) == 5
    assert (places[1].id, str(places[1])) == (2, "a:2")


def test_the_first_bad_row_stops_and_says_how_to_pass_over_it() -> None:
    with pytest.raises(InputError) as caught:
        BadRows("stop").add(problem(3))
    assert caught.value.problems[0].fix == f"mend it, or pass over it:  {SKIP}"
    with pytest.raises(InputError) as caught:
        BadRows("stop").add(problem(3, SKIP))
    assert caught.value.problems[0].fix == SKIP


def test_skipped_rows_are_counted_up_to_one_percent() -> None:
    bad = BadRows("skip")
    bad.add(problem(7))
    bad.check(100, "a.jsonl")
    with pytest.raises(InputError, match=r"1 of 99 rows"):
        bad.check(99, "a.jsonl")


def test_too_many_bad_rows_give_the_first_five_in_full_and_the_count() -> None:
    bad = BadRows("skip")
    for line in range(1, 9):
        bad.add(problem(line, SKIP if line == 1 else "mend it"))
    with pytest.raises(InputError) as caught:
        bad.check(100, "a.jsonl")
    *rows, summary = caught.value.problems
    assert [row.where for row in rows] == [f"a.jsonl:{line}" for line in range(1, 6)]
    assert [row.evidence for row in rows] == ["oops"] * 5
    assert rows[0].fix == "mend or remove this row"
    assert (summary.code, summary.where) == ("data.too-many-bad", "a.jsonl")
    assert summary.what == "8 of 100 rows cannot be used (8.0 %, at most 1 % are skipped)"
