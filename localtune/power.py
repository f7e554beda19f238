"""The battery, and when it is too low to train on. Shares are percent."""

from dataclasses import dataclass

import psutil

LOW = 20.0
"""On battery below this a run saves and waits."""
ENOUGH = 25.0
"""It goes on when plugged in, or from here on."""


@dataclass(frozen=True)
class Power:
    """What the machine runs on."""

    percent: float
    plugged: bool

    @property
    def low(self) -> bool:
        """Whether training should wait."""
        return not self.plugged and self.percent < LOW

    @property
    def enough(self) -> bool:
        """Whether training that waits may go on."""
        return self.plugged or self.percent >= ENOUGH


def power() -> Power | None:
    """What this machine runs on; None where there is no battery, or nothing can be read of it."""
    try:
        found = psutil.sensors_battery()
    except (AttributeError, OSError, psutil.Error, ValueError):  # missing on some systems; drivers may misreport
        return None
    if found is None:
        return None
    return Power(float(found.percent), found.power_plugged is not False)  # None: the system does not know
