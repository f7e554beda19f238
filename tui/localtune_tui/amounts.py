"""Times, sizes, shares and states as a person reads them; every sign has one of plain ASCII."""

import time

from localtune.words import duration
from localtune_tui.ascii_signs import ASCII
from localtune_tui.run_view import State

SIGNS = {
    "created": "·", "starting": "●", "running": "●", "paused": "‖", "done": "✓", "stopped": "◌", "failed": "✗",
    "crashed": "✗", "stalled": "!", "gone": "✗",
}  # fmt: skip


def sign(state: State, *, ascii_only: bool = False) -> str:
    """One character for a state."""
    return SIGNS[state].translate(ASCII) if ascii_only else SIGNS[state]


def about(seconds: float) -> str:
    """A time that is only estimated: 40s, 29m, 2h05m."""
    return f"{max(1, round(seconds / 60))}m" if 60 <= seconds < 3600 else duration(seconds)


def clock(when: float) -> str:
    """Time of the day, of this machine: 14:32:38."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(when))
    except (OverflowError, ValueError, OSError):
        return "--:--:--"


def ago(when: float, now: float) -> str:
    """now, 12m ago, 3h ago, Mon, 14 Mar, 2025-03-14."""
    past, then = now - when, time.localtime(when)
    if past < 60:
        return "now"
    if past < 3600:
        return f"{past // 60:.0f}m ago"
    if past < 86_400:
        return f"{past // 3600:.0f}h ago"
    if past < 6 * 86_400:
        return time.strftime("%a", then)
    return time.strftime("%d %b" if past < 300 * 86_400 else "%Y-%m-%d", then)


def bar(share: float, width: int, *, ascii_only: bool = False) -> str:
    """A bar of `width` characters, filled to `share` of 1."""
    filled = min(max(share, 0.0), 1.0) * max(width, 0)
    if ascii_only:
        return "#" * round(filled) + "-" * (width - round(filled))
    whole, half = int(filled), "▌" if filled % 1 >= 0.5 else ""
    return "█" * whole + half + "░" * (width - whole - len(half))


def trend(change: float, *, ascii_only: bool = False) -> str:
    """Falling, rising or level, as an arrow."""
    arrow = "▼" if change < 0 else "▲" if change > 0 else "="
    return arrow.translate(ASCII) if ascii_only else arrow
