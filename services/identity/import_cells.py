"""The cells of a CSV file on their way to what a mapping says they are, whatever the file is of."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Generic, TypeVar

from core.errors import FieldProblem, InvalidError

GUARDED: Final = ("=", "+", "-", "@", "\t", "\r", "'")
"""An apostrophe before one of these was put there, so that no spreadsheet takes the cell for a formula."""

Put = TypeVar("Put")


class Cells(Generic[Put]):
    """What becomes of each column's cells."""

    def __init__(
        self,
        columns: Sequence[str],
        mapping: Mapping[str, str | None],
        setter: Callable[[str], tuple[str | None, Put]],
        problems: Sequence[FieldProblem] = (),
    ) -> None:
        """Prepare to read rows of these columns; `problems` were found before.

        `setter` returns for a target the key that only one column may fill, None where several may, and what puts
        a cell there; it raises InvalidError where the target means nothing.

        Raises:
            InvalidError: a column is not there, its target means nothing, or two have the same.
        """
        found = [
            FieldProblem(f"mapping.{name}", "is not a column of the file") for name in mapping if name not in columns
        ]
        found += problems
        self._plan: list[tuple[int, Put]] = []
        taken: dict[str, str] = {}
        for index, name in enumerate(columns):
            target = mapping.get(name)
            if target is None:
                continue
            try:
                key, put = setter(target)
            except InvalidError as error:
                found.append(FieldProblem(f"mapping.{name}", error.errors[0].reason))
                continue
            if key in taken:
                found.append(FieldProblem(f"mapping.{name}", f"is {key}, as is the column {taken[key]}"))
            if key is not None:
                taken[key] = name
            self._plan.append((index, put))
        if found:
            raise InvalidError(f"{found[0].field}: {found[0].reason}", errors=found)

    def add(self, index: int, put: Put) -> None:
        """Have the cells of a column put somewhere besides."""
        self._plan.append((index, put))

    def of(self, row: Sequence[str]) -> Iterator[tuple[Put, str]]:
        """Yield what puts each cell that is not empty, and its text."""
        for index, put in self._plan:
            text = row[index].strip()
            if text:
                yield put, text[1:] if text[0] == "'" and text[1:2] in GUARDED else text
