"""The metadata of a turn: a JSON object of the application's own that is kept with its node."""

from pathlib import Path

import pytest
from pydantic import JsonValue

from dhenara_async import ConversationManager, Dialect
from dhenara_async.errors import ConfigurationError
from dhenara_async.testing import ProviderServer
from tests.loopback import ONCE, endpoint_at


async def test_a_node_has_the_metadata_of_its_turn_in_the_store_too(tmp_path: Path) -> None:
    given: dict[str, JsonValue] = {"shown": True, "labels": {"a": "b"}}
    async with ProviderServer() as server, ConversationManager(store=tmp_path / "chat.db", config=ONCE) as manager:
        assert manager.config is ONCE
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        conversation = await manager.create()
        node = await manager.turn(conversation, "Hi", endpoint, metadata=given)
        plain = await manager.turn(conversation, "And?", endpoint)
        kept = (await manager.open(conversation.id)).nodes
        assert tuple(kept) == (node, plain)
        assert kept[0].metadata == given
        assert '"metadata"' not in plain.model_dump_json()
        for wrong in ({"a": object()}, {"a": {"b": float("nan")}}, {1: 2}, ["a"], "text"):
            with pytest.raises(ConfigurationError, match="metadata"):
                manager.turn(conversation, "Hi", endpoint, metadata=wrong)  # type: ignore[arg-type]
