"""Speed and memory of the data path, as ratios of one run.

    python tests/bench/data.py [tokenise] [pack] [start] [check] [--model FOLDER] [--rows FILE --key PROMPT,ANSWER]

tokenise: rows to batches (template, ids, masks, lengths, packing, padding) beside a bare `encode_batch` of the
`tokenizers` library over the same rendered text; 1.0 = as fast. pack: padding and batches of an epoch, packed and not.
start: `localtune plan` over 100,000 rows twice, the second time from the cache. check: `localtune data check` over a
gigabyte, with the peak of resident memory summed over its processes (shared pages count in each). Rows are made here
where none are given.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import tokenizers

from localtune.batch import Segment
from localtune.data.conversations import Conversation, Example, Message
from localtune.data.fit import Fitted, fit
from localtune.data.order import update_examples, updates_per_epoch
from localtune.data.packing import arrange, micro_batches, positions
from localtune.data.parts import Tokenised
from localtune.data.rendering import Rendering, blocks
from localtune.data.rows import Place
from localtune.data.tokenizer import Tokenizer

QUICKSTART = Path(__file__).parents[2] / "recipes/quickstart/model"
FEWEST, REPEATS = 20_000, int(os.environ.get("BENCH_REPEATS", "3"))
GIGABYTE = int(os.environ.get("BENCH_BYTES", str(10**9)))
MANY = int(os.environ.get("BENCH_ROWS", "100000"))
TEXT = (
    "the of and to in is that it was for on are as with his they at be this have from or one had by word but not what "
    "all were we when your can said there use an each which she do how their if will up other about out many then them "
    "these so some her would make like him into time has look two more write go see number no way could people my than "
    "first water been call who oil its now find long down day did get come made may part 1 2 3 17 2026 값 오늘 친구 été"
)
WORDS = TEXT.split()


def made(rows: int, seed: int = 1) -> Iterator[tuple[str, str]]:
    """Prompts and answers of 10 to 150 words."""
    draw = random.Random(seed)
    for _ in range(rows):
        yield tuple(" ".join(draw.choices(WORDS, k=draw.randint(10, 150))) for _ in range(2))  # type: ignore[misc]


def given(path: Path, keys: str) -> Iterator[tuple[str, str]]:
    """Prompts and answers of a JSONL file."""
    prompt, answer = keys.split(",")
    for line in path.read_text("utf-8").split("\n"):
        if line:
            row = json.loads(line)
            yield row[prompt], row[answer]


def examples(pairs: Iterator[tuple[str, str]]) -> list[Example]:
    """As conversations of two turns."""
    return [
        Conversation(Place("rows.jsonl", line), (Message("user", asked), Message("assistant", said)))
        for line, (asked, said) in enumerate(pairs, start=1)
    ]


def segments_of(tokenizer: Tokenizer, rows: Sequence[Example], max_tokens: int) -> list[Segment]:
    """Rendered, tokenised, masked and cut, on all cores; starting the processes included."""
    with Rendering(tokenizer, learn="answers") as rendering:
        return fitted_by(rendering, rows, max_tokens)


def fitted_by(rendering: Rendering, rows: Sequence[Example], max_tokens: int) -> list[Segment]:
    """The same by processes that may have started."""
    done: list[Segment] = []
    for row in itertools.chain.from_iterable(rendering.render(blocks(rows))):
        fitted = fit(row, max_tokens, "cut") if isinstance(row, Tokenised) else row
        done += fitted.row.segments if isinstance(fitted, Fitted) else ()
    return done


def updates(count: int, batch_size: int) -> Iterator[list[int]]:
    """Indices of each update of an epoch."""
    for step in range(updates_per_epoch(count, batch_size)):
        yield update_examples(step + 1, count=count, batch_size=batch_size, seed=42).indices.tolist()


def tokenise(folder: Path, rows: Sequence[Example]) -> None:
    """Print the speed of rows to batches beside that of `encode_batch` alone; the best of some repeats each."""
    tokenizer = Tokenizer(folder)
    rows = [*rows] * -(-FEWEST // len(rows))
    segments = segments_of(tokenizer, rows, 2**20)
    bare = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = bare.decode_batch([segment.tokens.tolist() for segment in segments], skip_special_tokens=False)
    took: dict[str, list[float]] = {"ids": [], "batches": [], "bare": []}
    began = time.perf_counter()
    rendering = Rendering(tokenizer, learn="answers")
    fitted_by(rendering, rows, 2048)
    started = time.perf_counter() - began
    for _ in range(REPEATS):
        began = time.perf_counter()
        segments = fitted_by(rendering, rows, 2048)
        took["ids"].append(time.perf_counter() - began)
        for chosen in updates(len(segments), 8):
            micro_batches([segments[i] for i in chosen], 2048, 4, packed=True)
        took["batches"].append(time.perf_counter() - began)
        began = time.perf_counter()
        encoded = bare.encode_batch(texts, add_special_tokens=False)
        took["bare"].append(time.perf_counter() - began)
    tokens = sum(len(one.ids) for one in encoded)
    ours, theirs = min(took["batches"]), min(took["bare"])
    print(f"tokenise  {len(rows):,} rows, {tokens:,} tokens: bare {theirs:.2f} s, rows to batches {ours:.2f} s")
    rendering.close()
    print(f"          of bare speed: {theirs / ours:.2f}; without packing {theirs / min(took['ids']):.2f}")
    print(f"          starting the processes took {max(0.0, started - min(took['ids'])):.1f} s more, once")


def pack(folder: Path, rows: Sequence[Example]) -> None:
    """Print padding and batches per update, and the seconds packing takes."""
    lengths = [len(segment.tokens) for segment in segments_of(Tokenizer(folder), rows, 2048)]
    print(f"pack      {len(lengths):,} rows, padding of an epoch; not packed: sorted within an update, as they come")
    for longest, batch_size, most in itertools.product((512, 2048), (8, 32), (1, 2, 4, 8)):
        sums, batches, seconds = [0, 0, 0, 0], 0, 0.0
        for chosen in updates(len(lengths), batch_size):
            update = [min(lengths[i], longest) for i in chosen]
            began = time.perf_counter()
            shares = arrange(update, longest, most, packed=True)
            seconds += time.perf_counter() - began
            batches += len(shares)
            alone = [[i] for i in range(len(update))]
            in_order = [alone[at : at + most] for at in range(0, len(alone), most)]
            ways = (shares, arrange(update, longest, most, packed=False), in_order)
            sums = [a + b for a, b in zip(sums, (sum(update), *(positions(way, update) for way in ways)), strict=True)]
        shown = "  ".join(f"{1 - sums[0] / total:6.1%}" for total in sums[1:])
        count = updates_per_epoch(len(lengths), batch_size)
        print(
            f"          max_tokens {longest:5} batch_size {batch_size:3} rows {most}: {shown}  "
            f"{batches / count:.2f} batches an update, {1e5 * seconds / len(lengths):.2f} s per 100,000 rows"
        )


def write_rows(path: Path, *, rows: int | None = None, size: int | None = None) -> None:
    """A JSONL file of so many rows or bytes."""
    block = [json.dumps({"prompt": p, "completion": c}, ensure_ascii=False) for p, c in made(rows or 20_000)]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for number in itertools.count():
            file.writelines(f'{line[:-1]}, "id": "{number}-{i}"}}\n' for i, line in enumerate(block))
            if size is None or file.tell() >= size:
                return


def measured(command: Sequence[str], environment: dict[str, str]) -> tuple[float, int, int]:
    """Seconds, peak resident bytes of the process and its children together, and the exit status."""
    began, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, _resident(process.pid))
        time.sleep(0.05)
    return time.perf_counter() - began, peak, process.returncode


def _resident(pid: int) -> int:
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.Error:  # it has just ended
        pass
    return total


def start(folder: Path) -> None:
    """Print how long a plan over many rows takes, first and again."""
    with tempfile.TemporaryDirectory() as temporary:
        write_rows(Path(temporary, "rows.jsonl"), rows=MANY)
        places = {"LOCALTUNE_CACHE": f"{temporary}/cache", "LOCALTUNE_RUNS": f"{temporary}/runs"}
        command = [sys.executable, "-m", "localtune", "plan", f"{temporary}/rows.jsonl", "-m", str(folder)]
        (first, _, status), (second, peak, again) = measured(command, places), measured(command, places)
    print(f"start     {MANY:,} rows: first {first:.1f} s, second {second:.2f} s, ratio {first / second:.1f}; "
          f"peak {peak / 1e6:.0f} MB, exit {status} and {again}")  # fmt: skip


def check() -> None:
    """Print speed and memory of looking a large file over."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "rows.jsonl")
        write_rows(path, size=GIGABYTE)
        size = path.stat().st_size
        command = [sys.executable, "-m", "localtune", "data", "check", str(path)]
        seconds, peak, status = measured(command, {"LOCALTUNE_CACHE": f"{temporary}/cache"})
    print(f"check     {size / 1e6:,.0f} MB in {seconds:.1f} s = {size / 1e6 / seconds:.1f} MB/s, "
          f"peak of all processes {peak / 1e6:.0f} MB, exit {status}")  # fmt: skip


def main() -> None:
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["tokenise", "pack", "start", "check", []], metavar="PART")
    parser.add_argument("--model", type=Path, default=QUICKSTART, help="a folder with a tokenizer; start: a model")
    parser.add_argument("--rows", type=Path, help="JSONL rows for tokenise and pack")
    parser.add_argument("--key", default="prompt,completion", help="the two keys of a row")
    flags = parser.parse_args()
    parts = flags.parts or ["tokenise", "pack", "start", "check"]
    rows = examples(given(flags.rows, flags.key) if flags.rows else made(5_000))
    for name, run in (("tokenise", tokenise), ("pack", pack)):
        if name in parts:
            run(flags.model, rows)
    if "start" in parts:
        start(flags.model)
    if "check" in parts:
        check()


if __name__ == "__main__":
    main()
