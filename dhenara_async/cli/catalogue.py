"""The commands ``models``, ``hosts`` and ``keys``: what can be asked, and with which key. No key is ever printed."""

import sys
from getpass import getpass
from typing import Annotated

import typer

from dhenara_async.cli.endpoints import key_source, model_note
from dhenara_async.cli.lines import write_line
from dhenara_async.cli.run import reported
from dhenara_async.cli.screen import Screen
from dhenara_async.cli.settings import Keys, folder, keep_model, kept_model
from dhenara_async.errors import ConfigurationError
from dhenara_async.hosts.names import known_models, meaning
from dhenara_async.hosts.registry import host_of
from dhenara_async.hosts.table import HOSTS

JsonLines = Annotated[bool, typer.Option("--json", help="Write one JSON object a line.")]

models_commands: typer.Typer = typer.Typer(help="List the models of this library; any other id works too.")
keys_commands: typer.Typer = typer.Typer(help="Keep API keys, in a file for you alone or in the system's keyring.")


@models_commands.callback(invoke_without_command=True)
def models(context: typer.Context, json: JsonLines = False) -> None:
    """List the models of this library; any other id works too: provider:model."""
    if context.invoked_subcommand is not None:
        return
    screen = Screen()
    with reported(screen):
        default = kept_model()
        for name, model in known_models().items():
            if json:
                has_key = model.provider is not None and key_source(model.provider) is not None
                values = model.model_dump(mode="json", exclude={"capabilities"})
                write_line({**values, "key": has_key, "default": name == default})
            else:
                screen.say(f"{name} · {model_note(model)}{', the default' if name == default else ''}")


@models_commands.command("default")
def default(
    name: Annotated[str | None, typer.Argument(help="The model: its id, or provider:model.")] = None,
    json: JsonLines = False,
) -> None:
    """Show the model that is asked when none is named, or keep another one."""
    screen = Screen()
    with reported(screen):
        if name is not None:
            meaning(name)
            keep_model(name)
        kept = kept_model()
        if json:
            write_line({"default": kept})
        else:
            screen.say(kept or "no default is kept; a model of the first provider with a key is asked")


def hosts(json: JsonLines = False) -> None:
    """List the providers, their addresses, and whether there is a key for them."""
    screen = Screen()
    with reported(screen):
        for name, host in HOSTS.items():
            source = key_source(name)
            if json:
                write_line(
                    {
                        "provider": str(name),
                        "base_url": host.base_url,
                        "key_variables": host.key_variables,
                        "key_required": host.key_required,
                        "key": source,
                    }
                )
                continue
            missing = f"no key ({' or '.join(host.key_variables)})" if host.key_required else "needs no key"
            key = missing if source is None else f"key in the {source}"
            screen.say(f"{name} · {host.base_url or 'give --base-url'} · {key}")


@keys_commands.callback(invoke_without_command=True)
def keys(context: typer.Context, json: JsonLines = False) -> None:
    """Keep API keys. Without a command, list the providers that have one; a key itself is never shown."""
    if context.invoked_subcommand is not None:
        return
    screen = Screen()
    with reported(screen):
        sources = {str(name): source for name in HOSTS if (source := key_source(name)) is not None}
        for provider, source in sources.items():
            if json:
                write_line({"provider": provider, "key": source})
            else:
                screen.say(f"{provider} · key in the {source}")
        if not sources and not json:
            screen.say("there is no key; run: dhenara-async keys set PROVIDER")


@keys_commands.command("set")
def set_key(
    provider: Annotated[str, typer.Argument(help="The provider; dhenara-async hosts lists them.")],
    keyring: Annotated[bool, typer.Option("--keyring", help="Keep it in the system's keyring, not in a file.")] = False,
    json: JsonLines = False,
) -> None:
    """Keep the key of a provider. It is typed unseen, or piped in; the environment's variable goes before it."""
    screen = Screen()
    with reported(screen):
        _check(provider)
        key = (_typed(provider) if sys.stdin.isatty() else sys.stdin.readline()).strip()
        if not key or not key.isprintable() or not key.isascii():
            raise ConfigurationError("that is no key: it is empty or has characters that a request cannot carry")
        Keys().keep(provider, key, in_keyring=keyring)
        place = "the system's keyring" if keyring else str(folder() / "keys.json")
        if json:
            write_line({"provider": provider, "kept": place})
        else:
            screen.say(f"the key for {provider} is kept in {place}")


@keys_commands.command("remove")
def remove_key(provider: Annotated[str, typer.Argument(help="The provider.")], json: JsonLines = False) -> None:
    """Remove the kept key of a provider."""
    screen = Screen()
    with reported(screen):
        if not Keys().forget(provider):
            raise ConfigurationError(f"no key for {provider} is kept")
        if json:
            write_line({"provider": provider, "removed": True})
        else:
            screen.say(f"the key for {provider} is removed")


@keys_commands.command("path")
def path(json: JsonLines = False) -> None:
    """Show the file of the keys."""
    file = str(folder() / "keys.json")
    if json:
        write_line({"path": file})
    else:
        Screen().say(file)


def _check(provider: str) -> None:
    if provider not in HOSTS:
        raise ConfigurationError(f"no provider is called {provider!r}; dhenara-async hosts lists them")
    if not host_of(provider).key_variables:
        raise ConfigurationError(f"{provider} takes no key")


def _typed(provider: str) -> str:
    try:
        return getpass(f"key for {provider} (not shown): ")  # not typer.prompt: its Abort on Ctrl-C would exit with 1
    except EOFError:
        return ""
