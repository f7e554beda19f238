"""Headers of GGUF files: what they say, and one clear line for what is none."""

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localtune.errors import InputError
from localtune.export.gguf_file import set_string
from localtune.export.read import Listed, read_gguf
from tests.material import material


def written(path: Path, *, tensors: int = 2, text: str = "a b") -> Path:
    writer = GGUFWriter(path, "llama")
    writer.add_string("some.text", text)
    writer.add_uint32("some.count", 7)
    writer.add_array("some.words", ["x", "yy"])
    writer.add_array("tokenizer.ggml.tokens", [f"token{i}" for i in range(600)])
    writer.add_array("many.numbers", list(range(600)))
    for i in range(tensors):
        writer.add_tensor(f"t{i}", np.full((3, 32 + i), i, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def code(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_gguf(path)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0].code


def test_the_header_is_read(tmp_path: Path) -> None:
    summary = read_gguf(written(tmp_path / "a.gguf"))
    assert summary.architecture == "llama"
    assert summary.metadata["some.count"] == 7
    assert summary.metadata["some.words"] == ("x", "yy")
    assert summary.metadata["tokenizer.ggml.tokens"] == Listed(600)
    assert [(t.name, t.shape, t.kind, t.size) for t in summary.tensors] == [
        ("t0", (3, 32), "F32", 384),
        ("t1", (3, 33), "F32", 396),
    ]


@pytest.mark.material
def test_it_agrees_with_ggufs_own_reader() -> None:
    for path in sorted((material("model-stories260K") / "reference").glob("*.gguf")):
        reader, summary = GGUFReader(path), read_gguf(path)
        ours = {t.name: (t.shape[::-1], t.size, t.offset) for t in summary.tensors}
        theirs = {t.name: (tuple(map(int, t.shape)), t.n_bytes, t.data_offset) for t in reader.tensors}
        assert ours == theirs
        for key, value in summary.metadata.items():
            other = reader.fields[key].contents()
            assert value == (Listed(len(other)) if isinstance(value, Listed) else other)


def test_a_string_is_replaced_in_place(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gguf", text=" " * 20)
    before = path.read_bytes()
    set_string(path, "some.text", '{"kl": 1e-6, "ü":0}')
    set_string(path, "some.text", "ä")
    assert read_gguf(path).metadata["some.text"] == "ä" + " " * 18
    assert path.stat().st_size == len(before)
    assert GGUFReader(path).fields["some.count"].contents() == 7
    with pytest.raises(ValueError, match="room for 20 bytes, not for 21"):
        set_string(path, "some.text", "x" * 21)
    with pytest.raises(KeyError):
        set_string(path, "some.count", "x")


def test_a_file_of_another_kind_is_foreign(tmp_path: Path) -> None:
    for content in (b"", b"GG", b"PK\x03\x04" + bytes(100), bytes(8) + b"{}"):
        path = tmp_path / "a.gguf"
        path.write_bytes(content)
        assert code(path) == "gguf.foreign"


def test_other_versions_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gguf")
    content = bytearray(path.read_bytes())
    for number in (1, 4, 3 << 24):
        content[4:8] = struct.pack("<I", number)
        path.write_bytes(content)
        assert code(path) == "gguf.version"


def test_every_cut_is_found(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gguf")
    content = path.read_bytes()
    for length in (4, 8, 20, 24, 60, len(content) // 2, len(content) - 400, len(content) - 64):
        path.write_bytes(content[:length])
        assert code(path) == "gguf.truncated"


def test_a_vocabulary_alone_holds_no_tensors(tmp_path: Path) -> None:
    assert code(written(tmp_path / "a.gguf", tensors=0)) == "gguf.no-tensors"


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert code(tmp_path / "none.gguf") == "gguf.unreadable"
    assert code(tmp_path) == "gguf.unreadable"


def test_huge_counts_cost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    key = struct.pack("<Q", 1) + b"k"
    for value in (
        struct.pack("<IQ", 8, 2**63),
        struct.pack("<IIQ", 9, 8, 2**62),
        struct.pack("<IIQ", 9, 4, 2**62),
        struct.pack("<IIQIQIQIQ", 9, 9, 1, 9, 1, 9, 1, 9, 2**60),
        struct.pack("<I", 99),
    ):
        path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + key + value)
        assert code(path) in ("gguf.truncated", "gguf.damaged")
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**40, 0))
    assert code(path) == "gguf.damaged"


SAMPLE: list[bytes] = []


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_hostile_bytes_are_refused_or_read(tmp_path: Path, data: st.DataObject) -> None:
    if not SAMPLE:
        SAMPLE.append(written(tmp_path / "sample.gguf").read_bytes())
    content = bytearray(SAMPLE[0])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, min(len(content), 400) - 1) | st.integers(4, len(content) - 1))
        new = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(new)] = new
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    with suppress(InputError):
        read_gguf(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tail=st.binary(max_size=200))
def test_random_bytes_after_the_magic_are_refused(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<I", 3) + tail)
    with pytest.raises(InputError):
        read_gguf(path)
