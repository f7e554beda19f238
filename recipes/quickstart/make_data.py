"""Make the quickstart's data: requests, each answered by one line of JSON.

    python recipes/quickstart/make_data.py

With seed 11, in less than a second, it writes 1,000 rows to `train.jsonl`, 100 to
`valid.jsonl` and 200 to `test.jsonl`, over six intents with two slots each. No slot value of
the test is in the other two files or in the pretraining text's slots. Of the test rows 120
have sentences that `train.jsonl` has too, with other values (`"group": "known-phrasing"`),
and 80 have sentences that are nowhere else (`"group": "unseen-phrasing"`).
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from phrases import INTENTS, Domain
from words import Part, draw

FOLDER = Path(__file__).parent
SEED = 11
MADE_UP = 0.25
TRAIN_ROWS, VALID_ROWS = 1000, 100
KNOWN_PHRASING_ROWS, UNSEEN_PHRASING_ROWS = 120, 80

Row = dict[str, object]


def fill(rng: random.Random, domain: Domain, part: Part) -> dict[str, str]:
    """A value for each slot, no value twice."""
    while True:
        values = {}
        for key, pool in domain.slots.items():
            # Groceries and timers read best with words that exist.
            made_up = 0.0 if pool in ("item", "label", "place", "title") else MADE_UP
            values[key] = draw(rng, pool, made_up, part)
        if len(set(values.values())) == len(values):
            return values


def json_line(intent: str, domain: Domain, values: dict[str, str]) -> str:
    """The wanted answer; counts are numbers, all else is text."""
    slots = {key: int(values[key]) if pool == "number" else values[key] for key, pool in domain.slots.items()}
    return json.dumps({"intent": intent, **slots}, ensure_ascii=False)


def make_row(request: str, answer: str) -> Row:
    """Return a row in the chat format."""
    return {"messages": [{"role": "user", "content": request}, {"role": "assistant", "content": answer}]}


def make_rows(rng: random.Random, count: int, part: Part, unseen_phrasing: bool = False) -> list[Row]:
    """Rows spread evenly over the intents, no request twice."""
    rows: list[Row] = []
    taken: set[str] = set()
    while len(rows) < count:
        intent = list(INTENTS)[len(rows) % len(INTENTS)]
        domain = INTENTS[intent]
        values = fill(rng, domain, part)
        request = rng.choice(domain.unseen if unseen_phrasing else domain.known).format(**values)
        if request not in taken:
            taken.add(request)
            rows.append(make_row(request, json_line(intent, domain, values)))
    rng.shuffle(rows)
    return rows


def slot_values(rows: list[Row]) -> set[str]:
    """Return all slot values of the rows."""
    values: set[str] = set()
    for row in rows:
        messages = row["messages"]
        assert isinstance(messages, list)
        answer = json.loads(messages[1]["content"])
        values |= {str(value) for key, value in answer.items() if key != "intent"}
    return values


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write one row per line."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    print(f"{path.name}: {len(rows)} rows")


def test_rows(rng: random.Random) -> list[Row]:
    """Return the rows of both groups of the test."""
    known = make_rows(rng, KNOWN_PHRASING_ROWS, Part.TEST)
    unseen = make_rows(rng, UNSEEN_PHRASING_ROWS, Part.TEST, unseen_phrasing=True)
    marked = [row | {"group": "known-phrasing"} for row in known]
    return marked + [row | {"group": "unseen-phrasing"} for row in unseen]


def make_all(seed: int) -> dict[str, list[Row]]:
    """Return the rows of the three files."""
    rng = random.Random(seed)
    train = make_rows(rng, TRAIN_ROWS, Part.TRAIN)
    valid = make_rows(rng, VALID_ROWS, Part.VALID)
    test = test_rows(rng)
    shared = (slot_values(train) | slot_values(valid)) & slot_values(test)
    if shared:
        raise ValueError(f"values of the test in train or valid: {sorted(shared)}")
    return {"train": train, "valid": valid, "test": test}


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description="Make the quickstart's data.")
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    for name, rows in make_all(SEED).items():
        write_rows(arguments.out / f"{name}.jsonl", rows)


if __name__ == "__main__":
    main()
