"""The declarations of settings, and the views made of them."""

from typing import Any

import pytest
from pydantic import ValidationError

from localtune.recipe import fields, schema, settings_table
from localtune.recipe.words import sections, words
from localtune.settings import PATH_SETTINGS, Recipe, TrainSettings


def test_every_setting_has_a_sentence_a_type_in_words_and_a_default_that_is_valid() -> None:
    recipe = Recipe.model_validate({"model": "org/name", "data": {"train": "a.jsonl"}}).model_dump()
    for setting in fields():
        assert setting.sentence.endswith("."), setting.key
        assert setting.kind
        value: Any = recipe
        for part in setting.key.split("."):
            value = value[part]
        assert setting.required or value == setting.default, setting.key


def test_the_path_settings_exist() -> None:
    assert set(PATH_SETTINGS) <= {setting.key for setting in fields()}


def test_the_table_has_a_row_of_four_cells_for_every_setting() -> None:
    rows = settings_table().splitlines()[2:]
    assert len(rows) == len(fields())
    assert rows[[s.key for s in fields()].index("train.epochs")] == (
        "| `train.epochs` | a number above 0 and at most 1000 | `2.0` | Passes over the training rows. |"
    )
    assert all(row.replace("\\|", "").count("|") == 5 for row in rows)


def test_the_schema_describes_every_group_and_refuses_unknown_keys() -> None:
    found = schema()
    assert found["$schema"].startswith("https://json-schema.org/")
    assert found["required"] == ["model", "data"]
    groups = [found, *found["$defs"].values()]
    assert len(groups) == len(sections()) + 1
    assert all(group["additionalProperties"] is False for group in groups)
    assert all(declared["title"] for group in groups for declared in group["properties"].values())


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"type": "integer", "minimum": 8, "maximum": 16}, "a whole number from 8 to 16"),
        ({"type": "integer", "minimum": 1}, "a whole number of at least 1"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "a number above 0 and at most 1"),
        ({"type": "number", "exclusiveMinimum": 0}, "a number above 0"),
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, "a number from 0 to below 1"),
        ({"type": "number"}, "a number"),
        ({"anyOf": [{"const": "auto"}, {"type": "null"}]}, "auto or null"),
        ({"anyOf": [{"enum": ["a", "b"]}, {"type": "array", "items": {"type": "string"}}]}, "a or b or a list of text"),
        ({"enum": ["a", "b"], "type": "string"}, "one of a, b"),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 8}, "a list of text, at most 8 entries"),
    ],
)
def test_a_schema_in_words(declared: dict[str, Any], expected: str) -> None:
    assert words(declared) == expected


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("8 GiB", 8 * 2**30), ("1.5gb", 1_500_000_000), ("512MB", 512 * 10**6), ("100", 100)],
)
def test_a_size_may_have_a_unit(text: str, size: int) -> None:
    assert TrainSettings.model_validate({"memory_limit": text}).memory_limit == size


@pytest.mark.parametrize("value", ["lots", "inf", "nan", "1e999", "8GX", "0GB", "-1GB", True, 0, 2.5, ""])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        TrainSettings.model_validate({"memory_limit": value})


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": True}, {"epochs": "3"}, {"epochs": float("inf")}, {"pack": "yes"}, {"pack": 1}, {"batch_size": 8.0}],
)
def test_no_type_is_guessed(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainSettings.model_validate(wrong)
