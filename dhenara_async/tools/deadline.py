"""``CallDeadline``: the time limit of a running tool call, which stops while the user answers the call's questions."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf

import anyio


@dataclass(slots=True, eq=False)
class CallDeadline:
    """The time limit of a call.

    Attributes:
        scope: The scope in which the call runs; its deadline is the limit.
    """

    scope: anyio.CancelScope
    _questions: int = 0  # that are being answered, possibly several at once
    _left: float = inf  # seconds that the call had left when the first of them was asked

    @contextmanager
    def paused(self) -> Generator[None]:
        """Stop the clock during the block; after the last one of several, the call has the time that it had left."""
        if not self._questions:
            self._left, self.scope.deadline = self.scope.deadline - anyio.current_time(), inf
        self._questions += 1
        try:
            yield
        finally:
            self._questions -= 1
            if not self._questions:
                self.scope.deadline = anyio.current_time() + self._left
