"""Kept conversations: which one is gone on with, and the command ``conversations``."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

from dhenara_async.cli.catalogue import JsonLines
from dhenara_async.cli.endpoints import default_model
from dhenara_async.cli.lines import write_line
from dhenara_async.cli.run import finish
from dhenara_async.cli.screen import Screen
from dhenara_async.conversation import Conversation
from dhenara_async.errors import ConfigurationError
from dhenara_async.hosts.names import meaning
from dhenara_async.manager import ConversationManager
from dhenara_async.stores.protocol import StoredConversation

STORE_VARIABLE = "DHENARA_ASYNC_STORE"
_LAST = "last"
_PAGE = 100
_TITLE_CHARACTERS = 60

conversations_commands: typer.Typer = typer.Typer(
    help="List, show, export and delete kept conversations.", no_args_is_help=True
)

_KeptIn = Annotated[
    str, typer.Option("--store", envvar=STORE_VARIABLE, help="The file, or the URL of a database, that has them.")
]
_Id = Annotated[str, typer.Argument(help="The conversation's id; last = the one that was changed last.")]


def title_of(question: str) -> str:
    """Return a title for a conversation that begins with ``question``."""
    words = " ".join(question.split())
    return words if len(words) <= _TITLE_CHARACTERS else f"{words[: _TITLE_CHARACTERS - 1]}…"


def check_continued(store: str | None, *, continued: bool) -> None:
    """Check that there is a store to go on from.

    Raises:
        ConfigurationError: There is none.
    """
    if continued and not store:
        raise ConfigurationError(
            f"--continue needs the conversations' file: give --store FILE, or set {STORE_VARIABLE}"
        )
    if continued and store:
        _check_there(store)


async def last_conversation(manager: ConversationManager) -> Conversation:
    """Open the conversation that was changed last.

    Raises:
        ConfigurationError: There is none.
    """
    return await manager.load_all(await _opened(manager, _LAST))  # /usage sums all turns


def model_of(conversation: Conversation | None, *, loopback: bool) -> str:
    """Return the model of the last answer; the default model if there is none, or if its host is unknown here.

    Raises:
        ConfigurationError: There is no default model either.
    """
    origin = None if conversation is None or conversation.head is None else conversation.head.origin
    if origin is not None:
        name = f"{origin.provider}:{origin.model}"
        try:
            meaning(name)
        except ConfigurationError:
            pass  # a host that the program which kept it had registered
        else:
            return name
    return default_model(loopback=loopback)


@conversations_commands.command("list")
def list_conversations(store: _KeptIn, json: JsonLines = False) -> None:
    """List the conversations, the most recently created first."""
    screen = Screen()

    async def job(manager: ConversationManager) -> None:
        before: str | None = None
        while True:
            page = await manager.list(limit=_PAGE, before=before)
            for item in page.items:
                if json:
                    write_line(_described(item))
                else:
                    screen.say(f"{item.id} · {item.updated:%Y-%m-%d %H:%M} · {item.title or 'without a title'}")
            before = page.next
            if before is None:
                return

    _run(screen, store, job)


@conversations_commands.command("show")
def show(store: _KeptIn, conversation: _Id = _LAST, json: JsonLines = False) -> None:
    """Show the questions and answers of a conversation."""
    screen = Screen()

    async def job(manager: ConversationManager) -> None:
        for node in (await _opened(manager, conversation)).path():
            if json:
                write_line(node.model_dump(mode="json"))
                continue
            screen.say(f"> {node.user_query}", style="bold")
            for file in node.attached_files:
                screen.quiet(f"file: {file.filename or file.media_type}")
            if node.response is not None:
                screen.whole(node.response.text() or node.response.refusal())
            model = "" if node.origin is None else f"{node.origin.model} · {node.origin.provider} · "
            screen.quiet(f"— {model}{node.status}")

    _run(screen, store, job)


@conversations_commands.command("export")
def export(store: _KeptIn, conversation: _Id = _LAST) -> None:
    """Write a conversation with all its branches to stdout, as one JSON object."""
    screen = Screen()

    async def job(manager: ConversationManager) -> None:
        opened = await manager.load_all(await _opened(manager, conversation))
        head = None if opened.head is None else opened.head.id
        write_line({"id": opened.id, "head": head, "nodes": [node.model_dump(mode="json") for node in opened.nodes]})

    _run(screen, store, job)


@conversations_commands.command("delete")
def delete(
    store: _KeptIn,
    conversation: Annotated[str, typer.Argument(help="The conversation's id.")],
    json: JsonLines = False,
) -> None:
    """Delete a conversation."""
    screen = Screen()

    async def job(manager: ConversationManager) -> None:
        opened = await manager.open(conversation, path_only=True)
        await manager.delete(opened)
        if json:
            write_line({"id": opened.id, "deleted": True})
        else:
            screen.say(f"{opened.id} is deleted")

    _run(screen, store, job)


def _run(screen: Screen, store: str, job: Callable[[ConversationManager], Awaitable[None]]) -> None:
    async def work() -> None:
        _check_there(store)
        async with ConversationManager(store=store) as manager:
            await job(manager)

    finish(screen, work)


def _check_there(store: str) -> None:
    # a mistyped path must not give an empty list, and leave a file behind
    if "://" not in store and not Path(store).is_file():
        raise ConfigurationError(f"no conversations are kept in {os.fspath(store)!r}: there is no such file")


async def _opened(manager: ConversationManager, conversation_id: str) -> Conversation:
    if conversation_id != _LAST:
        return await manager.open(conversation_id)
    items: list[StoredConversation] = []
    page = await manager.list(limit=_PAGE)
    items.extend(page.items)
    while page.next is not None:
        page = await manager.list(limit=_PAGE, before=page.next)
        items.extend(page.items)
    if not items:
        raise ConfigurationError("no conversation is kept yet")
    return await manager.open(max(items, key=lambda item: item.updated).id)


def _described(item: StoredConversation) -> dict[str, object]:
    return {
        "id": item.id,
        "title": item.title,
        "metadata": dict(item.metadata),
        "created": item.created.isoformat(),
        "updated": item.updated.isoformat(),
    }
