"""What a command line names as its recipe: a file, a folder, or one that comes with localtune."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from localtune.cli.options import read_recipe
from localtune.cli.recipes import recipes
from localtune.errors import InputError
from localtune.recipe.shipped import shipped

MINIMAL = "name: mine\nmodel: org/name\ndata:\n  train: rows.jsonl\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, a home and the user's configuration, all empty."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr("localtune.recipe.user_config", lambda: tmp_path / "none.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(source: str) -> str:
    return read_recipe(source, None, (), None).name


def test_every_shipped_recipe_has_a_name_a_file_and_a_title() -> None:
    found = shipped()
    assert {"quickstart", "lora", "full", "qlora-8gb", "quickstart/qlora"} <= set(found)
    for name, one in found.items():
        assert (one.name, one.path.suffix, one.path.is_file()) == (name, ".yaml", True)
        assert one.title.endswith(".")
        assert not one.title.startswith("#")


def test_a_shipped_recipe_is_found_by_its_name(here: Path) -> None:
    loaded = read_recipe("quickstart", None, (), None)
    assert (loaded.name, loaded.base) == ("quickstart", shipped()["quickstart"].path.parent)
    assert loaded.recipe.data.train == "train.jsonl"


def test_a_folder_stands_for_the_recipe_in_it(here: Path) -> None:
    (here / "project").mkdir()
    (here / "project" / "recipe.yaml").write_text(MINIMAL)
    assert read_recipe("project", None, (), None).base == here / "project"
    assert named("project/") == "mine"


def test_what_is_there_wins_over_a_shipped_recipe(here: Path) -> None:
    (here / "quickstart").mkdir()
    assert named("quickstart") == "quickstart"
    (here / "quickstart" / "recipe.yaml").write_text(MINIMAL)
    assert named("quickstart") == "mine"


def test_a_recipe_and_a_data_file_are_found_in_the_home_folder(here: Path) -> None:
    (here / "home").mkdir()
    (here / "home" / "r.yaml").write_text(MINIMAL)
    assert named("~/r.yaml") == "mine"
    (here / "home" / "x.jsonl").write_text("{}\n")
    loaded = read_recipe("~/x.jsonl", "org/name", (), None)
    assert Path(str(loaded.recipe.data.train)) == here / "home" / "x.jsonl"


@pytest.mark.parametrize("source", ["rows", "rows/*.jsonl", "owner/name", "owner/name:main@v1", "hf://datasets/o/n"])
def test_a_folder_a_pattern_and_a_data_set_of_the_hub_are_data(here: Path, source: str) -> None:
    (here / "rows").mkdir()
    assert read_recipe(source, "org/name", (), None).recipe.data.train == source


@pytest.mark.parametrize(
    "source", ["nowhere.yaml", "nowhere.jsonl", "folder/nowhere.csv", "quickstartt", "x\0y", "y" * 9000]
)
def test_a_source_that_is_nothing_says_what_was_looked_for(here: Path, source: str) -> None:
    with pytest.raises(InputError) as caught:
        read_recipe(source, "org/name", (), None)
    (problem,) = caught.value.problems
    assert (problem.code, problem.where) == ("recipe.not-found", source)
    assert "folder" in problem.what
    assert "no recipe of that name comes with localtune" in problem.what
    assert "localtune recipes" in problem.fix


def test_recipes_are_listed_for_people_and_for_programs() -> None:
    listed = CliRunner().invoke(recipes, []).output
    found = json.loads(CliRunner().invoke(recipes, ["--json"]).output)
    assert [entry["name"] for entry in found] == list(shipped())
    for entry in found:
        assert set(entry) == {"name", "path", "title"}
        assert Path(entry["path"]).is_file()
        assert entry["title"] in listed
        assert f"localtune run {entry['name']}\n" in listed
    assert CliRunner().invoke(recipes, ["path", "quickstart"]).output.strip() == str(shipped()["quickstart"].path)
