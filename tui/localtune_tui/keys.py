"""Keys by the id of what they do, as the user wants them: `keys.yaml` beside the user's `config.yaml`.

    runs.open: o
    app.quit: ctrl+q,f10

A file that cannot be read, an id that does not exist or a value that is no key is said and left out; the other keys
hold. `actions` is the one list of what can be done on a screen: help and the palette both show it whole.
"""

import difflib
import importlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import walk_packages

from textual.actions import ActionError, parse
from textual.app import App
from textual.binding import Binding, BindingsMap
from textual.dom import DOMNode
from textual.screen import Screen

from localtune_tui.text import shown

_KEYS = re.compile(r"(?:(?:ctrl|shift|alt|super|meta)\+)*[^\s,+]+|\+")
LARGEST = 64 << 10
"""Bytes of a key file."""


def keys_file() -> Path:
    """Where the user's keys lie."""
    from platformdirs import user_config_path

    return user_config_path("localtune", appauthor=False) / "keys.yaml"


@dataclass(frozen=True)
class Keys:
    """What a key file says."""

    by_id: dict[str, str]
    """Action id -> keys, with commas between them."""
    problems: tuple[str, ...] = ()
    """Sentences on what was left out."""


def read_keys(path: Path) -> Keys:
    """The keys in `path`; none where it does not exist."""
    try:
        if not path.exists():
            return Keys({})
        if path.stat().st_size > LARGEST:
            return Keys({}, (f"{path.name} is larger than 64 KB: not read",))
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        return Keys({}, (f"{path.name} cannot be read: {error}",))
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        value = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        return Keys({}, (f"{path.name} is not YAML: {shown(error, 160)}",))
    if value is None:
        return Keys({})
    if not isinstance(value, dict):
        return Keys({}, (f"{path.name} should hold lines such as  runs.open: o",))
    good = {str(name): str(keys) for name, keys in value.items() if _are_keys(keys)}
    bad = [f"{path.name}: {name}: not a key such as x, f5 or ctrl+x" for name in value if str(name) not in good]
    return Keys(good, tuple(bad))


def unknown_ids(names: Collection[str], known: Collection[str]) -> list[str]:
    """A sentence for every name that is no action's id, with the nearest that is."""
    sentences = []
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            sentences.append(f"keys.yaml: {name} is not an action" + (f"; did you mean {near[0]}?" if near else ""))
    return sentences


def known_ids() -> set[str]:
    """The id of every action of the app. Imports every module of it, so it is for a thread."""
    import localtune_tui

    modules = [importlib.import_module(found.name) for found in walk_packages(localtune_tui.__path__, "localtune_tui.")]
    classes = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    bindings = [binding for each in classes for binding in each.__dict__.get("BINDINGS", ())]
    return {binding.id for binding in bindings if isinstance(binding, Binding) and binding.id}


def _are_keys(value: object) -> bool:
    if not isinstance(value, str | int) or isinstance(value, bool) or len(str(value)) > 80:
        return False
    return all(_KEYS.fullmatch(key.strip()) for key in str(value).split(","))


@dataclass(frozen=True)
class Action:
    """Something that a key, the palette or a click does."""

    id: str
    keys: tuple[str, ...]
    """As they are shown: "^p", "?"; none where another action was given its key."""
    description: str
    """Two or three words."""
    help: str
    """A sentence."""
    action: str
    """As Textual writes it: "go('runs')"."""
    node: DOMNode
    """Who does it."""
    enabled: bool
    rank: int
    """0: in the footer where there is room; 1: not; 2: only moves."""


MOVING = {"up", "down", "left", "right", "home", "end", "pageup", "pagedown", *"hjklgG"}
"""Keys that only ever move."""
SPELLED = {"⏎": "enter", "↑": "up", "↓": "down", "←": "left", "→": "right", "⌫": "backspace"}
"""Sign of a key -> its name, for terminals that have no such sign."""


def key_shown(app: App[object], binding: Binding) -> str:
    """A key as this app shows it."""
    sign = app.get_key_display(binding)
    return SPELLED.get(sign, sign) if getattr(app, "ascii", False) else sign


def actions(screen: Screen[object]) -> list[Action]:
    """Everything that can be done here: the focused pane's first, then other panes', the screen's and the app's; of
    all that, what the footer shows comes first and what only moves last."""
    focused = [screen.focused] if screen.focused is not None else []
    nodes: list[DOMNode] = [*focused, *screen.walk_children(), screen, screen.app]
    seen: dict[str, Action] = {}
    for node in nodes:
        for action in _of(node, only_priority=node is screen.app and screen.is_modal):
            seen.setdefault(action.id, action)
    return sorted(seen.values(), key=lambda action: action.rank)


def _of(node: DOMNode, *, only_priority: bool) -> Iterator[Action]:
    """What `node` binds; below a dialog only what goes before everything else."""
    grouped: dict[str, list[Binding]] = {}
    for binding in _listed(node._bindings):
        if binding.id and binding.description and (binding.priority or not only_priority):
            grouped.setdefault(binding.id, []).append(binding)
    as_wanted = node._bindings.copy()
    as_wanted.apply_keymap(node.app._keymap)
    for name, bindings in grouped.items():
        one = bindings[0]
        state = _state(node, one.action)
        if state is False:
            continue
        pressed = [each for each in _listed(as_wanted) if each.id == name]
        keys = tuple(dict.fromkeys(key_shown(node.app, each) for each in pressed))
        rank = 2 if one.key in MOVING else 0 if one.show else 1
        yield Action(name, keys, one.description, one.tooltip, one.action, node, bool(state), rank)


def _listed(bindings: BindingsMap) -> Sequence[Binding]:
    return [binding for listed in bindings.key_to_bindings.values() for binding in listed]


def _state(node: DOMNode, action: str) -> bool | None:
    try:
        _, name, parameters = parse(action)
    except ActionError:
        return False
    return node.check_action(name, parameters)
