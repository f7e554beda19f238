"""Sizes for people, apart from what computes them, so that a front end need not load that."""


def readable(size: float) -> str:
    """`size` bytes in MB (10^6) or GB (10^9): "7.2 MB", "812 MB", "1.52 GB", "21.9 GB"."""
    for limit, text in ((1e7, f"{size / 1e6:.1f} MB"), (1e9, f"{size / 1e6:.0f} MB"), (1e10, f"{size / 1e9:.2f} GB")):
        if size < limit:
            return text
    return f"{size / 1e9:.1f} GB"
