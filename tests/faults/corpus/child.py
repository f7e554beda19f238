"""Opens every case in a process of its own that is watched: `python -m tests.faults.corpus.child FOLDER REPORT`.

An audit hook writes down what a case does beyond reading its own folder and this program: running code that lies in its
folder, starting processes, asking the network, writing files, opening pickles or files of this machine. A canary tells
whether an attack ran. Time is the processor's; memory is what was held at most beyond the beginning of the case.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localtune.adapter import read_peft_config, read_updates
from localtune.data.reading import find
from localtune.data.rows import BadRows
from localtune.data.shapes import examples
from localtune.data.template import ChatTemplate, Refused
from localtune.data.tokenizer import Tokenizer
from localtune.errors import LocaltuneError, Problem
from localtune.export.read import read_gguf
from localtune.merging import merge
from localtune.model import resolve
from localtune.model.hub import refuse_names
from localtune.recipe import load
from localtune.settings import DataSettings
from tests.faults.corpus.case import Case
from tests.faults.corpus.files import FILES
from tests.faults.corpus.models import MODELS
from tests.faults.corpus.weights import WEIGHTS
from tests.faults.fuzz import seeds

CASES = MODELS | WEIGHTS | FILES
_NEVER = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.remove", "os.rename", "os.chmod", "os.link"),
    *("os.symlink", "subprocess.", "socket.", "pickle.", "shutil.", "ctypes.", "webbrowser.", "urllib."),
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class Watch:
    """What happens while it is on."""

    def __init__(self) -> None:
        self.folders: tuple[str, ...] = ()
        """What a case may read."""
        self.on = False
        self.seen: list[str] = []
        self.program = tuple({root for root in (sys.prefix, sys.base_prefix, *sys.path, "/proc/", "/sys/") if root})
        sys.addaudithook(self)

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        """Write down what may not be."""
        if not self.on:
            return
        if event.startswith(_NEVER):
            self.seen.append(f"{event} {str(given)[:200]}")
        elif event == "exec" and given[0].co_filename.startswith(self.folders):
            self.seen.append(f"exec {given[0].co_filename}")
        elif event == "open" and isinstance(given[0], str):
            self._opened(given[0], given[1], given[2])

    def _opened(self, path: str, mode: str | None, flags: int) -> None:
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or (mode and set(mode) & set("wax+"))
        inside = path.startswith((*self.folders, *self.program)) or not os.path.isabs(path)
        if writes or not inside or path.endswith(_PICKLES):
            self.seen.append(f"open {path} {mode}")


def _model(folder: Path) -> None:
    resolve(str(folder), folder, offline=True)
    tokenizer = Tokenizer(folder)
    tokenizer.encode("a b", special=True)
    assert tokenizer.vocabulary


def _adapter(folder: Path) -> None:
    read_updates(folder, read_peft_config(folder))


def _data(folder: Path) -> None:
    name = next(path.name for path in folder.iterdir())
    bad = BadRows("skip")
    _, found = examples(find(name, folder).rows(bad), DataSettings(train=name), bad)
    rows = sum(1 for _ in found)
    bad.check(rows + bad.count, name)


def _template(folder: Path) -> None:
    source = (folder / "template").read_bytes().decode("utf-8", "surrogatepass")
    before = json.dumps(seeds.TURNS)
    try:
        text = ChatTemplate(source, {"bos_token": "<s>"}).render(seeds.TURNS).text
    except (Refused, LocaltuneError):
        text = ""
    assert json.dumps(seeds.TURNS) == before
    assert not [word for word in ("<class", "<function", "__builtins__", "<module", "root:") if word in text]


def _names(folder: Path) -> None:
    refuse_names("org/x", ["config.json", (folder / "name").read_bytes().decode()])


OPENERS: dict[str, Callable[[Path], object]] = {
    "model": _model,
    "adapter": _adapter,
    "gguf": lambda folder: read_gguf(folder / "x.gguf"),
    "data": _data,
    "recipe": lambda folder: load(folder / "recipe.yaml", environ={}),
    "template": _template,
    "names": _names,
    "encode": lambda folder: Tokenizer(folder).encode("a" * 2000 + "b", special=True),
    "merge": lambda folder: merge([folder, folder], folder / "merged", how="ties"),
}


def opened(case: Case, folder: Path, canary: Path, watch: Watch) -> dict[str, Any]:
    """How one case ended."""
    case.build(folder, canary)
    watch.folders, watch.seen = (str(folder), str(folder.parent / "models--")), []
    ended, text = "", ""
    held, began = _memory("VmRSS"), time.process_time()
    watch.on = True
    try:
        OPENERS[case.opener](folder)
    except LocaltuneError as error:
        ended, text = error.problems[0].code, str(error)
    except BaseException as error:
        ended = text = f"{type(error).__name__}: {error}"[:300]
    watch.on = False
    seconds, most = time.process_time() - began, _memory("VmHWM")
    return {"ended": ended, "text": text, "seconds": seconds, "memory": most - held, "did": watch.seen,
            "ran": canary.exists()}  # fmt: skip


def _memory(name: str) -> int:
    """Bytes that are held now, or were at most since this was last asked; 0 where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return 0
    with open("/proc/self/status", encoding="ascii") as file:
        found = next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    return found


def main() -> None:
    """Open all of them."""
    os.environ.pop("RUST_BACKTRACE", None)
    str(LocaltuneError(Problem("warm", "up")))  # what is read once to say anything at all
    watch, found = Watch(), {}
    for number, (name, case) in enumerate(CASES.items()):
        folder = Path(sys.argv[1]) / str(number) / "x"
        folder.parent.mkdir()
        found[name] = opened(case, folder, Path(sys.argv[1]) / f"canary-{number}", watch)
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
