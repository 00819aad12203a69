"""Another owner's ids behave like ids that do not exist, in every call; and hostile texts are texts."""

import os
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from inspect import getmembers, isfunction
from typing import cast
from uuid import uuid4

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dhenara_async import AIModelEndpoint, Conversation, ConversationManager, ConversationNode, Dialect
from dhenara_async.errors import DhenaraError
from dhenara_async.stores import MemoryStore, SQLStore
from dhenara_async.testing import Answer, ProviderServer
from tests.loopback import endpoint_at

Store = MemoryStore | SQLStore


@dataclass(frozen=True)
class Foreign:
    """What a call is tried with: a conversation of somebody else, or one that nobody has.

    Attributes:
        conversation: The conversation, with its turns.
        turn_id: The id of a turn that has just been answered.
        who: An endpoint.
    """

    conversation: Conversation
    turn_id: str
    who: AIModelEndpoint

    @property
    def node(self) -> ConversationNode:
        """The last turn."""
        return self.conversation.nodes[-1]


async def _attached(manager: ConversationManager, foreign: Foreign) -> int:
    async with manager.attach(foreign.turn_id) as reader:
        return len([event async for event in reader])


CALLS: dict[str, Callable[[ConversationManager, Foreign], Awaitable[object]]] = {
    "ask": lambda manager, foreign: manager.ask(foreign.conversation, "?", foreign.who),
    "attach": _attached,
    "cancel": lambda manager, foreign: manager.cancel(foreign.turn_id),
    "checkout": lambda manager, foreign: manager.checkout(foreign.conversation, foreign.node.id),
    "children": lambda manager, foreign: manager.children(foreign.conversation, None),
    "choose": lambda manager, foreign: manager.choose(foreign.conversation, foreign.node.id),
    "delete": lambda manager, foreign: manager.delete(foreign.conversation),
    "describe": lambda manager, foreign: manager.describe(foreign.conversation),
    "edit": lambda manager, foreign: manager.edit(foreign.conversation, foreign.node.id, "?", foreign.who),
    "fan_out": lambda manager, foreign: _asked_two(manager, foreign),
    "list": lambda manager, foreign: manager.list(),
    "load": lambda manager, foreign: manager.load(foreign.conversation, "elsewhere"),
    "load_all": lambda manager, foreign: manager.load_all(foreign.conversation),
    "open": lambda manager, foreign: manager.open(foreign.conversation.id),
    "regenerate": lambda manager, foreign: manager.regenerate(foreign.conversation, foreign.node.id, foreign.who),
    "rename": lambda manager, foreign: manager.rename(foreign.conversation, "mine now"),
    "resume": lambda manager, foreign: manager.resume(foreign.conversation, {}, foreign.who),
    "running": lambda manager, foreign: manager.running(foreign.conversation),
    "search": lambda manager, foreign: manager.search("painting"),
    "siblings": lambda manager, foreign: manager.siblings(foreign.conversation, foreign.node.id),
    "turn": lambda manager, foreign: manager.turn(foreign.conversation, "?", foreign.who),
}
"""Every call of a manager that takes the id of something kept, or finds one."""
HARMLESS = {"check", "client", "create", "finish", "preview", "scoped", "warm_up"}


async def _asked_two(manager: ConversationManager, foreign: Foreign) -> object:
    return await manager.fan_out(foreign.conversation, "?", [foreign.who, foreign.who])


def test_no_call_is_forgotten() -> None:
    public = {name for name, _ in getmembers(ConversationManager, isfunction) if not name.startswith("_")}
    assert public == CALLS.keys() | HARMLESS


def _copy(conversation: Conversation, name: str) -> Conversation:
    return Conversation(name, nodes=conversation.nodes, head=conversation.nodes[-1].id)


async def test_another_owners_ids_behave_like_ids_that_do_not_exist(store: Store) -> None:
    async with ProviderServer([Answer(text="Yes.")] * 40) as server, ConversationManager(store=store) as manager:
        who, theirs = endpoint_at(server, Dialect.OPENAI_CHAT), manager.scoped(f"user-{uuid4().hex}")
        conversation = await theirs.create(title="theirs")
        await theirs.ask(conversation, "painting", who)
        async with theirs.turn(conversation, "painting", who) as turn:
            assert len(await theirs.running(conversation)) == 1
            assert await manager.running(conversation) == await manager.scoped("another").running(conversation) == ()
            await turn.collect()
        before = (await theirs.list()).items

        async def outcome(call: str, name: str, turn_id: str) -> object:
            """What a stranger gets, without the ids in it."""
            foreign = Foreign(_copy(conversation, name), turn_id, who)
            try:
                got = await CALLS[call](manager.scoped(f"user-{uuid4().hex}"), foreign)
            except DhenaraError as exc:
                shown = str(exc).replace(name, "ID").replace(turn_id, "TURN")
                ids = [node.id for node in foreign.conversation.nodes]
                for node_id in ids:
                    shown = shown.replace(node_id, "NODE")
                return type(exc), shown
            if call == "fan_out":
                return len(cast("tuple[ConversationNode, ...]", got))
            return type(got), str(got) if call in ("list", "search", "children") else ""

        for call in CALLS:
            foreign = await outcome(call, conversation.id, turn.id)
            assert foreign == await outcome(call, uuid4().hex, uuid4().hex), call
        assert (await theirs.list()).items == before
        assert (await theirs.open(conversation.id)).nodes == conversation.nodes


