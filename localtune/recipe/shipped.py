"""The recipes that come with localtune: inside the package when installed, beside it in a checkout."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shipped:
    """One of them."""

    name: str
    """Its path in their folder without the suffix; quickstart/recipe.yaml is called quickstart."""
    path: Path
    title: str
    """The comment on its first line."""


def shipped() -> dict[str, Shipped]:
    """Every one by its name."""
    found = [_described(path) for path in sorted(_folder().rglob("*.yaml"))]
    return {one.name: one for one in found}


def _folder() -> Path:
    packaged = Path(__file__).parents[1] / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "recipes"


def _described(path: Path) -> Shipped:
    name = path.relative_to(_folder()).with_suffix("").as_posix().removesuffix("/recipe")
    return Shipped(name, path, path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# "))
