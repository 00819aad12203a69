"""Collects broken promises, for the kits that test a driver or a store.

Every promise has a name, so that an author finds it in a long report.
"""

from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

PromiseName = TypeVar("PromiseName", bound=str)

_MOST_FAILURES = 12
_LONGEST = 500


def demand(condition: object, reason: str) -> None:
    """Raise ``AssertionError`` with ``reason`` unless ``condition`` is true; ``python -O`` keeps it."""
    if not condition:
        raise AssertionError(reason)


class BrokenPromises(Generic[PromiseName]):
    """Collects every broken promise, so that one run reports all of them.

    Args:
        promises: Every promise and its meaning, in the order of the report.
        except_for: Promises that are not tested.
        table: The public name of ``promises``, for the error message.

    Raises:
        ValueError: ``except_for`` has a name that is not in ``promises``.
    """

    def __init__(self, promises: Mapping[PromiseName, str], except_for: Collection[PromiseName], *, table: str) -> None:
        unknown = set(except_for) - set(promises)
        if unknown:
            raise ValueError(f"there is no promise {', '.join(sorted(unknown))}; {table} has their names")
        self._promises = promises
        self._waived = frozenset(except_for)
        self._broken: dict[PromiseName, list[str]] = {}

    @contextmanager
    def of(self, promise: PromiseName, where: str) -> Generator[None]:
        """Record ``promise`` as broken if the block raises an ``Exception``, and go on; ``where`` is the case tried."""
        try:
            yield
        except AssertionError as exc:
            self.note(promise, f"{where}: {exc}")
        except Exception as exc:  # noqa: BLE001 - code under test may fail in any way, and the rest is still tried
            self.note(promise, f"{where}: {type(exc).__name__}: {exc}")

    def note(self, promise: PromiseName, reason: str) -> None:
        """Record ``promise`` as broken."""
        if promise not in self._waived:
            reasons = self._broken.setdefault(promise, [])
            short = reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]}…"
            if short not in reasons:
                reasons.append(short)

    def raise_if_any(self, subject: str) -> None:
        """Report everything that is broken, in the order of the promises.

        Args:
            subject: The name of the subject, for the first line of the report.

        Raises:
            AssertionError: A promise is broken.
        """
        if not self._broken:
            return
        number = len(self._broken)
        lines = [f"{subject} breaks {number} promise{'s' if number > 1 else ''}:"]
        for promise, meaning in self._promises.items():
            reasons = self._broken.get(promise, ())
            if reasons:
                lines.append(f"{promise}: {meaning}")
                lines += [f"    - {reason}" for reason in reasons[:_MOST_FAILURES]]
            if len(reasons) > _MOST_FAILURES:
                lines.append(f"    - … and {len(reasons) - _MOST_FAILURES} more")
        raise AssertionError("\n".join(lines))
