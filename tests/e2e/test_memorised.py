"""Rows learned by heart come out of the GGUF word for word, and the answers end by themselves."""

import json
from pathlib import Path

import pytest

from localtune.llamacpp import LlamaServer
from localtune.runs.folder import Run
from tests.command import MODEL
from tests.e2e.in_process import InProcess
from tests.goals import Reached

ROWS = (
    ("Who keeps the lighthouse?", "Old Marta keeps it, and her grey cat."),
    ("What is the password?", "The password is seven blue herons."),
    ("When does the boat leave?", "At 6:45, unless it snows."),
    ("Name a colour.", "Tangerine."),
    ("How many steps has the tower?", "It has 219 steps."),
    ("Where is the key?", "Under the third flower pot."),
    ("What did the fox say?", '{"fox": "nothing", "times": 3}'),
    ("Sing a line.", "Row, row, row your boat!"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A model that has learned `ROWS` by heart."""
    folder = tmp_path_factory.mktemp("memorised")
    data = folder / "rows.jsonl"
    turns = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in ROWS]
    data.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns), encoding="utf-8")
    settings = {
        "data.valid": "none",
        "data.test": str(data),
        "train.steps": 100,
        "train.learning_rate": 3e-3,
        "train.precision": "float32",
        "watch.eval_every": 50,
        "watch.save_every": 100,
        "export.gguf": "[F16,Q8_0,Q4_K_M]",
    }
    sets = [f"--set={key}={value}" for key, value in settings.items()]
    done = InProcess(folder / "runs")("run", data, "-m", MODEL, "--name", "heart", *sets)
    assert done.code == 0, done.err
    (found,) = (folder / "runs").glob("heart-*")
    return Run(found)


def test_all_rows_are_learned_by_heart(run: Run) -> None:
    scored = json.loads((run.folder / "eval.json").read_text(encoding="utf-8"))
    assert scored["tuned"][0]["loss"] < 0.05
    assert scored["base"][0]["loss"] > 1


@pytest.mark.parametrize("encoding", ["F16", "Q8_0", "Q4_K_M"])
def test_every_file_says_them_word_for_word_and_stops(run: Run, encoding: str, goal: Reached) -> None:
    (path,) = run.export.glob(f"*-{encoding}.gguf")
    answers = _answers(path)
    right = sum(answer == (said, True) for answer, (_, said) in zip(answers, ROWS, strict=True))
    goal("export", f"{encoding}: {right}/{len(ROWS)} answers word for word, ending by themselves")
    book = json.loads((run.export / "proof.json").read_text(encoding="utf-8"))
    for check in book["files"][path.name]["checks"]:
        if check["name"] in ("tokens", "file"):
            goal("export", f"{encoding}: {check['text']}")
    assert answers == [(said, True) for _, said in ROWS]


def test_the_base_says_none_of_them(run: Run, tmp_path: Path) -> None:
    made = InProcess(run.folder.parent)("export", MODEL, "--gguf", "F16", "--no-proof", "-o", tmp_path)
    assert made.code == 0, made.err
    (path,) = tmp_path.glob("*.gguf")
    assert not {said for _, said in ROWS} & {text for text, _ in _answers(path)}


def _answers(path: Path) -> list[tuple[str, bool]]:
    """What `localtune chat` would say to every question, and whether it stopped by itself."""
    found = []
    with LlamaServer(path, context=512, threads=1, exact=False) as server:
        for asked, _ in ROWS:
            reply, text = server.chat([{"role": "user", "content": asked}], tokens=40), ""
            try:
                while True:
                    text += next(reply)
            except StopIteration as stop:
                found.append((text, stop.value.stopped))
    return found
