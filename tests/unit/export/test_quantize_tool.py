"""llama-quantize of the user's own: what it is asked, and what is said of how it ends."""

import os
import sys
from pathlib import Path

import pytest

from localtune.errors import InputError, LocaltuneError, MachineError, ResourceError, RunFailed
from localtune.export.quantize_tool import kinds, quantize
from tests.unit.export.oracle import program
from tests.unit.export.test_type_plan import conversion, written

HELP = """usage: llama-quantize [--help] model-f32.gguf [model-quant.gguf] type [nthreads]
  --imatrix file_name
                                      use data in file_name as importance matrix
Allowed quantization types:
   2  or  Q4_0    :  4.34G, +0.4685 ppl @ Llama-3-8B
  30  or  IQ4_XS  :  4.25 bpw non-linear quantization
  19  or  IQ2_XXS :  2.06 bpw quantization
          COPY    : only copy tensors, no quantizing
"""
HEAD = f"""
import sys
from pathlib import Path
asked = sys.argv[1:]
if asked == ["--help"]:
    print({HELP!r})
    sys.exit(1)
"""
WRITES = "Path(asked[-2]).write_text(repr(asked))"


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH, alone there."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(folder: Path, body: str) -> None:
    """A program llama-quantize in Python."""
    script = folder / "quantize.py"
    script.write_text(HEAD + body, "utf-8")
    if os.name == "nt":
        (folder / "llama-quantize.bat").write_text(f'@"{sys.executable}" "{script}" %*\n', "utf-8")
        return
    command = folder / "llama-quantize"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n', "utf-8")
    command.chmod(0o755)


def failing(tmp_path: Path, kind: str = "IQ4_XS", imatrix: Path | None = None) -> LocaltuneError:
    with pytest.raises(LocaltuneError) as caught:
        quantize(tmp_path / "m.gguf", tmp_path / "q.partial", kind, imatrix)
    assert not (tmp_path / "q.partial").exists()
    return caught.value


def test_the_types_are_those_of_its_help(tool: Path) -> None:
    install(tool, "")
    assert kinds() == ("Q4_0", "IQ4_XS", "IQ2_XXS")


def test_names_with_blanks_quotes_and_dashes_arrive_as_they_are(tool: Path, tmp_path: Path) -> None:
    if os.name == "nt":
        pytest.skip("a batch file cannot hand such names on")
    install(tool, WRITES)
    target, imatrix = tmp_path / "it's a $(file).partial", tmp_path / "-matrix; x"
    imatrix.touch()
    quantize(tmp_path / "-m.gguf", target, "IQ4_XS", imatrix)
    asked = ["--imatrix", str(imatrix), str(tmp_path / "-m.gguf"), str(target), "IQ4_XS"]
    assert target.read_text() == repr(asked)


def test_without_a_matrix_none_is_named(tool: Path, tmp_path: Path) -> None:
    install(tool, WRITES)
    quantize(tmp_path / "m.gguf", tmp_path / "q.partial", "IQ4_XS", None)
    assert "--imatrix" not in (tmp_path / "q.partial").read_text()


@pytest.mark.usefixtures("tool")
def test_a_missing_program_is_told_with_where_to_get_it(tmp_path: Path) -> None:
    error = failing(tmp_path)
    assert isinstance(error, MachineError)
    assert "llama-quantize" in error.problems[0].what
    assert "releases" in error.problems[0].fix


def test_a_type_it_does_not_know_is_refused_with_those_it_does(tool: Path, tmp_path: Path) -> None:
    install(tool, WRITES)
    error = failing(tmp_path, "IQ9_XL")
    assert isinstance(error, InputError)
    assert "Q4_0, IQ4_XS, IQ2_XXS" in error.problems[0].what


def test_an_option_is_no_type(tool: Path, tmp_path: Path) -> None:
    install(tool, WRITES)
    assert isinstance(failing(tmp_path, "--help"), InputError)


def test_a_matrix_that_is_not_there_is_refused(tool: Path, tmp_path: Path) -> None:
    install(tool, WRITES)
    assert failing(tmp_path, imatrix=tmp_path / "none").problems[0].where == str(tmp_path / "none")


def test_a_type_that_needs_a_matrix_is_said(tool: Path, tmp_path: Path) -> None:
    install(tool, "print('ERROR: this quantization requires an importance matrix!'); sys.exit(1)")
    error = failing(tmp_path, "IQ2_XXS")
    assert isinstance(error, InputError)
    assert "--imatrix" in error.problems[0].fix


def test_what_it_says_last_is_shown_and_half_a_file_is_gone(tool: Path, tmp_path: Path) -> None:
    install(tool, WRITES + "\nfor i in range(999): print('noise')\nprint('bad magic', file=sys.stderr); sys.exit(3)")
    error = failing(tmp_path)
    assert isinstance(error, RunFailed)
    assert error.problems[0].evidence.splitlines()[-1] == "bad magic"
    assert "code 3" in error.problems[0].what
    assert len(error.problems[0].evidence.splitlines()) == 12


def test_a_program_that_ends_well_without_a_file_failed(tool: Path, tmp_path: Path) -> None:
    install(tool, "")
    assert isinstance(failing(tmp_path), RunFailed)


def test_a_full_disk_is_called_one(tool: Path, tmp_path: Path) -> None:
    install(tool, WRITES + "\nprint('write: No space left on device'); sys.exit(1)")
    assert isinstance(failing(tmp_path), ResourceError)


def test_a_program_for_another_machine_is_one_line(tool: Path, tmp_path: Path) -> None:
    if os.name == "nt":
        pytest.skip("Windows finds no program without its suffix")
    (tool / "llama-quantize").write_bytes(b"\x7fELF no")
    (tool / "llama-quantize").chmod(0o755)
    assert failing(tmp_path).problems[0].code == "gguf.program"


def test_the_real_program_is_understood(tool: Path, tmp_path: Path) -> None:
    real = program()
    os.symlink(real, tool / "llama-quantize")
    assert {"IQ4_XS", "Q3_K_M", "IQ1_S"} <= set(kinds())
    source = written(conversion(2), tmp_path / "m.gguf")
    quantize(source, tmp_path / "q.gguf", "IQ4_XS", None)
    assert (tmp_path / "q.gguf").stat().st_size < source.stat().st_size
    assert isinstance(failing(tmp_path, "IQ1_S"), InputError)
    (tmp_path / "m.gguf").write_bytes(b"GGUF but not really")
    assert isinstance(failing(tmp_path, "IQ4_XS"), RunFailed)
