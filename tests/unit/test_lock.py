"""One writer per run folder; a lock is free the moment its holder is gone."""

import subprocess
import sys
from pathlib import Path

import pytest

from localtune.errors import InputError
from localtune.runs.lock import RunLock

HOLD = "import sys; from pathlib import Path; from localtune.runs.lock import RunLock\nwith RunLock(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"  # noqa: E501


def test_a_second_process_is_told_who_owns_the_run_and_a_killed_owner_leaves_it_free(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=f"owned by process {owner.pid}"), RunLock(tmp_path):
        pass
    owner.kill()
    owner.wait()
    with RunLock(tmp_path):
        pass
