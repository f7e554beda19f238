"""A file on this machine: found by a few letters below a folder, or gone to through the folders.

Hidden files stay hidden, files that fit come first, links are not followed, and a walk ends after a few seconds or
thousands of names, whatever lies there.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DirectoryTree, Input, OptionList
from textual.widgets.directory_tree import DirEntry
from textual.widgets.tree import TreeNode

from localtune.settings import is_hub_data
from localtune.sizes import readable
from localtune_tui.modals.pick import Entry, Pick, fits
from localtune_tui.text import shown

DATA = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".txt", ".md", ".gz")
RECIPES = (".yaml", ".yml")
SKIPPED = ("node_modules", "__pycache__", "site-packages", "venv")
MOST_FILES, MOST_NAMES, MOST_SECONDS = 5_000, 200_000, 4.0
"""A walk ends at the first of them."""
MOST_IN_FOLDER = 500
"""Names that the tree shows of one folder."""


class PickFile(Pick):
    """Comes back with a path, or a data set of the hub as it was typed."""

    HELP = (
        "Type a few letters of the file's name, or a path. Up and Down choose, Enter takes it. "
        "Tab shows the folders as a tree instead. Escape closes the dialog."
    )
    DEFAULT_CSS = """
    PickFile Tree { display: none; height: 1fr; background: transparent; }
    PickFile.-tree Tree { display: block; }
    PickFile.-tree OptionList { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "tree", "Tree", id="pick.tree", priority=True, tooltip="Go through folders instead of typing."),
        Binding(
            "backspace", "above", "Folder above", show=False, id="pick.above", tooltip="In the tree: one folder up."
        ),
    ]

    def __init__(
        self,
        folder: Path,
        suffixes: tuple[str, ...] = DATA,
        *,
        question: str = "Which file?",
        first: Sequence[Entry] = (),
        typed: str = "",
    ) -> None:
        super().__init__(typed)
        self.question = question
        self.placeholder = "letters of its name, or a path"
        self._folder, self.suffixes, self._first = folder, suffixes, first
        self._files: list[str] | None = None

    def found(self, typed: str, gone: Callable[[], bool]) -> Sequence[Entry]:
        """What `first` and the folder hold; of a path that is typed, what its folder holds."""
        typed = typed.strip()
        if "/" in typed or typed.startswith("~") or os.sep in typed:
            return self._below(Path(os.path.expanduser(typed)), typed)
        if self._files is None:
            self.say(f"looking below {self._folder} …")
            files = list(walk(self._folder, self.suffixes, gone))
            if gone():
                return ()
            self._files = files
            self.say("" if files or self._first else f"no such file below {self._folder}; type a path, or Tab")
        ranked = [(fit, entry) for entry in self._first if (fit := fits(typed, entry.label)) is not None]
        names = [(fit, name) for name in self._files if (fit := fits(typed, name)) is not None]
        names.sort(key=lambda pair: (pair[0] if typed else pair[1].count(os.sep), pair[1]))
        below = [Entry(str(self._folder / name), name, _size(self._folder / name)) for _, name in names[:100]]
        return [*(entry for _, entry in ranked), *below]

    def taken(self, typed: str) -> str | None:
        """A file that is there, or what may be a data set of the hub."""
        path = Path(os.path.expanduser(typed.strip()))
        if typed.strip() and (path.is_file() or (path.is_dir() and self.suffixes == DATA)):
            return str(path)
        if self.suffixes == DATA and is_hub_data(typed.strip()):
            return typed.strip()
        self.say("there is no such file")
        return None

    def take(self, value: str | None) -> None:
        """Go into a folder, take a file."""
        if value and value.endswith(os.sep):
            field = self.query_one(Input)
            field.value = value
            field.cursor_position = len(value)
        else:
            super().take(value)

    async def action_tree(self) -> None:
        """Show the folders, or the list again."""
        self.toggle_class("-tree")
        if not self.has_class("-tree"):
            self.query_one(Input).focus()
            return
        if not self.query(Folders):
            await self.mount(Folders(self._folder, self.suffixes), after=self.query_one(OptionList))
        self.query_one(Folders).focus()

    def action_above(self) -> None:
        """The folder above, in the tree."""
        for tree in self.query(Folders):
            tree.path = Path(tree.path).absolute().parent

    def action_down(self) -> None:
        """The next line, of the list or the tree."""
        if self.has_class("-tree"):
            self.query_one(Folders).action_cursor_down()
        else:
            super().action_down()

    def action_up(self) -> None:
        """The line before, of the list or the tree."""
        if self.has_class("-tree"):
            self.query_one(Folders).action_cursor_up()
        else:
            super().action_up()

    def on_directory_tree_file_selected(self, event: DirectoryTree.FileSelected) -> None:
        """A file of the tree was taken."""
        self.take(str(event.path))

    def _below(self, path: Path, typed: str) -> Sequence[Entry]:
        folder, letters = (path, "") if typed.endswith(("/", os.sep, "~")) else (path.parent, path.name)
        try:
            with os.scandir(folder) as entries:
                names = [(entry.name, entry.is_dir()) for entry, _ in zip(entries, range(MOST_NAMES), strict=False)]
        except OSError as error:
            self.say(f"{folder}: {error.strerror or 'cannot be read'}")
            return ()
        self.say("")
        kept = [
            (not is_folder, fit, name)
            for name, is_folder in names
            if (fit := fits(letters, name)) is not None and not name.startswith(".")
            and (is_folder or name.lower().endswith(self.suffixes))
        ]  # fmt: skip
        kept.sort(key=lambda one: (one[1], one[0], one[2]))
        return [
            Entry(f"{folder / name}{'' if is_file else os.sep}", f"{name}{'' if is_file else os.sep}",
                  _size(folder / name) if is_file else "folder")
            for is_file, _, name in kept[:100]
        ]  # fmt: skip


