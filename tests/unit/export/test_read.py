"""Headers of GGUF files: what they say, and one clear line for what is none."""

import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localtune.errors import InputError
from localtune.export import read
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


def text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: bytes, *, kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack("<IQIQ", 1, 32, kind, offset)


def made(path: Path, *parts: bytes, keys: int = 0, tensors: int = 0, size: int = 0) -> Path:
    """A file of these parts, with a hole behind them up to `size` bytes."""
    header = b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + b"".join(parts)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(max(size, len(header) + 4096))
    return path


def said(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_gguf(path)
    return f"{caught.value.problems[0].code} {caught.value.problems[0].what}"


def test_a_file_made_here_is_read(tmp_path: Path) -> None:
    path = made(tmp_path / "a", pair(b"k", 4, bytes(4)), tensor(b"a"), tensor(b"b", offset=128), keys=1, tensors=2)
    assert [one.name for one in read_gguf(path).tensors] == ["a", "b"]


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    twice = pair(b"k", 4, bytes(4)) * 2
    assert "gguf.damaged has the key 'k' twice" in said(made(tmp_path / "a", twice, tensor(b"a"), keys=2, tensors=1))


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "a", tensor(b"a"), tensor(b"a", offset=128), tensors=2)
    assert "two tensors of one name" in said(path)


def test_a_tensor_between_two_places_is_refused(tmp_path: Path) -> None:
    assert "multiple of 32" in said(made(tmp_path / "a", tensor(b"a", offset=16), tensors=1))


def test_an_unknown_number_format_is_newer_than_this_program(tmp_path: Path) -> None:
    found = said(made(tmp_path / "a", tensor(b"a", kind=999), tensors=1))
    assert found.startswith("gguf.newer")
    assert "number format 999" in found


def test_lists_in_lists_are_refused(tmp_path: Path) -> None:
    for length in (1, 1000):
        value = struct.pack("<IQ", 9, length) + struct.pack("<IQB", 0, 1, 7) * length
        assert "list of lists" in said(made(tmp_path / "a", pair(b"k", 9, value), tensor(b"a"), keys=1, tensors=1))


LARGE = 8 << 30
COST = """
import resource, sys, time
from pathlib import Path
from localtune.errors import InputError
from localtune.export.read import read_gguf
import gguf

before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
resource.setrlimit(resource.RLIMIT_DATA, (600 << 20, 600 << 20))
try:
    read_gguf(Path(sys.argv[1]))
except InputError as error:
    print(error.problems[0].what)
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
print((after.ru_maxrss - before.ru_maxrss) / 1024)
"""


def words(count: int, size: int) -> bytes:
    """A list of `count` strings, of which the last begins a hole of `size` bytes."""
    return struct.pack("<IQ", 8, count) + bytes(8 * (min(count, 8) - 1)) + struct.pack("<Q", size)


@pytest.mark.skipif(sys.platform != "linux", reason="holes in files, and the units of their cost, are Linux's")
@pytest.mark.parametrize(
    ("refusal", "parts", "keys", "tensors"),
    [
        ("has a string of 7,516,192,768 bytes", [pair(b"k", 8, struct.pack("<Q", 7 << 30))], 1, 1),
        ("has a string of 17,825,792 bytes", [pair(b"k", 8, struct.pack("<Q", 17 << 20))], 1, 1),
        ("'' has 0 dimensions", [pair(b"k", 9, words(2**22, 0))], 1, 1),
        ("'' has 0 dimensions", [pair(b"k", 9, words(2**22, 16 << 20))], 1, 1),
        ("has a list of 4,194,305 elements", [pair(b"k", 9, struct.pack("<IQ", 0, 2**22 + 1))], 1, 1),
        (
            "values in its header",
            [pair(b"%d" % i, 9, words(2**20, 0)) + bytes(8 * (2**20 - 8)) for i in range(6)],
            6,
            1,
        ),
        (
            "MiB of text",
            [pair(b"k", 9, struct.pack("<IQ", 8, 200)) + (struct.pack("<Q", 1 << 20) + bytes(1 << 20)) * 40],
            *(1, 1),
        ),
        ("has the key '' twice", [], 2**16, 1),
        ("'' has 0 dimensions", [], 0, 2**16),
        ("states 1 tensors and 65,537 keys", [], 2**16 + 1, 1),
    ],
)
def test_hostile_files_cost_little(tmp_path: Path, refusal: str, parts: list[bytes], keys: int, tensors: int) -> None:
    path = made(tmp_path / "a.gguf", *parts, keys=keys, tensors=tensors, size=LARGE)
    child = subprocess.run([sys.executable, "-c", COST, str(path)], capture_output=True, text=True, check=True)
    sentence, seconds, mebibytes = child.stdout.splitlines()
    assert refusal in sentence
    assert float(seconds) < 15
    assert float(mebibytes) < 300  # of which the file's own pages are at most a header


def test_a_header_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.gguf")
    assert read_gguf(path).tensors
    monkeypatch.setattr(read, "HEADER", 1000)
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
