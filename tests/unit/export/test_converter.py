"""A llama.cpp checkout of the user's own: what its converter is asked, and what is said of how it ends."""

import json
import sys
from pathlib import Path

import pytest

from localtune.errors import InputError, LocaltuneError, MachineError, ResourceError, RunFailed
from localtune.export.converter import CONVERTED, SCRIPT, convert
from tests.typed import words

HEAD = "import json, sys\nfrom pathlib import Path\nasked = sys.argv[1:]\nout = Path(asked[2])\n"
WRITES = "out.write_text(json.dumps([sys.executable, *asked]))\n"


def checkout(folder: Path, body: str) -> Path:
    """A folder whose converter is `body`."""
    folder.mkdir()
    (folder / SCRIPT).write_text(HEAD + body, "utf-8")
    return folder


def failing(tmp_path: Path, body: str, encoding: str = "F16") -> LocaltuneError:
    with pytest.raises(LocaltuneError) as caught:
        convert(checkout(tmp_path / "a llama.cpp", body), tmp_path / "m", tmp_path / "m.partial", encoding)
    assert not (tmp_path / "m.partial").exists()
    return caught.value


@pytest.mark.parametrize("encoding", CONVERTED)
def test_it_is_asked_for_one_file_of_one_type(tmp_path: Path, encoding: str) -> None:
    target = tmp_path / "a model's file.partial"
    convert(checkout(tmp_path / "llama.cpp", WRITES), tmp_path / "-m $x", target, encoding)
    asked = [sys.executable, str(tmp_path / "-m $x"), "--outfile", str(target), "--outtype", encoding.lower()]
    assert target.read_text() == json.dumps(asked)


def test_what_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"holds no {SCRIPT}"):
        convert(tmp_path, tmp_path / "m", tmp_path / "m.partial", "F16")


def test_a_tokenizer_whose_code_it_would_run_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "m"
    model.mkdir()
    (model / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["own.Own", null]}}', "utf-8")
    error = failing(tmp_path, WRITES)
    assert error.problems[0].code == "model.code"


def test_a_type_it_does_not_write_is_refused(tmp_path: Path) -> None:
    assert isinstance(failing(tmp_path, WRITES, "Q4_K_M"), InputError)


def test_a_package_it_lacks_is_said_with_how_to_get_it(tmp_path: Path) -> None:
    error = failing(tmp_path, "import a_package_that_nobody_has")
    assert isinstance(error, MachineError)
    assert "a_package_that_nobody_has" in error.problems[0].what
    *command, listed = words(error.problems[0].fix)
    assert command == [sys.executable, "-m", "pip", "install", "-r"]
    assert listed.startswith(str(tmp_path / "a llama.cpp"))


def test_its_own_words_are_shown_and_half_a_file_is_gone(tmp_path: Path) -> None:
    body = WRITES + "raise NotImplementedError('BPE pre-tokenizer was not recognized')"
    error = failing(tmp_path, body)
    assert isinstance(error, RunFailed)
    assert error.problems[0].evidence.endswith("NotImplementedError: BPE pre-tokenizer was not recognized")


def test_a_full_disk_is_called_one(tmp_path: Path) -> None:
    body = WRITES + "raise OSError(28, 'No space left on device')"
    assert isinstance(failing(tmp_path, body), ResourceError)


def test_a_virtual_environment_in_the_checkout_is_used(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("a link to another Python does not start there")
    folder = checkout(tmp_path / "llama.cpp", WRITES)
    (folder / ".venv/bin").mkdir(parents=True)
    python = folder / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nCHOSEN=1 exec "{sys.executable}" "$@"\n', "utf-8")
    python.chmod(0o755)
    (folder / SCRIPT).write_text(HEAD + "import os\nout.write_text(os.environ['CHOSEN'])", "utf-8")
    convert(folder, tmp_path / "m", tmp_path / "m.partial", "F16")
    assert (tmp_path / "m.partial").read_text() == "1"
