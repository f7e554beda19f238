import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from localtune.data.reading import Source, find
from localtune.data.rows import BadRows
from localtune.errors import InputError


def line(text: str) -> bytes:
    return f'{{"text": "{text}"}}\n'.encode()


def shard(text: str) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"text": [text]}), out)
    return out.getvalue()


def write(path: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


def texts(source: Source | None) -> list[str]:
    assert source is not None
    return [row.value["text"] for row in source.rows(BadRows("stop"))]


def refused(names: str | list[str], base: Path) -> str:
    with pytest.raises(InputError) as caught:
        find(names, base)
    (problem,) = caught.value.problems
    assert problem.fix
    return f"{problem.code}: {problem.what}; {problem.fix}"


def test_a_folder_gives_its_parts_whatever_their_kinds_and_names(tmp_path: Path) -> None:
    files = {
        "d/train-00000-of-00002.parquet": shard("a"),
        "d/train-00001-of-00002.parquet": shard("b"),
        "d/dev.csv": b"text\nv\n",
        "d/test.jsonl.gz": gzip.compress(line("t"), mtime=0),
        "d/README.md": b"about",
        "d/more.jsonl": line("more"),
        "d/.hidden.jsonl": line("hidden"),
        "d/sub/inner.jsonl": line("inner"),
    }
    write(tmp_path, files)
    source = find("d", tmp_path)
    assert source.files == ("d/train-00000-of-00002.parquet", "d/train-00001-of-00002.parquet")
    assert (texts(source), texts(source.valid), texts(source.test)) == (["a", "b"], ["v"], ["t"])
    assert source.said() == ("d: passed over, no rows for training: .hidden.jsonl, README.md, more.jsonl, sub",)


@pytest.mark.parametrize("name", ["valid", "validation", "val", "dev", "eval", "VALID"])
def test_every_name_of_validation_rows_is_known(name: str, tmp_path: Path) -> None:
    write(tmp_path, {"training.jsonl": line("a"), f"{name}.jsonl": line("v")})
    source = find(".", tmp_path)
    assert (source.files, texts(source.valid), source.test) == (("training.jsonl",), ["v"], None)


def test_a_folder_without_such_names_gives_all_its_data_files_sorted(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"b.jsonl": line("b"), "a.txt": b"a", "c.csv": b"text\nc\n", "test.jsonl": line("t"), "LICENSE.md": b"x"},
    )
    source = find(str(tmp_path), tmp_path)
    assert (texts(source), source.valid, texts(source.test)) == (["a", "b", "c"], None, ["t"])


def test_a_folder_without_rows_says_where_there_are_some(tmp_path: Path) -> None:
    write(tmp_path, {"d/notes.docx": b"x", "d/data/train.parquet": shard("a"), "e/test.jsonl": line("t")})
    assert "name the folder in it: d/data" in refused("d", tmp_path)
    assert refused("e", tmp_path).startswith("data.no-train")
    (tmp_path / "f").mkdir()
    assert refused("f", tmp_path).startswith("data.folder")


def test_several_names_are_read_one_after_another_and_numbered(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"b.jsonl": line("b") * 2, "a.jsonl": line("a"), "d/train.jsonl": line("d"), "d/valid.jsonl": line("v")},
    )
    source = find(["b.jsonl", "a.jsonl", "d"], tmp_path, first=5)
    rows = list(source.rows(BadRows("stop")))
    assert [(row.place.number, str(row.place), row.value["text"]) for row in rows] == [
        (5, "b.jsonl:1", "b"), (5, "b.jsonl:2", "b"), (6, "a.jsonl:1", "a"), (7, "d/train.jsonl:1", "d"),
    ]  # fmt: skip
    assert [source.files[row.place.number - 5] for row in rows] == [row.place.file for row in rows]
    assert (source.name, texts(source.valid)) == ("b.jsonl, a.jsonl, d", ["v"])
    again = source.numbered(0)
    assert [row.place.number for row in again.rows(BadRows("stop"))] == [0, 0, 1, 2]


