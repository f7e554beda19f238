"""Sizes for people, apart from what computes them, so that a front end need not load that."""


def readable(size: float) -> str:
    """`size` bytes in decimal units: "812 B", "3.4 KB", "7.2 MB", "812 MB", "1.52 GB", "21.9 GB"."""
    if abs(size) < 1e5:
        return f"{size:.0f} B" if abs(size) < 1e3 else f"{size / 1e3:.1f} KB"
    for limit, text in ((1e7, f"{size / 1e6:.1f} MB"), (1e9, f"{size / 1e6:.0f} MB"), (1e10, f"{size / 1e9:.2f} GB")):
        if size < limit:
            return text
    return f"{size / 1e9:.1f} GB"
