"""Data sets of the hub: the real `datasets` and `huggingface_hub` against a stand-in hub and against a folder."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from localtune.data.reading import find, hub
from localtune.data.rows import BadRows
from localtune.errors import InputError, MachineError
from tests.unit.data.reading.hub_server import COMMIT, ELSEWHERE, stand_in

SCRIPT = """
import json, sys
from pathlib import Path
from localtune.data.reading import find
from localtune.data.rows import BadRows
from localtune.errors import LocaltuneError

def rows(source):
    return source and [[str(row.place), row.value] for row in source.rows(BadRows("stop"))]

for name in sys.argv[1:]:
    try:
        source = find(name, Path())
    except LocaltuneError as error:
        print(json.dumps([error.exit_code, error.problems[0].code, error.problems[0].what]))
    else:
        parts = [rows(part) for part in (source, source.valid, source.test)]
        print(json.dumps({"said": source.said(), "print": source.fingerprint(), "parts": parts}))
"""


def ask(names: list[str], home: Path, **environ: str) -> list[Any]:
    """What a fresh process says: huggingface_hub reads its environment once, when it is imported."""
    keep = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    there = {"HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SCRIPT, *names]
    done = subprocess.run(
        command, env=keep | there | environ, cwd=home, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    names = ["org/tiny", "hf://datasets/org/lines", f"org/tiny@{COMMIT}", "org/none", "org/tiny@gone", "org/tiny:foo"]
    names += ELSEWHERE
    with stand_in() as server:
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        found = ask(names, tmp_path_factory.mktemp("home"), HF_ENDPOINT=endpoint)
        yield dict(zip(names, found, strict=True)) | {"asked": server.asked}


def test_splits_are_streamed_in_order_and_every_row_knows_its_place(answers: dict[str, Any]) -> None:
    train, valid, test = answers["org/tiny"]["parts"]
    assert train == [
        ["org/tiny:default/train:1", {"prompt": "one", "completion": "ONE"}],
        ["org/tiny:default/train:2", {"prompt": "two", "completion": "TWO"}],
        ["org/tiny:default/train:3", {"prompt": "three", "completion": "THREE"}],
    ]
    assert valid == [["org/tiny:default/validation:1", {"prompt": "four", "completion": "FOUR"}]]
    assert test == [["org/tiny:default/test:1", {"prompt": "five", "completion": "FIVE"}]]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_rows_that_a_card_places_elsewhere_are_refused(name: str, answers: dict[str, Any]) -> None:
    code, reason, what = answers[name]
    assert (code, reason) == (2, "data.elsewhere")
    assert ELSEWHERE[name] in what


@pytest.mark.parametrize("file", ["/etc/passwd", "hf://datasets/org/x@{0}/../y", "hf://datasets/org/x@main/a.jsonl"])
def test_files_of_another_place_are_refused_whatever_datasets_makes_of_the_card(file: str) -> None:
    own = f"hf://datasets/org/x@{COMMIT}/data/a.jsonl"
    hub._refuse_elsewhere("org/x", COMMIT, {"train": [own]})
    with pytest.raises(InputError, match=r"data\.elsewhere"):
        hub._refuse_elsewhere("org/x", COMMIT, {"train": [own, file.format(COMMIT)]})


def test_the_revision_is_pinned_to_a_commit_and_said(answers: dict[str, Any]) -> None:
    assert answers["org/tiny"]["said"] == [f"org/tiny: read from the hub at commit {COMMIT[:12]}"]
    assert answers["org/tiny"]["print"] == answers[f"org/tiny@{COMMIT}"]["print"]
    files = [line for line in answers["asked"] if "/resolve/" in line]
    assert files
    assert all(f"/resolve/{COMMIT}/" in line for line in files)


def test_a_data_set_without_validation_rows_has_none(answers: dict[str, Any]) -> None:
    train, valid, test = answers["hf://datasets/org/lines"]["parts"]
    assert [row[1] for row in train] == [{"text": "a"}, {"text": "b"}]
    assert (valid, test) == (None, None)


def test_what_the_hub_does_not_have_is_an_input_error(answers: dict[str, Any]) -> None:
    assert answers["org/none"][:2] == [2, "data.missing"]
    assert answers["org/tiny@gone"][:2] == [2, "data.revision"]
    assert answers["org/tiny:foo"] == [2, "data.configuration", "has no configuration foo; it has default"]


def test_a_hub_out_of_reach_or_switched_off_is_a_matter_of_the_machine(tmp_path: Path) -> None:
    (away,) = ask(["org/tiny"], tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert away[:2] == [3, "data.network"]
    (off,) = ask(["org/tiny"], tmp_path, HF_HUB_OFFLINE="1")
    assert off[:2] == [3, "data.offline"]


def test_a_folder_that_is_laid_out_as_a_data_set_is_read_by_the_same_code(tmp_path: Path) -> None:
    for name, texts in (("train-00000-of-00001", ["a", "b"]), ("validation-00000-of-00001", ["v"])):
        out = io.BytesIO()
        pq.write_table(pa.table({"text": texts, "day": [pa.scalar(0, pa.date32())] * len(texts)}), out)
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}.parquet").write_bytes(out.getvalue())
    train, valid = hub.splits_of(str(tmp_path), None, None)
    assert (train.split, valid.split) == ("train", "validation")
    rows = list(hub.rows(train, 3, BadRows("stop")))
    assert [(row.place.number, row.place.line, row.value) for row in rows] == [
        (3, 1, {"text": "a", "day": "1970-01-01"}),
        (3, 2, {"text": "b", "day": "1970-01-01"}),
    ]


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MachineError) as caught:
        find("org/tiny", tmp_path)
    assert caught.value.problems[0].fix == "pip install 'localtune[data]'"


def test_a_name_that_no_data_set_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.missing"):
        find("hf://datasets/a/b/c", tmp_path)


def test_heavy_libraries_are_imported_only_when_they_are_needed() -> None:
    heavy = ("datasets", "pyarrow", "huggingface_hub", "charset_normalizer")
    script = f"import sys, localtune.data.reading; sys.exit(any(name in sys.modules for name in {heavy}))"
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", script], env=environ, check=False).returncode == 0
