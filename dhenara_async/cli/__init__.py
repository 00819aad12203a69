"""The command line: its commands and options.

``demo``, ``chat``, ``ask``, ``serve``, ``catalogue`` and ``conversations`` run the commands, and ``run`` handles their
Ctrl-C and errors. ``endpoints`` resolves model names, ``settings`` keeps keys and the default model, ``prompts`` and
``input`` read what is asked, and ``screen``, ``markdown`` and ``lines`` print the output, for people and for programs.
"""

import sys
from functools import partial
from typing import Annotated

import typer

from dhenara_async import __version__
from dhenara_async.cli.ask import Question
from dhenara_async.cli.ask import ask as run_ask
from dhenara_async.cli.catalogue import hosts, keys_commands, models_commands
from dhenara_async.cli.chat import chat as run_chat
from dhenara_async.cli.conversations import STORE_VARIABLE, check_continued, conversations_commands
from dhenara_async.cli.demo import Shown
from dhenara_async.cli.demo import demo as run_demo
from dhenara_async.cli.prompts import message_of, schema_of
from dhenara_async.cli.run import EXIT_CODES, finish, reported
from dhenara_async.cli.screen import Screen
from dhenara_async.endpoint import AIModelAPIProviderEnum
from dhenara_async.errors import ConfigurationError

# Pretty tracebacks would print local variables, and with them perhaps a user's prompt.
application: typer.Typer = typer.Typer(
    name="dhenara-async", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, epilog=EXIT_CODES
)
application.add_typer(models_commands, name="models")
application.add_typer(keys_commands, name="keys")
application.add_typer(conversations_commands, name="conversations")
application.command()(hosts)

_Loopback = Annotated[
    bool, typer.Option("--loopback", help="Use stand-in servers on this computer, even if there are keys.")
]
_Delay = Annotated[float, typer.Option("--delay", min=0, help="Seconds before each token of a stand-in server.")]
_Model = Annotated[
    str | None, typer.Option("-m", "--model", help="The first model: its id, or provider:model; default: the kept one.")
]
_System = Annotated[str, typer.Option("-s", "--system", "--instructions", help="System instructions for every answer.")]
_Store = Annotated[
    str | None,
    typer.Option("--store", envvar=STORE_VARIABLE, help="A file, or the URL of a database, to keep the talk in."),
]
_Continue = Annotated[bool, typer.Option("-c", "--continue", help="Go on with the conversation that was last.")]
_ToolFunctions = Annotated[
    list[str] | None,
    typer.Option("--tool", metavar="MODULE:FUNCTION", help="A Python function that the models may call."),
]
_ToolServers = Annotated[
    list[str] | None,
    typer.Option("--mcp", metavar="URL", help="An MCP server, or the command of one, whose tools they may call."),
]
_Raw = Annotated[
    bool, typer.Option("--raw", help="Show answers as they are; a terminal shows them as Markdown otherwise.")
]
_BaseUrl = Annotated[
    str | None, typer.Option("--base-url", help="The base URL of the provider, as its own SDK would take it.")
]


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


_database = typer.Typer(help="Work on a database of conversations.", no_args_is_help=True)
application.add_typer(_database, name="db")


@_database.command("upgrade")
def upgrade(
    address: Annotated[str, typer.Argument(help="The path of an SQLite file, or postgresql://USER@HOST/NAME.")],
) -> None:
    """Create the tables of a database, or bring them to this version; safe to run from several places at once."""
    screen = Screen()
    with reported(screen):
        try:
            from dhenara_async.cli.database import upgrade_database
        except ModuleNotFoundError as exc:
            raise ConfigurationError(
                "databases need an extra: pip install 'dhenara-async[sql]' or 'dhenara-async[postgres]'"
            ) from exc
        version = upgrade_database(address)
    sys.stdout.write(f"the schema is {version}\n")


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
    finish(screen, job)