def test_a_file_named_twice_is_said(tmp_path: Path) -> None:
    write(tmp_path, {"a.jsonl": line("a")})
    source = find(["a.jsonl", "a.jsonl"], tmp_path)
    assert (texts(source), source.said()) == (["a", "a"], ("a.jsonl: named twice, read twice",))


def test_patterns_are_sorted_and_may_go_deep(tmp_path: Path) -> None:
    write(tmp_path, {"d/b.jsonl": line("b"), "d/a.jsonl": line("a"), "d/e/c.jsonl": line("c"), "d/x.bin": b"x"})
    assert texts(find("d/*.jsonl", tmp_path)) == ["a", "b"]
    assert texts(find("d/**/*.jsonl", tmp_path)) == ["a", "b", "c"]
    assert find("d/*", tmp_path).said() == ("d/*: passed over, of no kind that is read: d/x.bin",)
    assert texts(find(str(tmp_path / "d" / "[ab].jsonl"), Path("/"))) == ["a", "b"]
    assert "no file has a name of this pattern" in refused("d/*.csv", tmp_path)


def test_a_file_whose_name_looks_like_a_pattern_or_a_hub_name_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"a[1].jsonl": line("a"), "owner/name": line("b")})
    assert texts(find("a[1].jsonl", tmp_path)) == ["a"]
    assert texts(find("owner/name", tmp_path)) == ["b"]


def test_a_file_that_is_missing_in_a_folder_is_no_name_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert refused("data/trian", tmp_path).startswith("data.missing: no such file")
    assert refused("trian.jsonl", tmp_path).startswith("data.missing")
    assert refused([], tmp_path).startswith("data.missing")


@pytest.mark.parametrize("name", ["a.ndjson", "a.JSONL", "a.json", "a.unknown", "a"])
def test_json_lines_are_known_by_every_name(name: str, tmp_path: Path) -> None:
    write(tmp_path, {name: line("a") + line("b")})
    assert texts(find(name, tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.txt", "a.json"])
def test_every_text_kind_is_read_from_gzip_and_a_wrong_name_is_said(name: str, tmp_path: Path) -> None:
    plain = {"a.jsonl": line("a"), "a.json": b"[" + line("a") + b"]", "a.txt": b"a"}.get(name, b"text\na\n")
    write(tmp_path, {f"{name}.gz": gzip.compress(plain, mtime=0), name: gzip.compress(plain), f"x{name}.gz": plain})
    for found in (f"{name}.gz", name, f"x{name}.gz"):
        assert texts(find(found, tmp_path)) == ["a"]
    assert find(f"{name}.gz", tmp_path).said() == ()
    assert find(name, tmp_path).said() == (f"{name}: is compressed by gzip",)
    assert find(f"x{name}.gz", tmp_path).said() == (f"x{name}.gz: is not compressed, whatever its name says",)


def test_the_fingerprint_is_that_of_names_and_contents(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": b"one", "b.txt": b"one", "c/a.txt": b"one"})
    first = find("a.txt", tmp_path).fingerprint()
    assert first == find("a.txt", tmp_path / "c").fingerprint() == find("a.txt", tmp_path, first=9).fingerprint()
    others = [find("b.txt", tmp_path), find("a.txt", tmp_path, "|"), find(["a.txt", "b.txt"], tmp_path)]
    prints = {source.fingerprint() for source in others}
    (tmp_path / "a.txt").write_bytes(b"two")
    prints.add(find("a.txt", tmp_path).fingerprint())
    assert len(prints) == 4
    assert first not in prints
    assert all(len(found) == 64 for found in prints)


def test_a_file_of_bad_rows_only_is_not_called_empty(tmp_path: Path) -> None:
    write(tmp_path, {"a.jsonl": b"oops\n"})
    bad = BadRows("skip")
    assert list(find("a.jsonl", tmp_path).rows(bad)) == []
    assert bad.count == 1
