"""Make the quickstart's data: requests, each answered by one line of JSON."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from phrases import INTENTS, Domain
from words import draw

FOLDER = Path(__file__).parent
SEED = 11
MADE_UP = 0.25
TRAIN_ROWS, VALID_ROWS = 1000, 100
KNOWN_PHRASING_ROWS, UNSEEN_PHRASING_ROWS = 120, 80

Row = dict[str, object]


def fill(rng: random.Random, domain: Domain, unseen: bool) -> dict[str, str]:
    """A value for each slot, no value twice."""
    while True:
        values = {}
        for key, pool in domain.slots.items():
            # Groceries and timers read best with words that exist.
            made_up = 0.0 if pool in ("item", "label", "place", "title") else MADE_UP
            values[key] = draw(rng, pool, made_up, unseen)
        if len(set(values.values())) == len(values):
            return values


def json_line(intent: str, domain: Domain, values: dict[str, str]) -> str:
    """The wanted answer; counts are numbers, all else is text."""
    slots = {key: int(values[key]) if pool == "number" else values[key] for key, pool in domain.slots.items()}
    return json.dumps({"intent": intent, **slots}, ensure_ascii=False)


def make_row(request: str, answer: str) -> Row:
    return {"messages": [{"role": "user", "content": request}, {"role": "assistant", "content": answer}]}


def make_rows(rng: random.Random, count: int, unseen_values: bool, unseen_phrasing: bool, taken: set[str]) -> list[Row]:
    """Rows spread evenly over the intents, no request twice."""
    rows: list[Row] = []
    while len(rows) < count:
        intent = list(INTENTS)[len(rows) % len(INTENTS)]
        domain = INTENTS[intent]
        values = fill(rng, domain, unseen_values)
        request = rng.choice(domain.unseen if unseen_phrasing else domain.known).format(**values)
        if request not in taken:
            taken.add(request)
            rows.append(make_row(request, json_line(intent, domain, values)))
    rng.shuffle(rows)
    return rows


def slot_values(rows: list[Row]) -> set[str]:
    values: set[str] = set()
    for row in rows:
        messages = row["messages"]
        assert isinstance(messages, list)
        answer = json.loads(messages[1]["content"])
        values |= {str(value) for key, value in answer.items() if key != "intent"}
    return values


def write_rows(path: Path, rows: list[Row]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    print(f"{path.name}: {len(rows)} rows")


def make_all(seed: int) -> dict[str, list[Row]]:
    rng, taken = random.Random(seed), set[str]()
    seen = make_rows(rng, TRAIN_ROWS + VALID_ROWS, False, False, taken)
    known = make_rows(rng, KNOWN_PHRASING_ROWS, True, False, taken)
    unseen = make_rows(rng, UNSEEN_PHRASING_ROWS, True, True, taken)
    test = [row | {"group": "known-phrasing"} for row in known] + [row | {"group": "unseen-phrasing"} for row in unseen]
    shared = slot_values(seen) & slot_values(test)
    if shared:
        raise ValueError(f"values in both parts: {sorted(shared)}")
    return {"train": seen[:TRAIN_ROWS], "valid": seen[TRAIN_ROWS:], "test": test}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the quickstart's data.")
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    for name, rows in make_all(SEED).items():
        write_rows(arguments.out / f"{name}.jsonl", rows)


if __name__ == "__main__":
    main()
