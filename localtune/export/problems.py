"""Everything that is wrong, said at once: checks go on after the first that fails."""

from collections.abc import Iterator
from contextlib import contextmanager

from localtune.errors import InputError, LocaltuneError, Problem


class Problems:
    """What several checks found."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the problems of a check that fails inside, and go on behind it."""
        try:
            yield
        except LocaltuneError as error:
            self._found += error.problems

    def add(self, *problems: Problem) -> None:
        """Keep these too."""
        self._found += problems

    def end(self) -> None:
        """Raise one `InputError` with all that was kept, if anything was."""
        if self._found:
            raise InputError(*self._found)
