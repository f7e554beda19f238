"""ggml's quantiser is used where it proves itself, and nowhere else."""

import ctypes.util
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from localtune.batch import Floats
from localtune.export import kernel as kernels
from localtune.export import kquants
from localtune.export.encodings import ENCODINGS
from localtune.export.kernel import EXACT_CODES, Kernel, kernel, library, loaded, passes, trusted
from localtune.export.pretokenizers import QWEN2
from tests.unit.export.oracle import quantised_by_llama_cpp, tensors_of
from tests.unit.export.tiny import byte_level, exported, llama, save_tokenizer, split_by

QUANTISED = tuple(name for name in ENCODINGS if name.startswith("Q"))


@pytest.fixture
def installed() -> Kernel:
    """The kernel of this machine's xllamacpp."""
    pytest.importorskip("xllamacpp")
    found = kernel()
    if found is None:
        pytest.skip("this system's library does not export ggml's functions")
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the macOS and Windows libraries were not looked at")
def test_the_library_of_linux_is_found_and_passes() -> None:
    pytest.importorskip("xllamacpp")
    path = library()
    assert path is not None
    assert trusted(path) is not None


@pytest.mark.parametrize("kind", [GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q5_0, GGMLQuantizationType.Q5_1])
def test_simple_types_are_byte_for_byte_those_of_gguf(installed: Kernel, kind: GGMLQuantizationType) -> None:
    rows = np.random.default_rng(1).standard_normal((64, 1024)).astype(np.float32)
    assert np.array_equal(installed(rows, kind), kquants.quantise(rows, kind))


@pytest.mark.parametrize("shape", [(256, 512), (96, 160)])
def test_files_are_byte_for_byte_those_of_llama_quantize(
    tmp_path: Path, installed: Kernel, shape: tuple[int, int]
) -> None:
    hidden, wide = shape
    save_tokenizer(tmp_path / "m", byte_level(split_by(QWEN2), size=330))
    llama(tmp_path / "m", 330, eos=2, hidden_size=hidden, intermediate_size=wide, num_hidden_layers=9)
    source = exported(tmp_path / "m", "F32")
    for encoding in QUANTISED:
        theirs = quantised_by_llama_cpp(source, tmp_path / "theirs.gguf", encoding)
        ours = tensors_of(exported(tmp_path / "m", encoding))
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if ours[name][0] != theirs[name][0]] == []
        assert [name for name in ours if not np.array_equal(ours[name][1], theirs[name][1])] == []


def test_numpy_itself_passes_the_trial() -> None:
    assert passes(kquants.quantise)


@pytest.mark.parametrize("kind", EXACT_CODES)
def test_one_wrong_byte_in_one_type_fails_the_trial(kind: GGMLQuantizationType) -> None:
    def wrong(rows: Floats, asked: GGMLQuantizationType) -> kquants.Bytes:
        found = kquants.quantise(rows, asked).copy()
        found[0, 0] ^= asked == kind
        return found

    assert not passes(wrong)


@pytest.mark.parametrize("kind", EXACT_CODES)
def test_exact_blocks_alone_are_not_enough(kind: GGMLQuantizationType) -> None:
    def coarse(rows: Floats, asked: GGMLQuantizationType) -> kquants.Bytes:
        whole = np.array_equal(rows, np.rint(rows))
        return kquants.quantise(rows if whole or asked != kind else rows * np.float32(1.03), asked)

    assert not passes(coarse)


def test_a_library_without_the_function_is_left_alone() -> None:
    assert trusted(Path(ctypes.util.find_library("m") or "none")) is None


@pytest.mark.parametrize("content", [b"", b"no library at all"])
def test_a_damaged_library_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "xllamacpp.so"
    path.write_bytes(content)
    assert trusted(path) is None


@pytest.mark.usefixtures("installed")
def test_a_trial_that_does_not_end_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_SECONDS", 0.001)
    assert trusted(library()) is None


@pytest.mark.usefixtures("installed")
def test_what_lies_in_the_folder_one_is_in_plays_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit(1)", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert trusted(library()) is not None


def test_without_a_library_there_is_no_kernel() -> None:
    assert trusted(None) is None


def test_rows_that_no_block_divides_never_reach_the_library(installed: Kernel) -> None:
    path = library()
    assert path is not None
    with pytest.raises(ValueError, match="do not divide rows of 96"):
        loaded(path)(np.zeros((1, 96), np.float32), GGMLQuantizationType.Q4_K)
