"""The peak resident size of this process, as its system counts it."""

import sys

import psutil


def resident_peak() -> int:
    """Bytes at most so far, libraries included. It never falls: a run has a process of its own."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
