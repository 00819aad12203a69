"""Calls that wait for a decision: in this process and another, with the same model and another, and only once."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from pydantic import JsonValue

from dhenara_async import (
    AIModelCallConfig,
    Conversation,
    ConversationManager,
    ConversationNode,
    Dialect,
    Pending,
    StreamEvent,
    StreamReset,
    ToolApprovalRequest,
    ToolCallPart,
    ToolPolicy,
    ToolStart,
)
from dhenara_async.errors import ConfigurationError, StreamStateError
from dhenara_async.testing import Answer, ProviderServer, check_grammar
from dhenara_async.turns.turn import Turn
from tests.loopback import PATIENCE
from tests.loops.tools import SPEAKERS, Studio, call, endpoint_of, paint_step

CHAT = Dialect.OPENAI_CHAT
TWO = paint_step(1, call(1, "paint", '{"number": 1}'), call(2, "paint", '{"number": 2}'))
DONE = Answer(text="Done.")


def ask_for_two(call: ToolCallPart) -> bool | type[Pending]:
    """Decide about every call but the second."""
    return True if call.call_id == "call_1" else Pending


@pytest.mark.parametrize("approve", [True, "no"])
async def test_a_policy_that_answers_at_once(approve: bool | str) -> None:
    async def decide(call: ToolCallPart) -> bool | str:
        return approve

    studio = Studio()
    config = AIModelCallConfig(tools=studio.tools)
    async with ProviderServer([TWO, DONE]) as server, ConversationManager(config=config) as manager:
        conversation = await manager.create()
        node = await manager.ask(conversation, "Go.", endpoint_of(server, CHAT), run_tools=ToolPolicy(approve=decide))
    assert studio.painted == ([1, 2] if approve is True else [])
    assert [result.is_error for result in node.tool_results] == [approve is not True] * 2


@pytest.mark.parametrize("dialect", SPEAKERS)
async def test_a_pending_call_ends_the_turn_and_is_run_once_later(dialect: Dialect) -> None:
    studio = Studio()
    config = AIModelCallConfig(tools=studio.tools)
    async with ProviderServer([TWO, DONE]) as server, ConversationManager(config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, dialect)
        policy = ToolPolicy(approve=ask_for_two)
        async with manager.turn(conversation, "Paint two.", endpoint, run_tools=policy) as turn:
            events: list[StreamEvent] = [event async for event in turn]
        check_grammar(events)
        waiting = [event.call.call_id for event in events if isinstance(event, ToolApprovalRequest)]
        assert waiting == ["call_2"]
        assert turn.outcome == "pending"
        assert studio.painted == [1]
        assert len(turn.node.answer.tools()) == 2
        undecided = manager.resume(conversation, {}, endpoint)  # ``approve`` is asked again
        assert await undecided == turn.node
        assert undecided.outcome == "pending"

        async with manager.resume(conversation, {"call_2": True}, endpoint) as more:
            resumed = [event async for event in more]
        check_grammar(resumed)
        assert [event.call.call_id for event in resumed if isinstance(event, ToolStart)] == ["call_2"]
        assert studio.painted == [1, 2]
        assert more.node.answer.text() == "Done."
        assert more.node.loop_id == turn.node.loop_id == turn.id
        again = await manager.resume(conversation, {"call_2": True}, endpoint)
        assert again == more.node
        assert studio.painted == [1, 2]
        assert len(conversation.nodes) == 2
        assert [seen.error for seen in server.requests] == [None, None]


async def test_two_decisions_at_the_same_time_run_the_call_once() -> None:
    studio = Studio()
    config = AIModelCallConfig(tools=studio.tools)
    async with ProviderServer([TWO, DONE]) as server, ConversationManager(config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, CHAT)
        await manager.ask(conversation, "Go.", endpoint, run_tools=ToolPolicy(approve=ask_for_two))

        async def decide() -> object:
            return await manager.resume(conversation, {"call_2": True}, endpoint)

        first, second = await asyncio.gather(decide(), decide())
    assert first == second
    assert studio.painted == [1, 2]


@pytest.mark.parametrize("given", [None, {"asked": "by another"}])
async def test_the_nodes_behind_a_decision_have_the_metadata_of_their_loop_or_their_own(
    given: dict[str, JsonValue] | None,
) -> None:
    mine: dict[str, JsonValue] = {"asked": "by name"}
    config = AIModelCallConfig(tools=Studio().tools)
    async with ProviderServer([TWO, TWO, DONE]) as server, ConversationManager(config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, CHAT)
        policy = ToolPolicy(approve=ask_for_two)
        await manager.turn(conversation, "Go.", endpoint, run_tools=policy, metadata=mine)
        for _ in range(2):
            await manager.resume(conversation, {"call_2": True}, endpoint, metadata=given)
        assert [node.metadata for node in conversation.path()] == [mine, *[given or mine] * 2]
        with pytest.raises(ConfigurationError, match="JSON object"):
            manager.resume(conversation, {}, endpoint, metadata={"no": float("nan")})


RESUME = """
import asyncio, json, os, signal, sys
from dhenara_async import AIModelCallConfig, AIModel, AIModelAPI, AIModelEndpoint, ConversationManager

