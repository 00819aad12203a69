"""The lines of a chat: typed at a terminal, with editing, history and completion, or read from a pipe.

A pipe is read in a thread, in short waits: a thread stuck in a read would keep the program from ending.
"""

import os
import select
import sys
from collections.abc import Sequence
from typing import Protocol

from anyio import from_thread, to_thread

from dhenara_async.cli.settings import private_file
from dhenara_async.errors import ConfigurationError

_WAIT_SECONDS = 0.1
_READ_BYTES = 65_536


class Lines(Protocol):
    """A source of lines."""

    async def next(self, prompt: str) -> str | None:
        """Return the next line, stripped; None at the end of input, or if the user leaves."""
        ...


def lines(completions: Sequence[str]) -> Lines:
    """Return the lines of standard input.

    Args:
        completions: The words that the tab key completes at a terminal.
    """
    return _TypedLines(completions) if sys.stdin.isatty() and sys.stdout.isatty() else _PipedLines()


class _TypedLines:
    """Lines typed at a terminal. Ctrl-C clears a typed line, and leaves at an empty one."""

    def __init__(self, completions: Sequence[str]) -> None:
        # imported here because it takes long, and the other commands do not need it
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import FileHistory, InMemoryHistory
        from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

        keys = KeyBindings()

        @keys.add("c-c")
        def _(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.reset()
            else:
                event.app.exit(exception=EOFError)

        @keys.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        try:
            history = FileHistory(private_file("history"))
        except ConfigurationError:
            history = InMemoryHistory()  # a home that cannot be written is no reason not to talk
        self._session: PromptSession[str] = PromptSession(
            history=history,
            completer=WordCompleter(list(completions), sentence=True),
            key_bindings=keys,
            complete_while_typing=False,
            enable_history_search=True,
        )

    async def next(self, prompt: str) -> str | None:
        try:
            # Ctrl-C is a key here; a signal from elsewhere is the chat's own to handle.
            line = await self._session.prompt_async([("bold", prompt)], handle_sigint=False)
        except EOFError:
            return None
        return line.strip()


class _PipedLines:
    """The lines of a pipe or a file."""

    def __init__(self) -> None:
        self._rest = b""
        self._ended = False

    async def next(self, prompt: str) -> str | None:
        while b"\n" not in self._rest and not self._ended:
            # Not through sys.stdin: select does not see the lines in its read-ahead buffer.
            received = await to_thread.run_sync(_read_input, sys.stdin.fileno())
            self._rest += received
            self._ended = not received
        line, newline, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace").strip() if line or newline else None


def _read_input(descriptor: int) -> bytes:
    """Read some bytes, none at the end of input; returns soon after the waiting task is cancelled."""
    # On other systems select takes sockets only; there Ctrl-C itself ends a read from the keyboard.
    while os.name == "posix" and not select.select([descriptor], [], [], _WAIT_SECONDS)[0]:
        from_thread.check_cancelled()
    return os.read(descriptor, _READ_BYTES)
