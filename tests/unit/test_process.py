"""A process is its pid and its start time."""

import subprocess
import sys
from dataclasses import replace

from localtune.runs.process import process_id


def test_this_process_is_alive_and_a_pid_used_again_is_not() -> None:
    me = process_id()
    assert me.alive
    assert not replace(me, started=me.started - 100).alive


def test_an_ended_process_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = process_id(child.pid)
    assert known.alive
    child.kill()
    child.wait()
    assert not known.alive
