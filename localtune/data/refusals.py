"""Why a row cannot be rendered, as problems that name the row and what mends it."""

from localtune.data.bounds import MEMORY
from localtune.data.lost import Lost
from localtune.data.rows import SKIP, Place
from localtune.data.template import Refused, Starved
from localtune.data.turns import Learn, Nothing, Unmaskable
from localtune.errors import Problem

Failure = Refused | Unmaskable | Lost | Nothing | MemoryError | ValueError


def unusable(place: Place, error: Failure, learn: Learn) -> Problem:
    """What `error` says of the row at `place`."""
    where = str(place)
    if isinstance(error, Unmaskable):
        what = f"the chat template cannot be masked exactly: {error}"
        fix = "--set train.learn=last" if error.earlier and learn != "last" else "--set train.learn=all"
        return Problem("template.unmaskable", what, where, fix="" if learn == "all" else fix)
    if isinstance(error, Lost):
        what = f"the chat template leaves out a part of the row: {error}"
        fix = "take a model whose chat template writes it, or rows without it"
        return Problem("template.lost", what, where, fix=fix)
    if isinstance(error, Nothing):
        return Problem("data.nothing-to-learn", str(error), where, fix="give an answer a weight above 0")
    if isinstance(error, Starved | MemoryError):
        return Problem("template.memory", memory("the row"), where, fix=ORIGINAL)
    return Problem("template.refused", f"the chat template refuses the row: {error}", where, fix=SKIP)


def memory(what: str) -> str:
    """The sentence for a template that takes too much."""
    return f"the chat template needs more than {MEMORY // 1024**2} MB of memory to render {what}"


ORIGINAL = "use the model's original chat template"


def reserved(place: Place) -> Problem:
    """The row holds a character that marks places."""
    what = "the row holds a character from U+10FFF0 to U+10FFFD; they mark places while a text is rendered"
    return Problem("data.reserved", what, str(place), fix=SKIP)


def needs_template(what: str, place: Place) -> Problem:
    """The model has no chat template, and `what` needs one."""
    fix = "take an instruct model, or rows with prompt and completion or text"
    return Problem("template.missing", f"the model has no chat template, so it cannot read {what}", str(place), "", fix)
