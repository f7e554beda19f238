"""The losses of a run as an SVG: raw and smoothed training loss, validation points, the best of them.

At most two values a column are drawn, the lowest and the highest. Every text is escaped; there is no script, and
nothing is loaded from anywhere.
"""

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from localtune.errors import safe
from localtune.events import Evaluation, Step

WIDTH, HEIGHT = 860, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 46, 40
RAW, LINE, VALID = "#9db7cc", "#0072b2", "#d55e00"
"""Colours that stay apart for every kind of colour vision (Okabe and Ito 2008), on white as on black."""
SMOOTHING = 0.9
"""Weight of the past in the smoothed loss."""

Points = Sequence[tuple[float, float]]


@dataclass
class Losses:
    """What is drawn."""

    train: list[tuple[float, float]] = field(default_factory=list)
    """Update and loss, as far as it is finite."""
    valid: list[tuple[float, float]] = field(default_factory=list)

    def take(self, event: object) -> None:
        """Note the loss of an update or of an evaluation on the validation rows."""
        if isinstance(event, Step) and math.isfinite(event.loss):
            self.train.append((event.step, event.loss))
        elif isinstance(event, Evaluation) and event.split == "valid" and math.isfinite(event.loss):
            self.valid.append((event.step, event.loss))


def picture(losses: Losses, title: str, subtitle: str) -> str:
    """The SVG, complete in itself."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" font-family="system-ui, sans-serif" font-size="12" fill="currentColor">',
        f"<title>{escaped(title)}</title>",
        f'<text x="{LEFT}" y="20" font-size="15" font-weight="600">{escaped(title)}</text>',
        f'<text x="{LEFT}" y="37" opacity="0.75">{escaped(subtitle)}</text>',
        *_inside(losses),
        "</svg>",
    ]
    return "\n".join(parts)


def escaped(text: object, limit: int = 2000) -> str:
    """`text` for HTML and XML: no control characters, no markup."""
    shown = safe(str(text), limit).replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
    return html.escape(shown, quote=True)


def _inside(losses: Losses) -> Iterator[str]:
    everything = losses.train + losses.valid
    if not everything:
        yield f'<text x="{LEFT}" y="{HEIGHT // 2}">no loss was recorded</text>'
        return
    left, right = _bounds([at for at, _ in everything])
    low, high = _bounds([loss for _, loss in everything])
    scale = _Scale(left, right, low, high)
    yield from _grid(scale)
    yield _path(scale, _thinned(losses.train), RAW, 1)
    yield _path(scale, _thinned(_smoothed(losses.train)), LINE, 2)
    yield from (
        f'<circle cx="{scale.x(at):.1f}" cy="{scale.y(loss):.1f}" r="3.5" fill="{VALID}"/>' for at, loss in losses.valid
    )
    if losses.valid:
        at, loss = min(losses.valid, key=lambda point: point[1])
        x, y = scale.x(at), scale.y(loss)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="none" stroke="{VALID}" stroke-width="2"/>'
        yield f'<text x="{min(x, WIDTH - 90):.1f}" y="{y - 12:.1f}" fill="{VALID}">best {loss:.3g}</text>'
    yield from _legend()


@dataclass(frozen=True)
class _Scale:
    left: float
    right: float
    low: float
    high: float

    def x(self, at: float) -> float:
        return LEFT + (at - self.left) / (self.right - self.left) * (WIDTH - LEFT - RIGHT)

    def y(self, loss: float) -> float:
        return HEIGHT - BOTTOM - (loss - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _grid(scale: _Scale) -> Iterator[str]:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        loss = scale.low + share * (scale.high - scale.low)
        at = scale.left + share * (scale.right - scale.left)
        y, x = scale.y(loss), scale.x(at)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" opacity="0.15"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{loss:.3g}</text>'
        yield f'<text x="{x:.1f}" y="{HEIGHT - 18}" text-anchor="middle">{at:,.0f}</text>'
    yield f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end" opacity="0.75">update</text>'


def _legend() -> Iterator[str]:
    for place, (colour, name) in enumerate(((RAW, "train"), (LINE, "train, smoothed"), (VALID, "validation"))):
        x = LEFT + place * 130
        yield f'<rect x="{x}" y="{HEIGHT - 12}" width="14" height="4" fill="{colour}"/>'
        yield f'<text x="{x + 20}" y="{HEIGHT - 6}">{name}</text>'


def _path(scale: _Scale, points: Points, colour: str, width: float) -> str:
    drawn = " ".join(f"{scale.x(at):.1f},{scale.y(loss):.1f}" for at, loss in points)
    return f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _smoothed(points: Points) -> list[tuple[float, float]]:
    total = weight = 0.0
    found = []
    for at, loss in points:
        total, weight = SMOOTHING * total + (1 - SMOOTHING) * loss, SMOOTHING * weight + (1 - SMOOTHING)
        found.append((at, total / weight))
    return found


def _thinned(points: Points) -> Points:
    columns = WIDTH - LEFT - RIGHT
    if len(points) <= 2 * columns:
        return points
    found: list[tuple[float, float]] = []
    for column in range(columns):
        part = points[column * len(points) // columns : (column + 1) * len(points) // columns]
        found += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return found