async def test_a_part_of_another_owners_conversation_loads_no_more_of_it(store: Store) -> None:
    async with ConversationManager(store=store) as manager:
        theirs, name, root = manager.scoped(f"user-{uuid4().hex}"), uuid4().hex, ConversationNode()
        await theirs.store.append(name, root)
        for _ in range(2):
            await theirs.store.append(name, ConversationNode(parent_id=root.id))
        opened = await theirs.open(name, path_only=True)
        if opened.complete:
            assert isinstance(store, MemoryStore)
            return
        mine = manager.scoped(f"user-{uuid4().hex}")
        for call in (mine.load_all(opened), mine.children(opened, root.id), mine.load(opened, "elsewhere")):
            with pytest.raises(DhenaraError, match="no conversation"):
                await call
        assert len(opened.nodes) == 2


# ------------------------------------------------------------------------------------------------------- hostile texts


@pytest.fixture
def portal() -> Generator[BlockingPortal]:
    """An event loop in a thread, for tests whose examples share an open store."""
    with start_blocking_portal() as opened:
        yield opened


THOROUGH = bool(os.environ.get("DHENARA_TEST_THOROUGH"))
HOSTILE = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=40),  # also NUL, controls and lone surrogates
    st.sampled_from(
        [
            *("robot' OR 1=1 --", 'robot" OR "', "robot*", "NEAR(robot, 1)", "words:robot", "- robot", "robot AND"),
            *("NOT", "()", '"', "%", "_", ":asked", "a " * 5_000, "x" * 100_000, "robot & !x | <->", "\\", "$1", "{}"),
            *("'; DROP TABLE nodes; --", "\N{ZERO WIDTH SPACE}", "0", "-1", "9" * 19, "9" * 40, "\u0660"),
        ]
    ),
)


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, portal: BlockingPortal) -> Generator[SQLStore]:
    """An open database of each kind, in the portal's loop."""
    if request.param == "sqlite":
        address = str(request.getfixturevalue("tmp_path") / "chat.db")
    else:
        address = request.getfixturevalue("postgres").render_as_string(hide_password=False)
    with portal.wrap_async_context_manager(SQLStore(address)) as store:
        yield store


@settings(
    max_examples=200 if THOROUGH else 15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=HOSTILE, other=HOSTILE)
def test_hostile_texts_raise_typed_errors_only(opened: SQLStore, portal: BlockingPortal, text: str, other: str) -> None:
    portal.call(_hostile, opened.scoped(uuid4().hex), text, other)


async def _hostile(unharmed: SQLStore, text: str, other: str) -> None:
    node = ConversationNode(user_query="robot")
    await unharmed.append("a", node)
    await _tried(unharmed, text, other)
    assert (await unharmed.load("a")).nodes == (node,)
    try:
        theirs = unharmed.scoped(f"{text}{uuid4().hex}")
    except DhenaraError:
        return
    assert await theirs.search("robot") == ()
    await _tried(theirs, text, other)
    assert (await unharmed.load("a")).nodes == (node,)


async def _tried(store: SQLStore, text: str, other: str) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.list(before=text),
        lambda: store.load(text),
        lambda: store.load_path("a", text),
        lambda: store.load_children("a", text),
        lambda: store.checkout("a", text),
        lambda: store.rename(text, other),
        lambda: store.delete(f"{text} elsewhere"),
        lambda: store.create(f"{text} b", title=other, metadata={text: other}),
        lambda: store.append(f"{text} b", ConversationNode(id=text or "id", user_query=other, parent_id=None)),
        lambda: store.append(f"{text} b", ConversationNode(user_query=text, parent_id=other)),
        lambda: store.load(f"{text} b"),
    ]
    for call in calls:
        with suppress(DhenaraError):  # a cursor, an id or a limit that cannot be; nothing of a driver
            await call()
    for words in (text, other, f"robot {text}"):
        assert {hit.conversation for hit in await store.search(words)} <= {"a", f"{text} b"}
