"""Of exported files only those go to others that the record beside them knows, and as it knows them."""

from pathlib import Path

import pytest

from localtune.deliver.hub_folder import chosen
from localtune.errors import InputError
from localtune.products.delivery import _MADE_CARD
from localtune.products.recorded import recorded, refuse_stale_card
from localtune.runs.files import sha256, write_json
from tests.unit.deliver.test_hub_folder import ggufs, names


def exported(folder: Path) -> Path:
    """Two files and their record."""
    ggufs(folder, "A.gguf", "B.gguf")
    files = {
        path.name: {"size": path.stat().st_size, "sha256": sha256(path), "passed": True}
        for path in folder.glob("*.gguf")
    }
    write_json(folder / "proof.json", {"files": files})
    return folder


def sent(folder: Path) -> list[str]:
    return names(chosen(folder, "gguf", only=recorded(folder).get("files")))


def test_a_file_that_no_export_wrote_stays_here(tmp_path: Path) -> None:
    folder = exported(tmp_path / "export")
    (folder / "C.gguf").write_bytes((folder / "A.gguf").read_bytes())
    assert sent(folder) == ["A.gguf", "B.gguf"]


@pytest.mark.parametrize("changed", [b"x", b""])
def test_a_file_that_was_changed_since_stops_it_all(changed: bytes, tmp_path: Path) -> None:
    folder = exported(tmp_path / "export")
    content = (folder / "B.gguf").read_bytes()
    (folder / "B.gguf").write_bytes(content[:-1] + changed)
    with pytest.raises(InputError, match=r"push\.changed.*B\.gguf"):
        recorded(folder)
    (folder / "B.gguf").write_bytes(content)
    assert sent(folder) == ["A.gguf", "B.gguf"]


def test_a_file_that_is_gone_is_in_no_card(tmp_path: Path) -> None:
    folder = exported(tmp_path / "export")
    (folder / "B.gguf").unlink()
    assert list(recorded(folder)["files"]) == ["A.gguf"]
    (folder / "README.md").write_text("my own words", "utf-8")
    refuse_stale_card(folder)
    (folder / "README.md").write_text(f"| file | value |{_MADE_CARD}", "utf-8")
    with pytest.raises(InputError, match=r"push\.changed.*B\.gguf"):
        refuse_stale_card(folder)


def test_a_modelfile_goes_with_the_file_that_it_is_of(tmp_path: Path) -> None:
    folder = exported(tmp_path / "export")
    (folder / "Modelfile").write_text("# mine\nFROM ./B.gguf\n", "utf-8")
    assert "Modelfile" in sent(folder)
    (folder / "B.gguf").unlink()
    assert "Modelfile" not in sent(folder)


def test_without_a_record_a_folder_is_sent_as_it_is(tmp_path: Path) -> None:
    folder = ggufs(tmp_path / "mine", "A.gguf")
    assert recorded(folder) == {}
    assert sent(folder) == ["A.gguf"]
    refuse_stale_card(folder)
