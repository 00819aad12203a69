"""The command line: its commands and options, and what every command does about Ctrl-C and errors.

``demo``, ``chat`` and ``ask`` hold the commands' work, ``endpoints`` finds out who is meant by a name, ``screen`` shows
things.
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

_INTERRUPTED = 130  # what shells expect of a program that Ctrl-C has ended

# Pretty tracebacks would show local variables, and so perhaps what somebody asked a model.
application: typer.Typer = typer.Typer(
    name="dhenara-async", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)

_Loopback = Annotated[
    bool, typer.Option("--loopback", help="Ask stand-in servers on this computer, even where there are keys.")
]
_Delay = Annotated[float, typer.Option("--delay", min=0, help="Seconds before each token of a stand-in server.")]


def _show_version(asked: bool) -> None:
    if asked:
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
        typer.Option("--models", help="Who answers, turn by turn: NAME,NAME,… with NAME a model or provider:model."),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Show each answer when it is whole.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write the events to stdout, one JSON object a line.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Show after each turn what became of its history, part by part.")
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
    model: Annotated[str, typer.Option("--model", help="Who answers first: a model, or provider:model.")],
    provider: Annotated[
        AIModelAPIProviderEnum | None,
        typer.Option("--provider", help="Who serves the model, and every later one whose name does not tell."),
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="Where that provider is, as its own SDK would take it.")
    ] = None,
    instructions: Annotated[str, typer.Option("--instructions", help="What leads every answer.")] = "",
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
    question: Annotated[str, typer.Argument(help="What is asked.")],
    model: Annotated[
        list[str], typer.Option("--model", help="Who is asked: a model, or provider:model; once for each of them.")
    ],
    instructions: Annotated[str, typer.Option("--instructions", help="What leads every answer.")] = "",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="How many are asked at once; all, if left out.")
    ] = None,
    loopback: _Loopback = False,
    delay: _Delay = 0.03,
) -> None:
    """Ask many models the same at once, and show each answer as it ends.

    Uses the keys in the environment; without any of those it takes, stand-in servers on this computer answer.
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
    """Run a command's work to its end, whatever that is, and leave the terminal in order."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a model's words are not limited to what this terminal can show
    # The same is told in a line of its own below the answer.
    filterwarnings("ignore", message=".* was retired by its maker", category=UserWarning)
    try:
        anyio.run(job)
    except KeyboardInterrupt:
        screen.complain("interrupted")
        raise typer.Exit(_INTERRUPTED) from None
    except DhenaraError as exc:
        screen.problem(exc)
        raise typer.Exit(1) from None
