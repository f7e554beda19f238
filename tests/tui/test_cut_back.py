"""Events that are cut back under their reader: each is seen once, updates that happen again are seen again."""

from dataclasses import replace

import pytest
from localtune_tui.following import Follower

from localtune.cli.growing import Growing
from localtune.events import Phase, Warn
from localtune.runs.folder import Run
from tests.tui.cut_back import new_worker, run_of_ten, steps_of, updates, watched
from tests.tui.recorded_run import step_line


@pytest.fixture
def recorded() -> Run:
    """Ten updates and their checkpoint."""
    return run_of_ten()


@pytest.mark.parametrize("repeated", [0, 5, 10, 30], ids=["shorter", "shorter still", "as long", "longer"])
def test_a_reader_sees_every_event_once_and_repeated_updates_again(recorded: Run, repeated: int) -> None:
    cut = recorded.events.stat().st_size
    updates(recorded, range(11, 21), 1.0)
    growing = Growing(recorded.events)
    assert steps_of(list(growing.fresh())) == [*range(1, 21)]
    new_worker(recorded, cut)
    updates(recorded, range(11, 11 + repeated), 0.5, session=1)
    again = list(growing.fresh())
    assert [type(event) for event in again[:2]] == [Warn, Phase]
    assert steps_of(again) == [*range(11, 11 + repeated)]
    assert list(growing.fresh()) == []
    updates(recorded, [60], 0.5, session=1)
    assert steps_of(list(growing.fresh())) == [60]


def test_a_reader_that_only_counts_bytes_is_caught(recorded: Run) -> None:
    """The negative control: from a byte offset, updates are missed and a line is torn."""
    cut = recorded.events.stat().st_size
    updates(recorded, range(11, 21), 1.0)
    offset = max(end for _, end in recorded.read_events())
    new_worker(recorded, cut)
    assert list(recorded.read_events(offset)) == []
    updates(recorded, range(11, 41), 0.5, session=1)
    assert steps_of([event for event, _ in recorded.read_events(offset)]) != [*range(11, 41)]


def test_a_reader_that_begins_behind_a_checkpoint_goes_back_no_further_than_the_file_did(recorded: Run) -> None:
    cut = recorded.events.stat().st_size
    updates(recorded, range(11, 21), 1.0)
    growing = Growing(recorded.events, cut)
    assert steps_of(list(growing.fresh())) == [*range(11, 21)]
    recorded.truncate_events(0)
    updates(recorded, range(1, 4), 0.5, session=1)
    assert steps_of(list(growing.fresh())) == [1, 2, 3]


def test_a_torn_line_waits_and_a_file_that_is_gone_is_empty(recorded: Run) -> None:
    growing = Growing(recorded.events)
    list(growing.fresh())
    line = step_line(11, 60) + "\n"
    with recorded.events.open("a") as file:
        file.write(line[:100])
    assert list(growing.fresh()) == []
    with recorded.events.open("a") as file:
        file.write(line[100:])
    assert steps_of(list(growing.fresh())) == [11]
    recorded.events.unlink()
    assert list(growing.fresh()) == []


def test_the_viewer_goes_back_and_ends_with_the_run(recorded: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = recorded.events.stat().st_size
    updates(recorded, range(11, 21), 1.0)

    def heal() -> None:
        new_worker(recorded, cut)
        updates(recorded, range(11, 31), 0.5, session=1)

    def end() -> None:
        recorded.write_status(replace(recorded.status(), state="done", exit_code=0))

    events = watched(recorded, [lambda: None, heal, end], monkeypatch)
    assert steps_of(events) == [*range(1, 21), *range(11, 31)]


@pytest.mark.parametrize("length", [3, 10, 25], ids=["shorter", "as long", "longer"])
def test_the_app_has_no_point_twice_after_a_cut(recorded: Run, length: int) -> None:
    cut = recorded.events.stat().st_size
    updates(recorded, range(11, 21), 1.0)
    follower = Follower(recorded)
    follower.poll()
    assert (follower.view.step, len(follower.view.losses)) == (20, 20)
    new_worker(recorded, cut)
    follower.poll()
    assert follower.view.step == 10
    updates(recorded, range(11, 11 + length), 0.5, session=1)
    follower.poll()
    view = follower.view
    assert view.steps_at.tolist() == [*range(1, 11 + length)]
    assert view.losses.tolist() == [1.0] * 10 + [0.5] * length
    assert view.tokens == 1400 * (10 + length)
    assert (view.step, view.trouble) == (10 + length, "")


def test_the_app_notices_a_cut_that_it_has_slept_through(recorded: Run) -> None:
    """As many updates as before, of another session: curves of the same length are not taken for the same."""
    cut = recorded.events.stat().st_size
    updates(recorded, range(11, 21), 1.0)
    follower = Follower(recorded)
    follower.poll()
    recorded.truncate_events(cut)
    updates(recorded, range(11, 21), 0.5, session=1)
    follower.poll()
    assert follower.view.losses.tolist() == [1.0] * 10 + [0.5] * 10
