"""How every command ends: Ctrl-C and errors become a line on stderr and an exit code."""

import io
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from warnings import filterwarnings

import anyio
import typer

from dhenara_async.cli.screen import Screen
from dhenara_async.errors import ConfigurationError, DhenaraError

EXIT_CODES = (
    "Exit codes: 0 = done; 1 = a model did not answer, or its answer does not follow the schema; 2 = a mistake found "
    "before anything was sent (an option, a name, a key); 130 = Ctrl-C."
)

_FAILED = 1
_MISTAKE = 2
_INTERRUPTED = 130  # the exit code that shells expect after Ctrl-C


@contextmanager
def reported(screen: Screen) -> Generator[None]:
    """Report the errors of the block on stderr, and exit with their code.

    Raises:
        typer.Exit: The block was interrupted or failed.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an answer may have characters that this terminal cannot show
    # The commands print this warning themselves, below the answer.
    filterwarnings("ignore", message=".* was retired by its maker", category=UserWarning)
    try:
        yield
    except KeyboardInterrupt:
        screen.complain("interrupted")
        raise typer.Exit(_INTERRUPTED) from None
    except ConfigurationError as exc:
        screen.problem(exc)
        raise typer.Exit(_MISTAKE) from None
    except DhenaraError as exc:
        screen.problem(exc)
        raise typer.Exit(_FAILED) from None


def finish(screen: Screen, job: Callable[[], Awaitable[None]]) -> None:
    """Run a command on an event loop; see ``reported``."""
    with reported(screen):
        anyio.run(job)
