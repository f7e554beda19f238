"""Opening a run by name and looking at it from a thread, for screens."""

from dataclasses import dataclass

from localtune.errors import LocaltuneError
from localtune.runs.store import find_run
from localtune_tui.facts import Facts, read_facts
from localtune_tui.following import Follower
from localtune_tui.gauges import Meter
from localtune_tui.lines import FileLines


@dataclass
class Watched:
    """A run that is looked at again and again."""

    follower: Follower
    facts: Facts
    log: FileLines
    meter: Meter
    """Of the machine it trains on."""

    def look(self, *, log: bool) -> None:
        """Read what is new of the run, and of its log where that is shown. For a thread."""
        self.follower.poll()
        view = self.follower.view
        self.meter.look(view.pid if view.works else None)
        if log:
            self.log.look()


def open_watched(name: str) -> Watched | str:
    """The run called `name`, looked at once; or the sentence why there is none. For a thread."""
    try:
        run = find_run(name)
    except LocaltuneError as error:
        return error.problems[0].what
    except OSError as error:
        return f"the folder of runs cannot be read: {error.strerror or error}"
    facts = read_facts(run)
    watched = Watched(Follower(run), facts, FileLines(run.log), Meter(facts.kind))
    watched.follower.poll()
    return watched
