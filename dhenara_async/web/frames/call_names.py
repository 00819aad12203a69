"""``CallNames``: ids of tool calls that are unique at a client.

Some providers send no ids, or the same ones in every answer, while a client knows one call by one id. There a call has
its key in ``manager.resume`` (its id, or the name of its function), and a number behind it if that is taken.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

_NUMBER = re.compile(r"~[0-9]{1,6}\Z")

KnownCalls = Iterable[tuple[str, bool]]
"""Calls that a client has: their ids there, oldest first, and whether they wait for a result."""


class CallNames:
    """The ids at the client of the calls of one message, or of one run.

    Args:
        known: The calls that the client has already.
    """

    def __init__(self, known: KnownCalls = ()) -> None:
        self._taken: set[str] = set()
        self._made: set[str] = set()
        self._last: dict[str, str] = {}  # by key
        self._waiting: dict[str, list[str]] = {}  # calls without a result, oldest first, by key
        self._asked: set[str] = set()
        for name, waits in known:
            self._add(key_named(name), name, waits=waits)

    def new(self, call_id: str | None, tool: str) -> str:
        """Return the id at the client of a new call.

        Args:
            call_id: The provider's id; empty or None if it sent none.
            tool: The name of the tool.
        """
        key = call_id or tool or "call"
        name, number = key, 1
        while name in self._taken:
            number += 1
            name = f"{key}~{number}"
        self._made.add(name)
        self._add(key, name, waits=True)
        return name

    def last(self, call_id: str | None) -> str | None:
        """Return the id at the client of the newest call with an id of the provider; None if there is none."""
        return self._last.get(call_id) if call_id else None

    def made(self, name: str) -> bool:
        """Whether a call is new here, and not one that the client had already."""
        return name in self._made

    def asked(self, call_id: str, tool: str) -> str:
        """Return the id at the client of the next call that an approval is asked for."""
        key = call_id or tool
        waiting = [name for name in self._waiting.get(key, ()) if name not in self._asked]
        name = waiting[0] if waiting else self._last.get(key, key)
        self._asked.add(name)
        return name

    def answered(self, call_id: str, tool: str) -> str:
        """Return the id at the client of the call that a result belongs to; results of one key come in order."""
        key = call_id or tool
        waiting = self._waiting.get(key)
        return waiting.pop(0) if waiting else self._last.get(key, key)

    def next_answer(self) -> None:
        """Begin the calls of another answer: those before get no results any more."""
        self._waiting.clear()

    def _add(self, key: str, name: str, *, waits: bool) -> None:
        self._taken.add(name)
        self._last[key] = name
        if waits:
            self._waiting.setdefault(key, []).append(name)


def key_named(name: str) -> str:
    """Return the key of the call that a client knows by ``name``, without the number behind it."""
    return _NUMBER.sub("", name) or name


def calls_in(messages: Sequence[Mapping[str, object]]) -> list[tuple[str, bool]]:
    """Return the calls in messages of AG-UI; whatever is not a call is passed over."""
    answered = {message.get("toolCallId") for message in messages if isinstance(message.get("toolCallId"), str)}
    calls: list[tuple[str, bool]] = []
    for message in messages:
        given = message.get("toolCalls")
        for call in cast("list[object]", given) if isinstance(given, list) else ():
            name = cast("dict[str, object]", call).get("id") if isinstance(call, dict) else None
            if isinstance(name, str):
                calls.append((name, name not in answered))
    return calls
