"""From the names of a recipe to rows: files of every kind that is read, folders, patterns, and data sets of the hub."""

from localtune.data.reading.find import find
from localtune.data.reading.source import Source

__all__ = ["Source", "find"]
