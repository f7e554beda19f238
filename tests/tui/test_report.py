"""`localtune runs diff` and `runs report`: what differs, and a page that can be given away."""

import json
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from localtune.cli.loss_picture import Losses, picture
from localtune.cli.runs import runs
from localtune.events import Proof, Sample, Warn, to_json
from localtune.runs.folder import Run
from tests.goals import Reached
from tests.tui.recorded_run import NAME, recorded_run
from tests.tui.screen_text import assert_clean


def _said(*arguments: str) -> Result:
    return CliRunner().invoke(runs, list(arguments), catch_exceptions=False)


def _second() -> Run:
    run = recorded_run("faq-mini-20261122-090000", steps=30, state="stopped")
    run.resolved.write_text(run.resolved.read_text().replace("rank: 16", "rank: 4"))
    return run


def test_diff_says_what_was_set_otherwise_and_what_came_of_it() -> None:
    recorded_run()
    _second()
    value = json.loads(_said("diff", NAME, "faq", "--json").stdout)
    assert value["settings"] == [{"key": "lora.rank", "first": 16, "second": 4, "first_text": "16", "second_text": "4"}]
    assert value["data"] == "same data, byte for byte"
    figures = {row["key"]: (row["first_text"], row["second_text"]) for row in value["figures"]}
    assert figures["best val loss"][0] == "0.009091 at step 60"
    assert figures["updates"] == ("60 of 60", "30 of 60")
    assert "lora.rank" in _said("diff", NAME, "faq").stdout


def test_diff_of_a_run_with_itself_says_the_same_recipe() -> None:
    recorded_run()
    assert "the same recipe; same data, byte for byte" in _said("diff", NAME, NAME).stdout


def test_a_page_holds_curves_figures_samples_and_recipe(tmp_path: Path) -> None:
    recorded_run()
    page = tmp_path / "r.html"
    assert json.loads(_said("report", NAME, "-o", str(page), "--json").stdout)["report"] == str(page)
    text = page.read_text(encoding="utf-8")
    for part in ("<svg", "best 0.00909", "Figures", "Samples", "Get me a taxi", "Plan", "Recipe", "exact match"):
        assert part in text
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_a_picture_is_valid_xml(tmp_path: Path) -> None:
    recorded_run()
    file = tmp_path / "r.svg"
    _said("report", NAME, "-o", str(file))
    root = ElementTree.fromstring(file.read_text(encoding="utf-8"))
    assert root.tag.endswith("svg")
    assert len(root.findall(".//{*}polyline")) == 2
    assert len(root.findall(".//{*}circle")) == 7


def test_another_suffix_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    recorded_run()
    with pytest.raises(Exception, match=r"an \.html page or an \.svg picture"):
        _said("report", NAME, "-o", str(tmp_path / "r.pdf"))
    assert not list(tmp_path.glob("r.*"))


class _Tags(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags |= {tag} | {f"@{name}" for name, _ in attrs}


def test_hostile_texts_are_text(tmp_path: Path, hostile: list[str], goal: Reached) -> None:
    run = recorded_run()
    with run.events.open("a", encoding="utf-8") as file:
        for text in [*hostile, "</pre><script>alert(1)</script>", "<img src=x onerror=y>", '"><svg onload=z>']:
            text = text.encode("utf-8", "backslashreplace").decode()
            for event in (
                Sample(60, text, text, text),
                Warn(text, text),
                Proof(text, False, [{"name": text, "passed": False, "text": text}], {}, 1.0),
            ):
                file.write(to_json(event) + "\n")
    run.recipe.write_text(run.recipe.read_text() + "\n# </pre><script>alert(2)</script>\n")
    page = tmp_path / "r.html"
    _said("report", NAME, "-o", str(page))
    text = page.read_text(encoding="utf-8")
    found = _Tags()
    found.feed(text)
    assert not found.tags & {"script", "img", "a", "@onerror", "@onload", "@href", "@src"}
    for character in "\x1b\x9b\u202e\u200b\x00":
        assert character not in text
    goal("screen", f"report: {len(hostile)} strings")


def test_a_picture_of_nothing_says_so_and_a_title_is_escaped() -> None:
    text = picture(Losses(), "<b>\x1b[31m", "&")
    ElementTree.fromstring(text)
    assert "no loss was recorded" in text
    assert "&lt;b&gt;\\x1b[31m" in text
    assert_clean(text)


def test_a_long_run_makes_a_small_picture() -> None:
    losses = Losses(train=[(step, 2.0 + step % 7) for step in range(100_000)])
    assert len(picture(losses, "x", "y")) < 200_000