@application.command()
def chat(
    model: _Model = None,
    provider: Annotated[
        AIModelAPIProviderEnum | None,
        typer.Option("--provider", help="The provider of every model whose name does not imply one."),
    ] = None,
    base_url: _BaseUrl = None,
    instructions: _System = "",
    store: _Store = None,
    continued: _Continue = False,
    tools: _ToolFunctions = None,
    servers: _ToolServers = None,
    json: Annotated[bool, typer.Option("--json", help="Write the events to stdout, one JSON object a line.")] = False,
    raw: _Raw = False,
    loopback: _Loopback = False,
    delay: _Delay = 0.03,
) -> None:
    """Talk with a model; /model NAME hops to another one within the conversation, /help lists the rest.

    You are asked before a tool runs.
    """
    screen = Screen(raw=raw, json=json)
    job = partial(
        run_chat,
        screen,
        model=model,
        provider=provider,
        base_url=base_url,
        instructions=instructions,
        loopback=loopback,
        delay=delay,
        store=store,
        continued=continued,
        json=json,
        tools=tools or (),
        servers=servers or (),
    )
    finish(screen, job)


@application.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question; standard input, if piped, goes before it.")] = "",
    model: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", help="A model to ask: its id, or provider:model; repeat it for more models."),
    ] = None,
    instructions: _System = "",
    attach: Annotated[
        list[str] | None,
        typer.Option("-a", "--attach", metavar="FILE", help="A file or URL to send along; - for standard input."),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option("--schema", help="The JSON schema of the answer: JSON, a file, or fields: 'name, age int'."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write every answer as one JSON object a line.")] = False,
    usage: Annotated[bool, typer.Option("-u", "--usage", help="Tell the tokens of a single answer on stderr.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="The most models that are asked at once; default: all.")
    ] = None,
    base_url: _BaseUrl = None,
    store: _Store = None,
    continued: _Continue = False,
    raw: _Raw = False,
    loopback: _Loopback = False,
    delay: _Delay = 0.03,
) -> None:
    """Ask a model, and stream its answer; or ask several at the same time.

    Without --model, the kept default is asked (dhenara-async models default NAME), else a model of a provider with a
    key. Standard output has the answer alone.
    """
    screen = Screen(raw=raw or schema is not None)
    with reported(screen):
        # Before the event loop starts: reading standard input may take long, and Ctrl-C has to end it.
        asked = Question(
            message=message_of(question, attach or ()),
            instructions=(instructions,) if instructions.strip() else (),
            schema=None if schema is None else schema_of(schema),
            json=json,
            usage=usage,
            limit=limit,
            base_url=base_url,
            loopback=loopback,
            delay=delay,
            store=store,
            continued=continued,
        )
        check_continued(store, continued=continued)
    finish(screen, partial(run_ask, screen, asked, model or ()))


@application.command()
def serve(
    host: Annotated[
        str, typer.Option("--host", help="The address to listen at; others than loopback need a token.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 = one that is free.")] = 8000,
    store: Annotated[
        str | None,
        typer.Option(
            "--store", envvar=STORE_VARIABLE, help="A file, or the URL of a database; default: one in your own folder."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", envvar="DHENARA_ASYNC_TOKEN", help="The secret that clients have to send; else one is made up."
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", help="A model to offer: its id, or provider:model; repeat it for more models."),
    ] = None,
    tools: _ToolFunctions = None,
    servers: _ToolServers = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A further name of this server, such as that of a proxy."),
    ] = None,
    opens: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    loopback: _Loopback = False,
    delay: _Delay = 0.03,
    grace: Annotated[
        float, typer.Option("--grace", min=0, help="Seconds that running answers may go on after Ctrl-C.")
    ] = 10.0,
) -> None:
    """Serve a page to talk with models on, and the same models for clients of OpenAI's API below /v1.

    Uses the keys in the environment; without any, stand-in servers on this computer answer. Nothing that a model may
    call runs before you allow it on the page.
    """
    screen = Screen()
    with reported(screen):
        from dhenara_async.cli.serve import Serving
        from dhenara_async.cli.serve import serve as run_serve

        asked = Serving(
            host=host,
            port=port,
            store=store,
            token=token,
            models=models or (),
            tools=tools or (),
            servers=servers or (),
            names=names or (),
            opens=opens,
            loopback=loopback,
            delay=delay,
            grace=grace,
        )
    finish(screen, partial(run_serve, screen, asked))
