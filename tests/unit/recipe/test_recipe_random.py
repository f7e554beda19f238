"""Recipes of every kind: what is dumped loads again, and nothing but an `InputError` comes of nonsense."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localtune.errors import InputError, Problem
from localtune.recipe import dump, load, starter
from localtune.recipe.words import fields
from localtune.recipe.yaml import write_value
from localtune.settings import Recipe

MINIMAL = "model: org/name\ndata:\n  train: rows.jsonl\n"


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Any valid recipe, with text that asks for quotes and escapes."""
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    name = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
    name = name.filter(lambda path: not path.startswith("~"))  # a recipe that was loaded holds none
    train: dict[str, Any] = {
        "epochs": draw(st.floats(1e-300, 1000)),
        "steps": draw(st.none() | st.integers(1, 10**12)),
        "learning_rate": draw(st.just("auto") | st.floats(1e-30, 1)),
        "warmup": draw(st.sampled_from(["3%", "12.5%", "100%"]) | st.integers(0, 1000)),
        "memory_limit": draw(st.just("auto") | st.integers(1, 10**15)),
        "pack": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }
    columns = draw(st.dictionaries(st.sampled_from(["prompt", "completion", "text"]), text))
    data = {"train": draw(name), "test": draw(st.none() | name), "system": draw(st.none() | text), "columns": columns}
    lora = {"targets": draw(st.sampled_from(["all-linear", "attention"]) | st.lists(text, max_size=3))}
    watch = {"samples": draw(st.lists(text, max_size=8))}
    whole = {"name": "x", "model": draw(name), "data": data, "train": train, "lora": lora, "watch": watch}
    return Recipe.model_validate(whole)


@given(recipes())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_dumped_recipe_loads_as_the_same_recipe(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "resolved.yaml").write_bytes(dump(recipe).encode())
    assert load(tmp_path / "resolved.yaml", environ={}).recipe == recipe


LINE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=130)
WRITTEN = LINE.filter(lambda path: not path.startswith("~"))


@given(WRITTEN | WRITTEN.map(lambda path: "./" + path + " #"), WRITTEN)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_starter_loads_with_the_data_and_the_model_it_was_made_for(tmp_path: Path, data: str, model: str) -> None:
    (tmp_path / "starter.yaml").write_bytes(starter(data, model).encode())
    recipe = load(tmp_path / "starter.yaml", environ={}).recipe
    assert (recipe.data.train, recipe.model) == (data, model)


@given(st.binary(max_size=200), st.text(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_random_files_and_flags_raise_nothing_but_input_errors(tmp_path: Path, content: bytes, flag: str) -> None:
    (tmp_path / "random.yaml").write_bytes(content)
    with pytest.raises(InputError):
        load(tmp_path / "random.yaml", [flag], {"LOCALTUNE_TRAIN_SEED": flag})


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
)


@given(st.sampled_from(fields()), VALUES | st.dictionaries(st.text(max_size=5), st.integers(), max_size=2))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_value_of_any_setting_is_taken_or_told_in_words(tmp_path: Path, setting: Any, value: object) -> None:
    (tmp_path / "recipe.yaml").write_text(MINIMAL, encoding="utf-8")
    text = write_value(value) if not isinstance(value, float) else str(value)
    found: tuple[Problem, ...] = ()
    try:
        load(tmp_path / "recipe.yaml", [f"{setting.key}={text}"], {})
    except InputError as error:
        found = error.problems
    assert {problem.code for problem in found} <= {"recipe.type", "recipe.unknown-key", "recipe.yaml"}
    assert all(setting.key in problem.what + problem.where for problem in found)
