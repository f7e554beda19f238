"""One parser fed with many inputs, in a process of its own: `python -m tests.faults.fuzz.run TARGET COUNT REPORT`.

With atheris (`pip install atheris`, for Python 3.11 to 3.13 on Linux and macOS) the inputs are led by what the parser's
own code reaches; without it a seeded generator of ours makes as many. Either way it writes to the file REPORT how many
there were, and ends at the first that the parser may not answer so: another exception than it says, more than
`SECONDS` of the processor's time, more than `GROWTH` bytes beside what it held at the start.
"""

import importlib
import json
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

from tests.faults.fuzz.mutation import LONGEST, random_input

SECONDS, GROWTH = 2.0, 256 * 2**20
_UNIT = 1 if sys.platform == "darwin" else 1024
"""Of what the system says of the largest memory."""
_OURS_OF = 4
"""One in so many inputs of atheris is made by our own changes, which keep the form of JSON more often."""


class Fuzzing:
    """Counts and measures."""

    def __init__(self, name: str, count: int, report: Path, how: str) -> None:
        from tests.faults.fuzz.targets import TARGETS, TEMPORARY

        self._temporary = TEMPORARY
        self.target = next(target for target in TARGETS if target.name == name)
        self.count, self.report, self.how = count, report, how
        self.inputs = self.read = 0
        self.slowest = 0.0
        self._began, self._held = time.monotonic(), self._largest()

    def one(self, data: bytes) -> None:
        """Feed one input; the process ends with the last, or with what must not happen."""
        began = time.process_time()
        try:
            self.read += self.target.run(data)
        except BaseException as error:
            self._end(f"{type(error).__name__}: {error}"[:300], data)
        self.inputs += 1
        self.slowest = max(self.slowest, time.process_time() - began)
        if self.slowest > SECONDS:
            self._end(f"took {self.slowest:.1f} s", data)
        if self._largest() - self._held > GROWTH:
            self._end("memory has grown too much", data)
        if self.inputs >= self.count:
            self._end("", b"")

    def _largest(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT

    def _end(self, fault: str, data: bytes) -> NoReturn:
        found: dict[str, Any] = {"target": self.target.name, "how": self.how, "inputs": self.inputs, "read": self.read}
        found |= {"seconds": time.monotonic() - self._began, "slowest": self.slowest, "fault": fault}
        found |= {"grown": self._largest() - self._held, "data": data.hex()}
        self.report.write_text(json.dumps(found), encoding="utf-8")
        self._temporary.cleanup()
        os._exit(1 if fault else 0)


def main() -> None:
    """Feed the parser that the command line names."""
    name, count, report = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    os.environ.pop("RUST_BACKTRACE", None)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Rust tells of every panic that is caught
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        _by_ourselves(Fuzzing(name, count, report, "own generator"))
    with atheris.instrument_imports(include=["localtune"]):
        fuzzing = Fuzzing(name, count, report, "atheris")
    _by_atheris(atheris, fuzzing)


def _by_ourselves(fuzzing: Fuzzing) -> NoReturn:
    generator = random.Random(fuzzing.target.name)
    while True:
        fuzzing.one(random_input(fuzzing.target.seeds, generator))


def _by_atheris(atheris: Any, fuzzing: Fuzzing) -> None:
    seeds = fuzzing.target.seeds

    def changed(data: bytes, most: int, seed: int) -> bytes:
        generator = random.Random(seed)
        if generator.randrange(_OURS_OF):
            return bytes(atheris.Mutate(data, most))
        return random_input((data, *seeds), generator)[:most]

    folder = Path(tempfile.mkdtemp(prefix="localtune-seeds-"))
    for number, seed in enumerate(seeds):
        (folder / str(number)).write_bytes(seed)
    flags = [f"-runs={2 * fuzzing.count}", f"-max_len={LONGEST}", "-rss_limit_mb=0", "-timeout=600", "-verbosity=0"]
    atheris.Setup(["fuzz", *flags, f"-artifact_prefix={folder}/", str(folder)], fuzzing.one, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
