"""The draft of a run and the form of its settings: command line, recipe file and recipe in memory say the same."""

from pathlib import Path

import pytest
from localtune_tui.draft import Draft
from localtune_tui.editing import editor, file_for, write
from localtune_tui.forms import ELSEWHERE, form, summary, values_of
from localtune_tui.modals.fix_data import KINDS, clean_name
from localtune_tui.presets import DEFAULT, PRESETS

from localtune import recipe
from localtune.errors import InputError
from tests.command import MODEL, QUICKSTART
from tests.tui.answers import RECIPE
from tests.tui.recorded_run import recorded_run
from tests.typed import words

DATA = str(QUICKSTART / "train.jsonl")


def test_the_form_has_every_setting_of_a_recipe_once() -> None:
    keys = [field.key for fields in form().values() for field in fields]
    assert sorted([*keys, *ELSEWHERE]) == sorted(setting.key for setting in recipe.fields())


def test_every_field_says_its_key_its_default_and_what_it_is_for() -> None:
    for fields in form().values():
        for field in fields:
            assert field.key in field.help
            assert field.sentence in field.help
            assert field.kind != "choice" or field.choices


def test_every_preset_is_a_few_settings_that_a_recipe_takes() -> None:
    for preset in PRESETS.values():
        loaded = Draft(data=DATA, model=str(MODEL), preset=preset.name).load()
        values = values_of(loaded)
        assert all(recipe.fields() and float(values[key]) == float(text) for key, text in preset.settings.items())
    assert not PRESETS[DEFAULT].settings


def test_a_draft_says_what_is_missing() -> None:
    assert Draft().missing == "choose a data file"
    assert Draft(data=DATA).missing == "choose a model"
    assert Draft(data=DATA, model="x/y").missing == ""
    assert Draft.of(RECIPE).missing == ""


def test_what_is_typed_wins_over_the_preset_and_can_be_taken_back() -> None:
    draft = Draft(data=DATA, model="x/y", preset="quick").with_setting("lora.rank", "64")
    assert draft.settings["lora.rank"] == "64"
    assert draft.with_setting("lora.rank", None).settings["lora.rank"] == "8"


def test_the_command_line_says_the_same_as_the_recipe_in_memory() -> None:
    draft = Draft(data=DATA, model=str(MODEL), preset="thorough").with_setting("name", "mine")
    typed = words(draft.command())
    assert typed[:5] == ["localtune", "run", DATA, "-m", str(MODEL)]
    again = recipe.from_data(typed[2], typed[4], typed[6::2], {}, None)
    assert again.recipe == draft.load().recipe


def test_a_file_that_looks_like_an_option_is_still_a_file() -> None:
    assert Draft(data="-rf.jsonl", model="x/y").arguments()[0] == "./-rf.jsonl"


@pytest.mark.parametrize("preset", list(PRESETS))
def test_the_written_recipe_trains_the_same(tmp_path: Path, preset: str) -> None:
    draft = Draft(data=DATA, model=str(MODEL), preset=preset).with_setting("data.system", "Be kind: #1 [x]")
    path = tmp_path / "deep" / "mine.yaml"
    assert write(draft, path) == ""
    written, meant = recipe.load(path, (), {}, None), draft.load()
    assert (path.parent / str(written.recipe.data.train)).resolve() == Path(DATA).resolve()
    assert (path.parent / written.recipe.model).resolve() == MODEL.resolve()
    for part in ("train", "lora", "watch", "export"):
        assert getattr(written.recipe, part) == getattr(meant.recipe, part)
    assert written.recipe.data.system == meant.recipe.data.system


def test_a_changed_recipe_keeps_its_comments_and_its_other_settings(tmp_path: Path) -> None:
    draft = Draft.of(RECIPE).with_setting("train.epochs", "1").with_setting("lora.rank", "4")
    path = tmp_path / "copy.yaml"
    assert write(draft, path) == ""
    text = path.read_text(encoding="utf-8")
    assert text.startswith(RECIPE.read_text(encoding="utf-8").partition("\n")[0])
    assert "# high, as tiny models like it" in text
    written, meant = recipe.load(path, (), {}, None).recipe, draft.load().recipe
    assert written.train == meant.train
    assert written.lora == meant.lora
    assert (tmp_path / str(written.data.train)).resolve() == (QUICKSTART / "train.jsonl").resolve()


def test_a_shipped_recipe_is_copied_and_never_written_over(tmp_path: Path) -> None:
    assert file_for(Draft.of(RECIPE), tmp_path) == tmp_path / "quickstart.yaml"
    own = tmp_path / "own.yaml"
    assert file_for(Draft.of(own), Path()) == own
    assert file_for(Draft(data="a/rows of mine.jsonl"), tmp_path) == tmp_path / "rows-of-mine.yaml"


def test_the_record_of_a_run_is_copied_and_never_written_over(tmp_path: Path) -> None:
    record = Draft.of(recorded_run().resolved)
    assert record.file
    before = record.file.read_bytes()
    path = file_for(record, tmp_path)
    assert path == tmp_path / "support-bot.yaml"
    assert write(record, path) == ""
    assert Draft.of(path).load().recipe.train == record.load().recipe.train
    assert record.file.read_bytes() == before


def test_only_what_is_in_no_file_would_be_lost() -> None:
    assert not Draft().would_be_lost
    assert not Draft.of(RECIPE).would_be_lost
    assert Draft(data="rows.jsonl").would_be_lost
    assert Draft.of(RECIPE).with_setting("train.epochs", "1").would_be_lost


def test_what_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert "cannot be written" in write(Draft(data=DATA, model="x/y"), tmp_path / "file" / "r.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("data: [", encoding="utf-8")
    assert "error[recipe" in write(Draft.of(broken).with_setting("name", "x"), tmp_path / "other.yaml")


def test_nonsense_in_a_field_is_an_error_that_names_the_key() -> None:
    with pytest.raises(InputError, match=r"train\.epochs is 'three'"):
        Draft(data=DATA, model="x/y").with_setting("train.epochs", "three").load()


def test_a_closed_section_says_what_is_changed_first() -> None:
    fields = form()["train"]
    assert summary(fields, {"train.seed": "7"}).startswith("seed 7 · ")


def test_the_editor_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "code --wait")
    monkeypatch.delenv("VISUAL", raising=False)
    assert editor() == ["code", "--wait"]
    monkeypatch.setenv("VISUAL", "nano")
    assert editor() == ["nano"]


def test_the_fixes_that_are_offered_are_those_of_the_command_line() -> None:
    from localtune.data.check.fix import MENDED

    assert {kind: codes for kind, (_, codes) in KINDS.items()} == dict(MENDED)


def test_a_clean_copy_has_a_name_of_its_own(tmp_path: Path) -> None:
    assert clean_name(str(tmp_path / "rows.csv")) == str(tmp_path / "rows-clean.jsonl")
    assert clean_name(str(tmp_path / "rows.jsonl.gz")) == str(tmp_path / "rows-clean.jsonl")
    assert clean_name("org/set") == "set-clean.jsonl"