database, conversation_id, address, provider, model = sys.argv[1:]
ran = []

def paint(number: int) -> str:
    ran.append(number)
    return f"picture {number} is painted"

async def main():
    api = AIModelAPI(provider=provider, base_url=address, api_key="key")
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))
    async with ConversationManager(store=database, config=AIModelCallConfig(tools=[paint])) as manager:
        conversation = await manager.open(conversation_id)
        turn = manager.resume(conversation, {"call_2": True}, endpoint)
        async with turn:
            async for event in turn:
                if event.type == KILL_AT:
                    os.kill(os.getpid(), signal.SIGKILL)
        print(json.dumps([ran, turn.node.id, turn.node.answer.text(), turn.outcome]))

asyncio.run(main())
"""


async def test_another_process_resumes_with_another_model(tmp_path: Path) -> None:
    studio, database = Studio(), str(tmp_path / "chat.db")
    config = AIModelCallConfig(tools=studio.tools)
    async with ProviderServer([TWO, DONE]) as server:
        async with ConversationManager(store=database, config=config) as manager:
            conversation = await manager.create()
            policy = ToolPolicy(approve=ask_for_two)
            await manager.ask(conversation, "Go.", endpoint_of(server, CHAT), run_tools=policy)
            assert studio.painted == [1]
        other = endpoint_of(server, Dialect.ANTHROPIC_MESSAGES)
        arguments = [database, conversation.id, str(other.api.base_url), other.api.provider, other.ai_model.model_name]

        def run() -> object:
            done = subprocess.run(
                [sys.executable, "-c", f"KILL_AT = None{RESUME}", *arguments],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        ran, node_id, text, outcome = await anyio.to_thread.run_sync(run)  # type: ignore[misc]
        assert (ran, text, outcome) == ([2], "Done.", "complete")
        # this process has an old view of the conversation: the calls are not run again all the same
        async with ConversationManager(store=database, config=config) as manager:
            fresh = await manager.open(conversation.id)
            assert fresh.head is not None
            assert fresh.head.id == node_id
            assert await manager.resume(fresh, {"call_2": True}, other) == fresh.head
        assert studio.painted == [1]
        assert [seen.error for seen in server.requests] == [None, None]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes cannot be killed here")
async def test_decisions_are_brought_again_after_the_process_that_had_them_was_killed(tmp_path: Path) -> None:
    studio, database = Studio(), str(tmp_path / "chat.db")
    config = AIModelCallConfig(tools=studio.tools)
    async with ProviderServer([TWO, DONE, DONE]) as server:
        endpoint = endpoint_of(server, CHAT)
        async with ConversationManager(store=database, config=config) as manager:
            conversation = await manager.create()
            await manager.ask(conversation, "Go.", endpoint, run_tools=ToolPolicy(approve=ask_for_two))
        arguments = [database, conversation.id, str(endpoint.api.base_url), "openai", endpoint.ai_model.model_name]
        program = [sys.executable, "-c", f"KILL_AT = 'step_start'{RESUME}", *arguments]
        ended = await anyio.run_process(program, check=False)
        assert ended.returncode == -signal.SIGKILL
        async with ConversationManager(store=database, config=config) as manager:
            opened = await manager.open(conversation.id)
            assert [node.status for node in opened.path()] == ["complete", "interrupted"]
            node = await manager.resume(opened, {"call_2": True}, endpoint)
            assert node.answer.text() == "Done."
            assert [result.get_text() for result in node.tool_results] == [
                "picture 1 is painted",
                "picture 2 is painted",  # by the process that was killed
            ]
            assert await manager.resume(opened, {"call_2": True}, endpoint) == node
        assert studio.painted == [1]


async def test_two_managers_on_a_database_run_the_call_once(tmp_path: Path) -> None:
    ran: list[int] = []

    async def paint(number: int) -> str:
        ran.append(number)
        await asyncio.sleep(0.05)
        return "painted"

    config, database = AIModelCallConfig(tools=[paint]), str(tmp_path / "chat.db")
    async with (
        ProviderServer([TWO, DONE, DONE]) as server,
        ConversationManager(store=database, config=config) as one,
        ConversationManager(store=database, config=config) as two,
    ):
        endpoint = endpoint_of(server, CHAT)
        conversation = await one.create()
        await one.ask(conversation, "Go.", endpoint, run_tools=ToolPolicy(approve=ask_for_two))
        talks = conversation, await two.open(conversation.id)

        async def decide(manager: ConversationManager, talk: Conversation) -> ConversationNode:
            return await manager.resume(talk, {"call_2": True}, endpoint)

        first, second = await asyncio.gather(decide(one, talks[0]), decide(two, talks[1]))
        assert first == second
        assert await decide(two, talks[1]) == first
        assert len((await one.open(conversation.id)).nodes) == 2
    assert ran == [1, 2]


async def test_wrong_decisions_say_what_is_waiting() -> None:
    studio = Studio()
    config = AIModelCallConfig(tools=studio.tools)
    async with ProviderServer([TWO, DONE, DONE]) as server, ConversationManager(config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, CHAT)
        with pytest.raises(ConfigurationError, match="empty"):
            manager.resume(conversation, {}, endpoint)
        first = await manager.ask(conversation, "Go.", endpoint, run_tools=ToolPolicy(approve=ask_for_two))
        with pytest.raises(ConfigurationError, match="'call_9'; the calls of the head: call_1, call_2"):
            manager.resume(conversation, {"call_9": True}, endpoint)
        await manager.ask(conversation, "Something else.", endpoint)
        with pytest.raises(ConfigurationError, match="went on from node"):
            manager.resume(conversation, {"call_2": True}, endpoint)
        await manager.checkout(conversation, first.id)
        assert (await manager.resume(conversation, {"call_2": "no"}, endpoint)).answer.text() == "Done."
    assert studio.painted == [1]


async def test_two_owners_with_turns_of_one_id_resume_with_their_own_tools() -> None:
    studios = {"ada": Studio(), "eve": Studio()}
    script = [TWO, TWO, DONE, DONE]
    async with ProviderServer(script) as server, ConversationManager() as manager:
        endpoint, talks = endpoint_of(server, CHAT), dict[str, Conversation]()
        for owner, studio in studios.items():
            mine, config = manager.scoped(owner), AIModelCallConfig(tools=studio.tools)
            talks[owner] = await mine.create()
            policy = ToolPolicy(approve=ask_for_two)
            turn = mine.turn(talks[owner], "Go.", endpoint, config=config, run_tools=policy, turn_id="1")
            assert (await turn).id == "1"
        for owner in studios:
            await manager.scoped(owner).resume(talks[owner], {"call_2": True}, endpoint)
    assert [studio.painted for studio in studios.values()] == [[1, 2], [1, 2]]


async def test_a_reader_with_a_foreign_cursor_gets_every_event_of_a_resumed_loop() -> None:
    config = AIModelCallConfig(tools=Studio().tools)
    async with ProviderServer([TWO, DONE]) as server, ConversationManager(config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, CHAT)
        policy = ToolPolicy(approve=ask_for_two)
        await manager.turn(conversation, "Paint two.", endpoint, run_tools=policy)
        async with manager.resume(conversation, {"call_2": True}, endpoint) as turn:
            events = [event async for event in turn]
        assert isinstance(events[0], ToolStart)
        async with manager.attach(turn.id, "another.cursor.1") as reader:
            reset, *rest = [event async for event in reader]
    assert isinstance(reset, StreamReset)
    assert rest == events


async def test_a_decision_that_is_cancelled_in_the_queue_leaves_nothing_and_can_be_brought_again() -> None:
    studio, reached, goes_on = Studio(), anyio.Event(), anyio.Event()

    async def ask_later(asked: ToolCallPart) -> type[Pending]:
        reached.set()
        await goes_on.wait()
        return Pending

    config = AIModelCallConfig(tools=studio.tools)
    async with ProviderServer([TWO, DONE]) as server, ConversationManager(config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, CHAT)
        node = await manager.ask(conversation, "Go.", endpoint, run_tools=ToolPolicy(approve=ask_for_two))
        before = manager.resume(conversation, {}, endpoint, run_tools=ToolPolicy(approve=ask_later))
        waiting = manager.resume(conversation, {"call_2": True}, endpoint)

        async def answered(turn: Turn) -> None:
            await turn

        async def refused() -> None:
            with pytest.raises(StreamStateError, match="the turn was cancelled"):
                await waiting

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(answered, before)
                await reached.wait()
                group.start_soon(refused)
                await anyio.wait_all_tasks_blocked()
                await manager.cancel(waiting.id)
                goes_on.set()
            assert conversation.nodes == (node,)
            assert (await manager.resume(conversation, {"call_2": True}, endpoint)).answer.text() == "Done."
    assert studio.painted == [1, 2]
