"""Standing instructions: whose they are, which turns they lead, and how they are kept with a conversation."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import JsonValue

from dhenara_async import AIModel, AIModelAPI, AIModelEndpoint, Conversation, ConversationManager, Dialect
from dhenara_async.errors import ConfigurationError, UnsupportedError
from dhenara_async.stores import MemoryStore, StoreWithInstructions
from dhenara_async.testing import Answer, ProviderServer
from tests.loopback import endpoint_at


async def test_a_turn_is_led_by_its_own_instructions_else_by_the_standing_ones() -> None:
    async with ProviderServer() as server, ConversationManager(instructions=["Be exact.", "Be kind."]) as manager:
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        conversation = await manager.create()
        standing = await manager.ask(conversation, "One?", endpoint)
        await manager.ask(conversation, "Two?", endpoint, instructions=["Be brief."])
        await manager.ask(conversation, "Three?", endpoint, instructions=[])
        await manager.fan_out(conversation, "Four?", [endpoint])
        await manager.regenerate(conversation, standing.id, endpoint)
        await manager.edit(conversation, standing.id, "Five?", endpoint)
        own = await manager.create(instructions=["Be quick."])
        await manager.ask(own, "Six?", endpoint)
        await manager.ask(Conversation(), "Seven?", endpoint)
        assert [request.system for request in server.requests] == [
            *("Be exact.Be kind.", "Be brief.", "", "Be exact.Be kind.", "Be exact.Be kind."),
            *("Be exact.Be kind.", "Be quick.", "Be exact.Be kind."),
        ]
        assert standing.instructions == ("Be exact.", "Be kind.")


async def test_a_conversation_keeps_the_instructions_of_its_creation(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    async with ConversationManager(store=path, instructions=["Be exact."]) as manager:
        old, own, bare = await manager.create(), await manager.create(instructions=["Be quick."]), "bare"
        await manager.store.create(bare)
    async with ProviderServer() as server, ConversationManager(store=path, instructions=["Be new."]) as manager:
        for conversation_id in (old.id, own.id, bare):
            conversation = await manager.open(conversation_id)
            await manager.ask(conversation, "What?", endpoint_at(server, Dialect.OPENAI_CHAT))
            again = Conversation.import_json(conversation.export_json())
            assert (again.instructions, again.export_json()) == (conversation.instructions, conversation.export_json())
        assert [request.system for request in server.requests] == ["Be exact.", "Be quick.", "Be new."]


async def test_standing_instructions_leave_thinking_that_is_bound_to_its_prefix_as_it_is() -> None:
    thought = Answer(text="Yes.", reasoning="Think.")
    async with ProviderServer([thought] * 3) as server, ConversationManager(instructions=["Be exact."]) as manager:
        api = AIModelAPI(provider="anthropic", api_key="key", base_url=server.base_url("anthropic"))
        fable = AIModelEndpoint(api=api, ai_model=AIModel(model_name="claude-fable-5-1"))
        conversation = await manager.create()
        await manager.ask(conversation, "One?", fable)
        await manager.ask(conversation, "Two?", fable)
        assert not [entry for entry in conversation.path()[-1].conversion.entries if entry.severity != "native"]
        assert b'"thinking":"Think."' in server.requests[-1].body
        await manager.ask(conversation, "Three?", fable, instructions=["Be brief."])
        assert b'"thinking":"Think."' not in server.requests[-1].body


class PlainStore(MemoryStore):
    """A store of the protocol alone."""

    create_instructed = None  # type: ignore[assignment]

    async def create(
        self, conversation_id: str, *, title: str | None = None, metadata: Mapping[str, JsonValue] | None = None
    ) -> None:
        await super().create(conversation_id, title=title, metadata=metadata)


async def test_a_store_without_instructions_says_so_and_the_manager_still_leads() -> None:
    store = PlainStore()
    assert not isinstance(store, StoreWithInstructions)
    async with ProviderServer() as server, ConversationManager(store=store, instructions=["Be exact."]) as manager:
        with pytest.raises(UnsupportedError, match="create_instructed"):
            await manager.create(instructions=["Be quick."])
        conversation = await manager.open((await manager.create()).id)
        await manager.ask(conversation, "What?", endpoint_at(server, Dialect.OPENAI_CHAT))
        assert server.requests[0].system == "Be exact."


async def test_one_text_in_place_of_several_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"instructions=\['…'\]"):
        ConversationManager(instructions="Be exact.")
    with pytest.raises(ConfigurationError, match=r"instructions=\['…'\]"):
        await ConversationManager().create(instructions="Be exact.")
    with pytest.raises(ConfigurationError, match=r"instructions=\['…'\]"):
        Conversation(instructions="Be exact.")
