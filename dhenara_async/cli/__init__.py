"""The command line: its commands and options, and how every command handles Ctrl-C and errors.

``demo``, ``chat`` and ``ask`` run the commands, ``endpoints`` resolves model names, and ``screen`` prints the output.
"""

import io
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated
from warnings import filterwarnings

import anyio
import typer

from dhenara_async import __version__
from dhenara_async.cli.ask import ask as run_ask
from dhenara_async.cli.chat import chat as run_chat
from dhenara_async.cli.demo import Shown
from dhenara_async.cli.demo import demo as run_demo
from dhenara_async.cli.screen import Screen
from dhenara_async.endpoint import AIModelAPIProviderEnum
from dhenara_async.errors import DhenaraError

_INTERRUPTED = 130  # the exit code that shells expect after Ctrl-C

# Pretty tracebacks would print local variables, and with them perhaps a user's prompt.
application: typer.Typer = typer.Typer(
    name="dhenara-async", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)

_Loopback = Annotated[
    bool, typer.Option("--loopback", help="Use stand-in servers on this computer, even if there are keys.")
]
_Delay = Annotated[float, typer.Option("--delay", min=0, help="Seconds before each token of a stand-in server.")]


def _show_version(requested: bool) -> None:
    if requested:
        sys.stdout.write(f"dhenara-async {__version__}\n")
        raise typer.Exit


@application.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Async streaming for many AI providers, in a terminal."""


@application.command()
def demo(
    models: Annotated[
        str | None,
        typer.Option("--models", help="The models of the turns: NAME,NAME,… with NAME a model or provider:model."),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Show each answer when it is complete.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write the events to stdout, one JSON object a line.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Show after each turn how its history was converted, part by part.")
    ] = False,
    loopback: _Loopback = False,
    delay: _Delay = 0.03,
) -> None:
    """Tell a story in three turns, each by another provider.

    Uses the keys in the environment; without any, stand-in servers on this computer answer.
    """
    if plain and json:
        raise typer.BadParameter("--plain waits for whole answers, so there are no events for --json to write")
    shown: Shown = "json" if json else "whole" if plain else "stream"
    screen = Screen()
    job = partial(run_demo, screen, models=models, shown=shown, report=report, loopback=loopback, delay=delay)
    _finish(screen, job)


@application.command()
def chat(
    model: Annotated[str, typer.Option("--model", help="The first model: its id, or provider:model.")],
    provider: Annotated[
        AIModelAPIProviderEnum | None,
        typer.Option("--provider", help="The provider of every model whose name does not imply one."),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="The base URL of that provider, as its own SDK would take it.")
    ] = None,
    instructions: Annotated[str, typer.Option("--instructions", help="System instructions for every answer.")] = "",
    loopback: _Loopback = False,
    delay: _Delay = 0.03,
) -> None:
    """Talk with a model; /model NAME hops to another one within the conversation, /help lists the rest."""
    screen = Screen()
    job = partial(
        run_chat,
        screen,
        model=model,
        provider=provider,
        base_url=base_url,
        instructions=instructions,
        loopback=loopback,
        delay=delay,
    )
    _finish(screen, job)


@application.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    model: Annotated[
        list[str], typer.Option("--model", help="A model to ask: its id, or provider:model; repeat it for more models.")
    ],
    instructions: Annotated[str, typer.Option("--instructions", help="System instructions for every answer.")] = "",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="The most models that are asked at once; default: all.")
    ] = None,
    loopback: _Loopback = False,
    delay: _Delay = 0.03,
) -> None:
    """Ask many models one question at the same time, and show each answer when it is complete.

    Uses the keys in the environment; without a key for any of these models, stand-in servers on this computer answer.
    """
    screen = Screen()
    job = partial(
        run_ask,
        screen,
        question=question,
        models=model,
        instructions=instructions,
        limit=limit,
        loopback=loopback,
        delay=delay,
    )
    _finish(screen, job)


def _finish(screen: Screen, job: Callable[[], Awaitable[None]]) -> None:
    """Run a command, report its errors, and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an answer may have characters that this terminal cannot show
    # The commands print this warning themselves, below the answer.
    filterwarnings("ignore", message=".* was retired by its maker", category=UserWarning)
    try:
        anyio.run(job)
    except KeyboardInterrupt:
        screen.complain("interrupted")
        raise typer.Exit(_INTERRUPTED) from None
    except DhenaraError as exc:
        screen.problem(exc)
        raise typer.Exit(1) from None
