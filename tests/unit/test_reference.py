"""What a model says, written down and read again."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from localtune.backend import Sampling
from localtune.batch import Segment
from localtune.distribution import from_logits
from localtune.errors import InputError
from localtune.places import LONGEST, POSITIONS, ROWS, places_in
from localtune.reference import Prompt, Reference, ask, listen, read, write


def _segment(length: int, first_target: int = 1, seed: int = 0) -> Segment:
    tokens = np.random.default_rng(seed + length).integers(0, 50, length).astype(np.int32)
    weights = np.zeros(length, np.float32)
    weights[first_target:] = 1.0
    return Segment(tokens, weights, seed)


class _Echo:
    """A session that finds the token before each position likeliest."""

    def logits(self, tokens: Sequence[int], at: Sequence[int], *, adapter: bool = True) -> np.ndarray:
        found = np.zeros((len(at), 50), np.float32)
        for i, position in enumerate(at):
            found[i, tokens[position]] = 5.0 if adapter else 1.0
        return found

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, adapter: bool = True
    ) -> Iterator[tuple[int, int]]:
        for row, prompt in enumerate(prompts):
            yield row, prompt[-1]
            yield row, sampling.stop[0]


def test_positions_are_at_most_64_of_each_of_8_rows_and_never_the_last() -> None:
    places = places_in([_segment(n) for n in range(100, 120)], 1024)
    assert len(places.rows) == ROWS
    assert np.bincount(places.row).tolist() == [POSITIONS] * ROWS
    for row, at in zip(places.row, places.at, strict=True):
        assert 0 <= at < len(places.rows[row]) - 1


def test_a_short_row_is_compared_at_every_position() -> None:
    places = places_in([_segment(10)], 1024)
    assert places.at.tolist() == list(range(9))
    assert places.following.tolist() == places.rows[0][1:].tolist()


def test_rows_that_need_not_be_cut_come_first_and_the_longest_of_them() -> None:
    places = places_in([_segment(2000), *(_segment(n) for n in (30, 500, 40))], 1024)
    assert [len(row) for row in places.rows] == [500, 40, 30, LONGEST]


def test_no_row_is_longer_than_the_models_context() -> None:
    places = places_in([_segment(300), _segment(90)], 128)
    assert [len(row) for row in places.rows] == [90, 128]


def test_learned_positions_are_those_before_a_target() -> None:
    places = places_in([_segment(20, first_target=12)], 1024)
    assert places.learned.tolist() == [0] * 11 + [1] * 8


def test_rows_of_one_token_have_no_position() -> None:
    assert len(places_in([_segment(1)], 1024).row) == 0


def _reference() -> Reference:
    places = places_in([_segment(70), _segment(9)], 1024)
    prompts = (Prompt("hé", places.rows[0][:3]), Prompt("", places.rows[1][:2]))
    reference = Reference(places, prompts, (7, 9), "validation", {}, {}, {})
    for who, adapter in (("tuned", True), ("base", False)):
        said = listen(_Echo(), places, adapter=adapter)  # type: ignore[arg-type]
        reference = reference.also(who, said, "float32", ask(_Echo(), reference, adapter=adapter))  # type: ignore[arg-type]
    return reference.also("weights", said, "bfloat16")


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    reference = _reference()
    write(reference, tmp_path / "r.safetensors")
    again = read(tmp_path / "r.safetensors")
    assert again.stops == (7, 9)
    assert again.held_out == "validation"
    assert again.computed == {"tuned": "float32", "base": "float32", "weights": "bfloat16"}
    assert [prompt.text for prompt in again.prompts] == ["hé", ""]
    assert [prompt.tokens.tolist() for prompt in again.prompts] == [p.tokens.tolist() for p in reference.prompts]
    assert [row.tolist() for row in again.places.rows] == [row.tolist() for row in reference.places.rows]
    assert [ids.tolist() for ids in again.answers["tuned"]] == [ids.tolist() for ids in reference.answers["tuned"]]
    assert again.answers["weights"] == ()
    for who, said in reference.said.items():
        for name in ("ids", "logprobs", "following"):
            assert np.array_equal(getattr(said, name), getattr(again.said[who], name))


def test_a_thinned_reference_has_evenly_chosen_positions_of_everybody() -> None:
    reference = _reference()
    fewer = reference.thinned(9, 1)
    assert len(fewer.places.row) == 9
    assert set(fewer.places.row.tolist()) == {0, 1}
    assert (fewer.places.at[0], fewer.places.at[-1]) == (reference.places.at[0], reference.places.at[-1])
    assert len(fewer.prompts) == len(fewer.answers["tuned"]) == 1
    for i, (row, at) in enumerate(zip(fewer.places.row, fewer.places.at, strict=True)):
        (old,) = np.flatnonzero((reference.places.row == row) & (reference.places.at == at))
        assert np.array_equal(fewer.said["base"].logprobs[i], reference.said["base"].logprobs[old])
    assert reference.thinned(10_000, 10).places.at.tolist() == reference.places.at.tolist()


def test_what_is_heard_is_the_softmax_at_the_positions() -> None:
    places = places_in([_segment(9)], 1024)
    said = listen(_Echo(), places)  # type: ignore[arg-type]
    expected = from_logits(_Echo().logits(places.rows[0].tolist(), places.at.tolist()), places.following)
    assert np.array_equal(said.logprobs, expected.logprobs)
    assert said.ids[:, 0].tolist() == places.rows[0][:-1].tolist()


@pytest.mark.parametrize("content", [b"", b"{}", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_torn_or_foreign_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"r\.safetensors"):
        read(path)


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    write(_reference(), path)
    path.write_bytes(path.read_bytes().replace(b'"format":"1"', b'"format":"2"'))
    with pytest.raises(InputError, match="format '2' is not known"):
        read(path)
