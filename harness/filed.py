"""A run's records by what they are about, left on the disk until they are asked for."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from draftbench.harness.records import Line
from draftbench.harness.store import placed_records, unmarked

R = TypeVar("R", bound=Line)


class Filed(Generic[R]):
    """Records of one kind on the disk: memory holds what stands where, and reads again what is asked for."""

    def __init__(self, path: Path, kind: type[R]) -> None:
        self._path, self._kind = path, kind
        self._places: dict[Hashable, array[int]] = defaultdict(lambda: array("Q"))

    def fill(
        self,
        key: Callable[[R], Hashable],
        is_kept: Callable[[R], bool],
        on_broken: Callable[[str], None] | None = None,
        suite_sha256: str | None = None,
    ) -> None:
        """Go through every record once, in its order, and note where those stand that are kept.

        Raises:
            RecordError: as `read_records` has it.
        """
        for place, record in placed_records(self._path, self._kind, on_broken, suite_sha256):
            if is_kept(record):
                self._places[key(record)].append(place)

    def read(self, key: Hashable) -> Iterator[R]:
        """The records of a key, in their order."""
        if key not in self._places:
            return
        with self._path.open("rb") as file:
            for place in self._places[key]:
                file.seek(place)
                yield unmarked(self._kind.model_validate_json(file.readline()))
