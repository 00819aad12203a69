"""LangGraph's checkpointers and the OpenAI Agents SDK's sessions, as their documentation uses them.

Source: https://docs.langchain.com/oss/python/langgraph/persistence and
https://openai.github.io/openai-agents-python/sessions/ (read 2026-11-28)
"""

from contextlib import AsyncExitStack
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from benchmarks.stores.talk import TURNS, Progress, answer, demand, name_of, question


def installed(module: str) -> bool:
    """Whether a module is installed; also a name with dots."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


class LangGraphKeeper:
    """A graph whose state is the list of messages, under a checkpointer; a turn is one update of the state.

    Args:
        module: Where the checkpointer is.
        saver: Its class.
        address: The path or the URL of the database.
    """

    def __init__(self, module: str, saver: str, address: str) -> None:
        self._saver: Any = getattr(import_module(module), saver)
        self._address = address
        self._stack = AsyncExitStack()
        self._graph: Any = None
        self._added = 0

    async def fill(self, conversations: int, progress: Progress) -> None:
        """Keep the talk, turn by turn."""
        saver: Any = await self._stack.enter_async_context(self._saver.from_conn_string(self._address))
        await saver.setup()
        graphs: Any = import_module("langgraph.graph")
        builder: Any = graphs.StateGraph(graphs.MessagesState)
        builder.add_node("chat", _nothing)
        builder.add_edge("__start__", "chat")
        self._graph = builder.compile(checkpointer=saver)
        for number in range(conversations):
            for turn in range(TURNS):
                await self._add(number, turn)
            progress((number + 1) * TURNS)

    async def open(self, conversation: int) -> None:
        """Read the state of a thread."""
        state: Any = await self._graph.aget_state(_thread(conversation))
        demand(len(state.values["messages"]) >= 2 * TURNS, "messages are missing")

    async def append(self, conversation: int) -> None:
        """Update the state of a thread by one turn."""
        self._added += 1
        await self._add(conversation, TURNS + self._added)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._stack.aclose()

    async def _add(self, conversation: int, turn: int) -> None:
        messages = [
            {"role": "user", "content": question(turn)},
            {"role": "assistant", "content": answer(turn)},
        ]
        await self._graph.aupdate_state(_thread(conversation), {"messages": messages}, as_node="chat")


def _nothing(state: object) -> dict[str, object]:
    return {}


def _thread(conversation: int) -> dict[str, object]:
    return {"configurable": {"thread_id": name_of(conversation)}}


class AgentsKeeper:
    """``SQLiteSession``: a session for each conversation, in one file.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self._session: Any = import_module("agents").SQLiteSession
        self._path = path
        self._added = 0

    async def fill(self, conversations: int, progress: Progress) -> None:
        """Keep the talk, turn by turn."""
        for number in range(conversations):
            session: Any = self._session(name_of(number), self._path)
            for turn in range(TURNS):
                await session.add_items(_items(turn))
            session.close()
            progress((number + 1) * TURNS)

    async def open(self, conversation: int) -> None:
        """Read the items of a session."""
        session: Any = self._session(name_of(conversation), self._path)
        demand(len(await session.get_items()) >= 2 * TURNS, "items are missing")
        session.close()

    async def append(self, conversation: int) -> None:
        """Add the items of one turn."""
        self._added += 1
        session: Any = self._session(name_of(conversation), self._path)
        await session.add_items(_items(TURNS + self._added))
        session.close()

    async def aclose(self) -> None:
        """Nothing is open."""


def _items(turn: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": question(turn)}, {"role": "assistant", "content": answer(turn)}]