class Folders(DirectoryTree):
    """Folders and the files that fit, names made safe."""

    HELP = "Enter opens a folder or takes a file, Backspace goes to the folder above, Tab goes back to the list."

    def __init__(self, path: Path, suffixes: tuple[str, ...]) -> None:
        self.suffixes = suffixes
        super().__init__(path)

    def filter_paths(self, paths: Iterable[Path]) -> Iterable[Path]:
        """What is not hidden: folders, then files that fit; called in a thread."""
        names = [path for path, _ in zip(paths, range(MOST_NAMES), strict=False) if not path.name.startswith(".")]
        kept = [path for path in names if path.name.lower().endswith(self.suffixes) or path.is_dir()]
        return sorted(kept, key=lambda path: (path.name.lower().endswith(self.suffixes), path.name))[:MOST_IN_FOLDER]

    def process_label(self, label: str | Text) -> Text:
        """A name is text, not markup."""
        return Text(shown(label, 200))

    def render_label(self, node: TreeNode[DirEntry], base_style: Style, style: Style) -> Text:
        """The name, folders with a sign."""
        sign = ("- " if node.is_expanded else "+ ") if node.allow_expand else "  "
        return Text(f"{sign}{node.label}", style)


def walk(folder: Path, suffixes: tuple[str, ...], gone: Callable[[], bool] = lambda: False) -> Iterator[str]:
    """Names below `folder` that end in one of `suffixes`, relative to it, nearest folders first."""
    waiting, names, files = deque([folder]), 0, 0
    end = time.monotonic() + MOST_SECONDS
    while waiting and names < MOST_NAMES and files < MOST_FILES and time.monotonic() < end and not gone():
        here = waiting.popleft()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    names += 1
                    if names > MOST_NAMES or files >= MOST_FILES or gone():
                        break
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name not in SKIPPED:
                            waiting.append(Path(entry.path))
                    elif entry.name.lower().endswith(suffixes):
                        files += 1
                        yield os.path.relpath(entry.path, folder)
        except OSError:
            continue


def _size(path: Path) -> str:
    try:
        return readable(path.stat().st_size)
    except OSError:
        return ""
