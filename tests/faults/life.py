"""A user's life with localtune below a planted home folder, with planted tokens, and every socket noted."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tests.command import MODEL, ROOT, short

GUARD = Path(__file__).parent / "guarded"
HOME = "planted-home"
"""A part of the home folder's path that stands nowhere else."""
TOKENS = {
    "HF_TOKEN": "hf_PlantedPlantedPlantedPlanted1234",
    "HUGGING_FACE_HUB_TOKEN": "planted-token-of-the-hub",
    "WEATHER_API_KEY": "planted.key+of/1(service)",
    "AWS_SECRET": "planted secret with 3 blanks",
}
ON_DISK = "planted-token-on-disk"
SECRETS = (HOME, *TOKENS.values(), ON_DISK)


@dataclass(frozen=True)
class Said:
    """A command line, how it ended and what it printed."""

    arguments: list[str]
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Leak:
    """A secret where it should not be."""

    secret: str
    where: str
    text: str


@dataclass(frozen=True)
class Life:
    """A home folder in `folder`, with a model, rows, and whatever was made below it."""

    folder: Path

    @property
    def home(self) -> Path:
        """The planted home folder."""
        return self.folder / HOME / "Ann Lee"

    @property
    def work(self) -> Path:
        """Where commands are given."""
        return self.home / "my work"

    @property
    def model(self) -> Path:
        """A model's folder below the home folder."""
        return self.home / "models" / "small"

    @property
    def notes(self) -> Path:
        """One line for each socket that was opened."""
        return self.folder / "sockets.txt"

    def begin(self) -> "Life":
        """Make the home folder; returns itself."""
        shutil.copytree(MODEL, self.model)
        self.work.mkdir()
        self.short_run()
        token = self.home / ".cache" / "huggingface" / "token"
        token.parent.mkdir(parents=True)
        token.write_text(ON_DISK + "\n")
        return self

    def short_run(self) -> list[str]:
        """Arguments of a run of two updates; its data is written."""
        data, _, _, *settings = short(self.work, steps=2)
        return [data, "-m", str(self.model), *settings]

    @property
    def rows(self) -> Path:
        """The data of that run."""
        return self.work / "rows.jsonl"

    def verbs(self, *lines: Sequence[str | Path], redacted: bool = True, loopback: bool = False) -> list[Said]:
        """Give these command lines, one after the other."""
        asked = {"redacted": redacted, "lines": [[str(word) for word in line] for line in lines]}
        child = subprocess.run(
            [sys.executable, "-P", "-m", "tests.faults.verbs"],
            input=json.dumps(asked),
            capture_output=True,
            encoding="utf-8",
            cwd=self.work,
            env=self.environment(loopback=loopback),
            check=False,
        )
        assert child.returncode == 0, child.stderr
        return [Said(**said) for said in json.loads(child.stdout)]

    def environment(self, *, loopback: bool = False) -> dict[str, str]:
        """Of every process: nothing says where to look or that there is no network."""
        own = ("LOCALTUNE_", "HF_", "HUGGING", "XDG_", "SOCKETS_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        path = os.pathsep.join(map(str, (GUARD, ROOT, ROOT / "backends", ROOT / "tui")))
        planted = TOKENS | {"HOME": str(self.home), "USERPROFILE": str(self.home), "PYTHONPATH": path}
        noted = {"SOCKETS_NOTED": str(self.notes)} | ({"SOCKETS_LOOPBACK": "1"} if loopback else {})
        return kept | planted | noted | {"OMP_NUM_THREADS": "1"}

    def sockets(self) -> list[str]:
        """Who opened one, and what called."""
        return self.notes.read_text(encoding="utf-8").splitlines() if self.notes.exists() else []

    def files(self) -> list[Path]:
        """Everything written, but for the model and the token that were there."""
        there = [path for path in sorted(self.home.rglob("*")) if path.is_file()]
        return [path for path in there if self.model not in path.parents and "huggingface" not in path.parts]


def printed(said: Sequence[Said]) -> Iterator[Leak]:
    """Secrets in what was printed."""
    for one in said:
        for stream, text in (("stdout", one.out), ("stderr", one.err)):
            yield from _found(text, f"{stream} of {' '.join(one.arguments[:2])}")


def written(life: Life, home_in: Sequence[str]) -> Iterator[Leak]:
    """Secrets in files; those that match one of `home_in` may name the home folder, but no token."""
    for path in life.files():
        name = path.relative_to(life.home).as_posix()
        for leak in _found(path.read_bytes().decode("utf-8", "replace"), name):
            if leak.secret != HOME or not any(fnmatch(name, pattern) for pattern in home_in):
                yield leak


def _found(text: str, where: str) -> Iterator[Leak]:
    for secret in SECRETS:
        at = text.find(secret)
        if at >= 0:
            yield Leak(secret, where, text[max(0, at - 100) : at + 100])
