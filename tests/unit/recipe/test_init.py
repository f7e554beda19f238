"""`localtune init`: the recipe it writes means the data and the model that were named."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from localtune.cli.recipes import init
from localtune.errors import InputError
from localtune.recipe import load, schema
from localtune.settings import Recipe


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a data file in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "rows.jsonl").write_text('{"text": "a"}\n')
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(init, arguments, catch_exceptions=False, standalone_mode=False)


def written(path: Path, *arguments: str) -> Recipe:
    run(*arguments, "-o", str(path))
    return load(path, environ={}).recipe


def test_paths_count_from_the_folder_of_the_recipe(here: Path) -> None:
    (here / "models" / "tiny").mkdir(parents=True)
    recipe = written(Path("out/deep/r.yaml"), "x/rows.jsonl", "-m", "models/tiny")
    assert (recipe.data.train, recipe.model, recipe.name) == ("../../x/rows.jsonl", "../../models/tiny", "rows")
    recipe = written(Path("r.yaml"), str(here / "x" / "rows.jsonl"), "-m", str(here / "models" / "tiny"))
    assert (recipe.data.train, recipe.model) == ("./x/rows.jsonl", "./models/tiny")


def test_a_hub_id_stays_what_it_is(here: Path) -> None:
    assert written(Path("out/r.yaml"), "x/rows.jsonl", "-m", "org/name@main").model == "org/name@main"


def test_a_folder_that_is_a_link_does_not_lead_astray(here: Path) -> None:
    (here / "far" / "away").mkdir(parents=True)
    try:
        (here / "link").symlink_to(here / "far" / "away", target_is_directory=True)
    except OSError:
        pytest.skip("no links on this system")
    recipe = written(Path("link/r.yaml"), "x/rows.jsonl", "-m", "org/name")
    assert (here / "link" / str(recipe.data.train)).samefile(here / "x" / "rows.jsonl")


def test_a_name_with_a_tilde_or_a_hash_is_the_file_of_that_name(here: Path) -> None:
    (here / "~odd #1: rows.jsonl").write_text("{}\n")
    recipe = written(Path("r.yaml"), "~odd #1: rows.jsonl", "-m", "org/name")
    assert (here / str(recipe.data.train)).is_file()


def test_data_on_another_drive_is_named_absolutely(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_way(path: str, start: str) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    with monkeypatch.context() as patch:
        patch.setattr(os.path, "relpath", no_way)
        run("x/rows.jsonl", "-m", "org/name", "-o", "out/r.yaml")
    train = load(Path("out/r.yaml"), environ={}).recipe.data.train
    assert Path(str(train)).is_absolute()
    assert Path(str(train)).samefile(here / "x" / "rows.jsonl")


@pytest.mark.parametrize(("data", "code"), [("none.jsonl", "data.missing"), ("empty", "data.folder")])
def test_data_that_is_not_there_is_told_before_anything_is_written(here: Path, data: str, code: str) -> None:
    (here / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        run(data, "-m", "org/name", "-o", "out/r.yaml")
    assert caught.value.problems[0].code == code
    assert not (here / "out").exists()


def test_a_schema_is_rewritten_only_where_it_differs(here: Path) -> None:
    path = here / "localtune.schema.json"
    run("x/rows.jsonl", "-m", "org/name", "-o", "a.yaml")
    assert json.loads(path.read_text("utf-8")) == schema()
    os.utime(path, (1, 1))
    run("x/rows.jsonl", "-m", "org/name", "-o", "b.yaml")
    assert path.stat().st_mtime == 1
    path.write_text("{}")
    run("x/rows.jsonl", "-m", "org/name", "-o", "c.yaml")
    assert json.loads(path.read_text("utf-8")) == schema()


def test_a_recipe_that_is_there_is_not_overwritten(here: Path) -> None:
    (here / "r.yaml").write_text("mine")
    with pytest.raises(InputError, match=r"recipe\.exists"):
        run("x/rows.jsonl", "-m", "org/name", "-o", "r.yaml")
    assert (here / "r.yaml").read_text() == "mine"
