"""How far packed examples are from the same examples alone, at 4,096 and 8,192 tokens in a row.

    python tests/bench/packing.py [mlx|torch]     (a minute or two on a processor)

Two tiny random models in float32, one with sliding windows. Printed for each length: the largest difference of a
log-probability, in units of the largest logit where that is above 1, and whether altering one example changed a bit of
the others' scores.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from localtune.adapter import Lora
from localtune.backend import Backend, MemorySpec, OptimizerSpec, Precision, Session, load_backend
from localtune.batch import Batch, Floats, Segment
from localtune.model import ModelFiles
from localtune.objectives import SFT
from tests.contract.conftest import OTHERS, files_of, make_model, rows_of

LENGTHS = (1024, 4096, 8192)
FAMILIES = ("llama-long", "gemma3-long")


def texts(total: int) -> list[Segment]:
    """Random texts of 1 to `total` / 3 tokens that fill `total`; the last token of each is its only target."""
    generator = np.random.default_rng(total)
    found: list[Segment] = []
    left = total
    while left > 1:
        length = min(left, int(generator.integers(2, total // 3)))
        weights = np.where(np.arange(length) == length - 1, 1, 0).astype(np.float32)
        found.append(Segment(generator.integers(3, 96, length).astype(np.int32), weights, len(found)))
        left -= length
    return found


def opened(backend: Backend, files: ModelFiles) -> Session:
    """A session in float32."""
    plain = Precision("float32", "float32")
    memory, optimizer = MemorySpec(0), OptimizerSpec()
    return backend.open(
        files, Lora(4, 8.0), None, precision=plain, objective=SFT, optimizer=optimizer, memory=memory, seed=7
    )


def measured(session: Session, total: int) -> tuple[float, bool]:
    """The largest difference of packed from alone, and whether a change of one text reached another."""
    parts = texts(total)
    packed = scores(session, rows_of(parts))
    alone = np.array([scores(session, rows_of([one]))[0] for one in parts])
    logits = [session.logits(one.tokens.tolist(), [len(one.tokens) - 2]) for one in parts]
    scale = max(1.0, *(float(np.abs(one).max()) for one in logits))
    middle = len(parts) // 2
    turned = replace(parts[middle], tokens=parts[middle].tokens[::-1].copy())
    after = scores(session, rows_of([*parts[:middle], turned, *parts[middle + 1 :]]))
    others = np.arange(len(parts)) != middle
    return float(np.max(np.abs(packed - alone))) / scale, bool(np.any(packed[others] != after[others]))


def scores(session: Session, batch: Batch) -> Floats:
    """Negative log-likelihood of each text."""
    return session.score(batch).nll


def main() -> None:
    """Print a line per family and length."""
    backend = load_backend(sys.argv[1] if len(sys.argv) > 1 else "mlx")
    print("family       tokens  packed - alone  leak")
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            files = files_of(make_model(OTHERS[family], Path(folder) / family))
            with opened(backend, files) as session:
                for total in LENGTHS:
                    gap, leak = measured(session, total)
                    print(f"{family:12} {total:6}  {gap:14.1e}  {'yes' if leak else 'none'}", flush=True)


if __name__ == "__main__":
    main()
