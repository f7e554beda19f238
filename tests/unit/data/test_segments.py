"""Segments in a file are those that were written, however many they are, and are read only when asked for."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from localtune.batch import Segment
from localtune.data import segments as module
from localtune.data.segments import Segments, SegmentWriter, lengths, targets, write

WEIGHTS = st.lists(st.sampled_from([0.0, 1.0, 0.5]), max_size=12)


def made(rows: list[list[float]]) -> list[Segment]:
    return [
        Segment(np.arange(len(row), dtype=np.int32) + 7 * i, np.array(row, np.float32), i << 40 | 3)
        for i, row in enumerate(rows)
    ]


def plain(segments: list[Segment] | Segments) -> list[tuple[list[int], list[float], int]]:
    return [(s.tokens.tolist(), s.weights.tolist(), s.source) for s in segments]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(made([[0, 1, 1], [0], [0, 0.5]]), tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


@given(st.lists(WEIGHTS, max_size=12), st.integers(1, 9))
@settings(max_examples=60)
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[float]], block: int
) -> None:
    path, given_ = tmp_path_factory.mktemp("s") / "x.safetensors", made(rows)
    write(iter(given_), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        found = Segments(path)
        assert plain(found) == plain(given_)
        assert found.lengths.tolist() == lengths(given_).tolist() == [len(row) for row in rows]
        assert found.targets.tolist() == targets(given_).tolist() == [np.count_nonzero(row) for row in rows]
        assert found.tokens_total == sum(map(len, rows))


def test_safetensors_reads_the_file_and_writes_one_that_is_read(file: Path) -> None:
    arrays = load_file(file)
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "tokens": "int32", "weights": "float32", "offsets": "int64", "sources": "int64",
    }  # fmt: skip
    before = plain(Segments(file))
    save_file(arrays, file)
    assert plain(Segments(file)) == before


def test_indices_and_slices_are_those_of_a_sequence(file: Path) -> None:
    found = Segments(file)
    assert found[-1].tokens.tolist() == found[2].tokens.tolist() == [14, 15]
    assert [s.source for s in found[::-2]] == [2 << 40 | 3, 3]
    assert found[1].source == 1 << 40 | 3
    with pytest.raises(IndexError):
        found[3]


def test_segments_cannot_be_written_into(file: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        Segments(file)[0].tokens[0] = 5


GROWTH = """
import sys
from pathlib import Path
from safetensors.numpy import load_file
from localtune.data.segments import Segments
def anonymous():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024
before = anonymous()
total = Segments(Path(sys.argv[1])).targets.sum()
mapped = anonymous() - before
arrays = load_file(sys.argv[1])
print(total, mapped, anonymous() - before - mapped)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell mapped memory apart")
def test_tokens_are_mapped_and_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with SegmentWriter(path) as writer:
        for _ in range(40):
            writer.append(Segment(np.ones(2**18, np.int32), np.ones(2**18, np.float32), 1))
    said = subprocess.run([sys.executable, "-c", GROWTH, str(path)], capture_output=True, text=True, check=True).stdout
    targets, mapped, loaded = map(int, said.split())
    assert targets == 40 * 2**18
    assert mapped < 60e6
    assert loaded > 80e6  # the control: what loading takes


def test_a_write_that_ends_with_an_error_leaves_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[Segment]:
        yield from made([[0, 1]])
        raise RuntimeError("the disk went away")

    with pytest.raises(RuntimeError, match="went away"):
        write(rows(), tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_there_stays_until_the_new_one_is_whole(file: Path) -> None:
    before = file.read_bytes()
    with SegmentWriter(file) as writer:
        writer.append(made([[0, 1]])[0])
        assert file.read_bytes() == before
    assert len(Segments(file)) == 1
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("cut", [0, 5, 8, 60, 250, -1])
def test_a_torn_file_is_no_segments(file: Path, cut: int) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:cut])
    with pytest.raises(ValueError):  # noqa: PT011
        Segments(file)


def test_bytes_behind_the_end_are_noticed(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="size"):
        Segments(file)


@pytest.mark.parametrize("offsets", [[0, 3, 2, 6], [1, 3, 4, 6], [0, 3, 4, 5], [0, 3, 4, 7], [0, 6], [0, -1, 4, 6]])
def test_offsets_that_do_not_fit_are_refused(file: Path, offsets: list[int]) -> None:
    save_file(load_file(file) | {"offsets": np.array(offsets, np.int64)}, file)
    with pytest.raises(ValueError, match="offsets"):
        Segments(file)


@pytest.mark.parametrize(
    "entry", [{"shape": [-1], "data_offsets": [8, 4]}, {"data_offsets": [0, 2**60], "shape": [2**57]}, {"shape": []}]
)
def test_a_header_that_lies_is_refused(file: Path, entry: dict[str, object]) -> None:
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["offsets"] |= entry
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    with pytest.raises(ValueError):  # noqa: PT011
        Segments(file)
