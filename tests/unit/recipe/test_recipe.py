"""Recipes: precedence, places, and every mistake in words."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.errors import InputError, Problem
from localtune.recipe import Loaded, dump, from_data, load, safe_name, starter, user_config
from localtune.recipe.words import fields
from localtune.settings import Recipe

MINIMAL = "model: org/name\ndata:\n  train: rows.jsonl\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "recipe.yaml"


def loaded(file: Path, text: str, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Loaded:
    file.write_text(text, encoding="utf-8")
    return load(file, overrides, environ or {})


def problems(file: Path, text: str, *overrides: str, environ: Mapping[str, str] | None = None) -> list[Problem]:
    with pytest.raises(InputError) as caught:
        loaded(file, text, overrides, environ)
    assert caught.value.exit_code == 2
    return list(caught.value.problems)


def test_a_minimal_recipe_has_every_default_and_the_name_of_its_file(file: Path) -> None:
    found = loaded(file, MINIMAL)
    assert found.recipe == Recipe.model_validate(
        {"name": "recipe", "model": "org/name", "data": {"train": "rows.jsonl"}}
    )
    assert (found.base, found.text, found.name) == (file.parent, MINIMAL, "recipe")
    assert found.sources["model"] == "recipe.yaml:1:8"
    assert found.sources["train.epochs"] == "default"
    assert set(found.sources) == {setting.key for setting in fields()}


def test_an_empty_name_is_that_of_the_file(file: Path) -> None:
    assert loaded(file, MINIMAL + "name:\n").recipe.name == "recipe"


def test_an_unknown_key_is_named_with_its_place_and_the_nearest_key(file: Path) -> None:
    found = problems(file, MINIMAL + "train:\n  learning_rat: 1\n")
    assert [str(problem) for problem in found] == [
        "error[recipe.unknown-key]: recipe.yaml:5:3  train.learning_rat is not a setting\n"
        "  fix: did you mean learning_rate?   all keys: localtune schema recipe"
    ]


def test_a_key_of_another_section_is_found(file: Path) -> None:
    (problem,) = problems(file, MINIMAL + "epochs: 3\n")
    assert (problem.where, problem.fix[:27]) == ("recipe.yaml:4:1", "did you mean train.epochs? ")


def test_a_key_like_none_is_refused_without_a_guess(file: Path) -> None:
    (problem,) = problems(file, MINIMAL + "zzzzzz: 3\n")
    assert problem.fix == "all keys: localtune schema recipe"


EPOCHS = "expected a number above 0 and at most 1000, such as 2"
RATE = "expected auto or a number above 0 and at most 1"
NAME = "expected a name of up to 64 letters, digits, dots, dashes and underscores or null"
COUNT = "expected a whole number of at least 1 or null"


@pytest.mark.parametrize(
    ("line", "column", "what"),
    [
        ("train: {epochs: three}", 17, f"train.epochs is 'three'; {EPOCHS}"),
        ("train: {epochs: 0}", 17, f"train.epochs is 0; {EPOCHS}"),
        ("train: {epochs: .inf}", 17, f"train.epochs is inf; {EPOCHS}"),
        ("train: {epochs: true}", 17, f"train.epochs is true; {EPOCHS}"),
        ("train: {epochs: }", 16, f"train.epochs is empty; {EPOCHS}"),
        ("train: {epochs: [1]}", 17, f"train.epochs is a list of 1; {EPOCHS}"),
        ("train: {learning_rate: fast}", 24, f"train.learning_rate is 'fast'; {RATE}"),
        ("train: {steps: 2.5}", 16, f"train.steps is 2.5; {COUNT}"),
        ("train: {pack: yes}", 15, "train.pack is 'yes'; expected true or false"),
        ("train: {method: dora}", 17, "train.method is 'dora'; expected one of lora, qlora, full"),
        ("train: {memory_limit: lots}", 23, "train.memory_limit is 'lots'; expected auto or a size such as 8GB"),
        (
            *("train: {warmup: 0.3}", 17),
            "train.warmup is 0.3; expected a share such as 3% or a whole number of at least 0",
        ),
        ("lora: {rank: 2000}", 14, "lora.rank is 2000; expected a whole number from 1 to 1024, such as 16"),
        ("lora: {targets: [q, 5]}", 21, "entry 2 of lora.targets is 5; expected text"),
        ("lora: 7", 7, "lora is 7; expected a group of settings such as  lora: {rank: …}"),
        ("watch: {samples: [a, {}]}", 22, "entry 2 of watch.samples is a mapping; expected text"),
        ("watch: {stop_if: {val_loss_rises: 0}}", 35, f"watch.stop_if.val_loss_rises is 0; {COUNT}"),
        ('name: "a\\nb"', 7, f"name is 'a\\nb'; {NAME}"),
        ("name: ../x", 7, f"name is '../x'; {NAME}"),
        ("version: 2", 10, "version is 2; expected 1"),
    ],
)
def test_a_wrong_value_is_told_in_words_with_its_place(file: Path, line: str, column: int, what: str) -> None:
    (problem,) = problems(file, MINIMAL + line + "\n")
    assert (problem.code, problem.where, problem.what) == ("recipe.type", f"recipe.yaml:4:{column}", what)


def test_columns_name_the_wrong_entry_and_the_unknown_one(file: Path) -> None:
    value, key = problems(file, "model: a/b\ndata: {train: x, columns: {prompt: 3, foo: bar}}\n")
    assert (value.where, value.what) == ("recipe.yaml:2:36", "data.columns.prompt is 3; expected text")
    assert (key.code, key.where) == ("recipe.unknown-key", "recipe.yaml:2:39")
    assert key.what.startswith("data.columns.foo is not known; expected one of messages, tools, prompt, completion, ")


def test_all_problems_come_at_once(file: Path) -> None:
    text = "model: 5\nextra: 1\ndata: {max_tokens: 1}\ntrain: {epochs: x, epochs: 1}\nlora: []\n"
    found = problems(file, text, "train.nothing=1", "seed", environ={"LOCALTUNE_TRAIN_SEEDS": "1"})
    assert [(problem.code, problem.where) for problem in found] == [
        ("recipe.duplicate-key", "recipe.yaml:4:20"),
        ("recipe.unknown-key", "recipe.yaml:2:1"),
        ("recipe.type", "recipe.yaml:5:7"),
        ("recipe.unknown-key", "LOCALTUNE_TRAIN_SEEDS"),
        ("recipe.unknown-key", "--set train.nothing=1"),
        ("recipe.set", "--set seed"),
        ("recipe.type", "recipe.yaml:1:8"),
        ("recipe.missing", "recipe.yaml"),
        ("recipe.type", "recipe.yaml:3:20"),
        ("recipe.type", "recipe.yaml:4:17"),
    ]


def test_a_flood_of_problems_is_cut(file: Path) -> None:
    found = problems(file, MINIMAL + "".join(f"x{n}: 1\n" for n in range(5000)))
    assert len(found) == 21
    assert found[-1].code == "recipe.more"


def test_what_is_missing_is_named_with_what_it_is(file: Path) -> None:
    found = problems(file, "")
    assert [problem.code for problem in found] == ["recipe.missing", "recipe.missing"]
    assert found[0].what.startswith("model is missing: hub id, with @REVISION")
    assert found[1].fix == "--set data.train=…, or a line in the recipe"


def test_a_recipe_that_is_no_mapping_is_refused(file: Path) -> None:
    assert (problems(file, "- a\n")[0].code, problems(file, "- a\n")[0].where) == ("recipe.type", "recipe.yaml:1:1")


def test_an_empty_section_is_no_error(file: Path) -> None:
    assert loaded(file, MINIMAL + "train:\n  # epochs: 3\n").recipe.train.epochs == 2.0


def test_a_missing_file_names_the_command_that_writes_one(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(InputError) as caught:
            load(path, environ={})
        assert caught.value.problems[0].code == "recipe.not-found"
        assert "localtune init" in caught.value.problems[0].fix


def test_a_flag_wins_over_environment_over_recipe_over_user_configuration_over_default(
    file: Path, tmp_path: Path
) -> None:
    own = tmp_path / "config.yaml"
    own.write_text("train: {epochs: 3, seed: 3, clip: 3, weight_decay: 0.3}\n")
    file.write_text(MINIMAL + "train: {epochs: 4, seed: 4, clip: 4}\n")
    environ = {"LOCALTUNE_TRAIN_EPOCHS": "5", "LOCALTUNE_TRAIN_SEED": "5", "LOCALTUNE_RUNS": "/x", "OTHER": "1"}
    found = load(file, ["train.epochs=6"], environ, own)
    train = found.recipe.train
    assert (train.epochs, train.seed, train.clip, train.weight_decay, train.batch_size) == (6.0, 5, 4.0, 0.3, 8)
    keys = ("epochs", "seed", "clip", "weight_decay", "batch_size")
    assert [found.sources[f"train.{key}"] for key in keys] == [
        *("--set train.epochs=6", "LOCALTUNE_TRAIN_SEED", "recipe.yaml:4:35", "config.yaml:1:52", "default")
    ]


def test_an_empty_environment_variable_counts_as_unset(file: Path) -> None:
    assert loaded(file, MINIMAL, environ={"LOCALTUNE_MODEL": ""}).recipe.model == "org/name"


def test_a_mistake_in_the_user_configuration_names_its_file(file: Path, tmp_path: Path) -> None:
    own = tmp_path / "config.yaml"
    own.write_text("trian: {}\n")
    file.write_text(MINIMAL)
    with pytest.raises(InputError) as caught:
        load(file, environ={}, user_config=own)
    assert caught.value.problems[0].where == "config.yaml:1:1"


def test_a_user_configuration_that_does_not_exist_is_no_error(file: Path, tmp_path: Path) -> None:
    file.write_text(MINIMAL)
    assert load(file, environ={}, user_config=tmp_path / "none.yaml").recipe.model == "org/name"
    assert user_config().name == "config.yaml"


def test_flags_may_give_lists_mappings_and_whole_sections(file: Path) -> None:
    flags = ["data.columns={prompt: q}", "lora.targets=[q_proj]", "train={epochs: 1}", "data.system=Answer: #1"]
    recipe = loaded(file, MINIMAL, flags).recipe
    assert recipe.data.columns == {"prompt": "q"}
    assert (recipe.lora.targets, recipe.train.epochs, recipe.data.system) == (["q_proj"], 1.0, "Answer: #1")


def test_a_wrong_flag_is_its_own_place(file: Path) -> None:
    found = problems(file, MINIMAL, "train.epochs=three", "lora.rank=[1")
    assert [problem.where for problem in found] == ["--set lora.rank=[1", "--set train.epochs=three"]


def test_a_path_counts_from_where_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "model").mkdir(parents=True)
    there.mkdir()
    monkeypatch.chdir(here)
    flags = ["data.test=t.jsonl", "data.valid=none", "model=./model"]
    recipe = loaded(there / "recipe.yaml", MINIMAL, flags).recipe
    assert (recipe.data.train, recipe.data.valid) == ("rows.jsonl", "none")
    assert (recipe.data.test, recipe.model) == (str(here / "t.jsonl"), str(here / "./model"))
    assert loaded(there / "recipe.yaml", MINIMAL, ["model=org/other"]).recipe.model == "org/other"


def test_a_tilde_is_expanded_wherever_a_path_is_written(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    text = "model: ~/m\ndata: {train: ~/x.jsonl, valid: ~/v.jsonl}\n"
    recipe = loaded(file, text, ["data.test=~/t.jsonl"]).recipe
    named = (recipe.model, recipe.data.train, recipe.data.valid, recipe.data.test)
    assert [Path(str(name)) for name in named] == [*(home / "m", home / "x.jsonl", home / "v.jsonl", home / "t.jsonl")]
    assert loaded(file, MINIMAL, ["model=~/m"]).recipe.model == recipe.model
    assert loaded(file, dump(recipe)).recipe == recipe


@pytest.mark.parametrize("value", ["~nobody-of-that-name/x.jsonl", "x.jsonl~", "a~/x.jsonl"])
def test_a_tilde_that_means_no_home_stays(file: Path, value: str) -> None:
    assert loaded(file, f'model: a/b\ndata: {{train: "{value}"}}\n').recipe.data.train == value


def test_a_tilde_before_a_nul_is_a_problem_and_not_a_crash(file: Path) -> None:
    assert problems(file, 'model: "~\\0"\ndata: {train: x}\n')[0].code == "recipe.type"


def test_a_data_file_and_a_model_make_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = from_data("my data.jsonl", "org/name", ["train.epochs=1"], {"LOCALTUNE_MODEL": "org/other"})
    assert (found.name, found.recipe.model, found.recipe.data.train) == ("my-data", "org/name", "my data.jsonl")
    assert (found.base, found.recipe.train.epochs) == (tmp_path, 1.0)
    (tmp_path / "again.yaml").write_text(found.text)
    assert load(tmp_path / "again.yaml", ["train.epochs=1"], {}).recipe == found.recipe


def test_a_data_file_without_a_model_is_told_so() -> None:
    with pytest.raises(InputError) as caught:
        from_data("rows.jsonl", environ={})
    assert (caught.value.problems[0].code, caught.value.problems[0].where) == ("recipe.missing", "the command line")


@given(st.text(max_size=100))
def test_every_file_name_makes_a_valid_run_name(stem: str) -> None:
    Recipe.model_validate({"name": safe_name(stem), "model": "a/b", "data": {"train": "x"}})


def test_the_starter_is_the_default_recipe_with_a_comment_for_every_setting(file: Path) -> None:
    text = starter("./support.jsonl", "Qwen/Qwen3-1.7B")
    assert loaded(file, text).recipe == Recipe.model_validate(
        {"name": "support", "model": "Qwen/Qwen3-1.7B", "data": {"train": "./support.jsonl"}}
    )
    assert all(setting.sentence in text for setting in fields())
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("length", range(20, 130))
def test_a_starter_leaves_blanks_before_every_comment(file: Path, length: int) -> None:
    model = f"org/{'m' * (length - 4)}"
    text = starter("rows.jsonl", model)
    assert loaded(file, text).recipe.model == model
    assert all(
        line.split("#")[0].endswith("  ")
        for line in text.splitlines()
        if not line.strip().startswith("#") and "#" in line
    )


def test_a_dump_holds_every_setting(file: Path) -> None:
    found = loaded(file, dump(loaded(file, MINIMAL).recipe))
    assert "default" not in found.sources.values()
