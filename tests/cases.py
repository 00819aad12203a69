"""Many small cases in one test: all of them are tried, and all that fail are reported together.

A test of its own for each of a thousand recordings costs more time than what is tested.
"""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import pytest

Item = TypeVar("Item")

SOAK = os.environ.get("DHENARA_SOAK") == "1"
"""Whether samples are tried in full."""

_SHOWN = 5


@contextmanager
def cases() -> Generator[Callable[[object], AbstractContextManager[None]]]:
    """Collect the failures of the cases that are tried inside the block.

    Yields:
        A context manager for one case, by its name: ``with case(name): assert ...``.

    Raises:
        ExceptionGroup: After the block, if cases failed; it names all of them and shows the first few in full.
        AssertionError: After the block, if no case was tried.
    """
    names: list[str] = []
    failed: list[str] = []
    failures: list[Exception] = []

    @contextmanager
    def case(name: object) -> Generator[None]:
        names.append(str(name))
        try:
            yield
        except Exception as exc:  # noqa: BLE001 - it is raised after the last case
            exc.add_note(f"case: {name}")
            failed.append(str(name))
            failures.append(exc)
        except pytest.fail.Exception as exc:
            failed.append(str(name))
            failures.append(AssertionError(f"{exc.msg}\ncase: {name}"))

    yield case
    assert names, "no case was tried"
    if failures:
        raise ExceptionGroup(f"{len(failed)} of {len(names)} cases failed: {', '.join(failed)}", failures[:_SHOWN])


def sample(items: Sequence[Item], share: int, start: int = 0) -> Sequence[Item]:
    """Select every ``share``-th item, or all of them with ``DHENARA_SOAK=1``.

    Args:
        items: The items.
        share: How many items there are for each that is selected.
        start: Number of the sample; successive numbers select other items.
    """
    return items if SOAK else items[start % share :: share]
