"""The events of several turns in one stream: bounded, joined, and each turn by itself."""

from collections.abc import Mapping
from typing import Any

import anyio
import anyio.lowlevel
import orjson

from dhenara_async import ConversationManager, ConversationNode, Dialect
from dhenara_async.messages.messages import Part
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.web.playground.turn_events import FollowedTurn, TurnEvents
from tests.loopback import PATIENCE, endpoint_at

WORDS = 2_000


class Told:
    """What the feed asks of its app: it counts, and has nothing to say."""

    def __init__(self) -> None:
        self.parts = self.ends = 0

    async def admit(self, chat_id: str, turn_id: str) -> None:
        pass

    async def ended(self, chat_id: str, node: ConversationNode) -> Mapping[str, object]:
        self.ends += 1
        return {"id": node.id, "chat": chat_id}

    def part_of(self, part: Part, chat_id: str, turn_id: str) -> Mapping[str, object]:
        self.parts += 1
        return {"type": part.type, "text": part.get_text()}

    def error_of(self, error: BaseException) -> Mapping[str, object]:
        return {"message": type(error).__name__}


def feed(manager: ConversationManager, told: Told, *turns: FollowedTurn) -> TurnEvents:
    return TurnEvents(
        manager,
        turns,
        admit=told.admit,
        ended=told.ended,
        part_of=told.part_of,
        error_of=told.error_of,
        headers={"x-more": "1"},
    )


async def answered(manager: ConversationManager, provider: ProviderServer) -> tuple[str, str]:
    """Have two turns of a long answer each, and return their ids."""
    conversation = await manager.create()
    ids: list[str] = []
    for _ in range(2):
        async with manager.turn(conversation, "Long?", endpoint_at(provider, Dialect.OPENAI_CHAT)) as turn:
            while await turn.batch():
                pass
        ids.append(turn.id)
    return ids[0], ids[1]


async def test_a_page_that_does_not_read_has_one_frame_of_each_turn_made() -> None:
    told = Told()
    script = [Answer(text="word " * WORDS)] * 2
    async with ProviderServer(script) as provider, ConversationManager() as manager:
        ids = await answered(manager, provider)
        events = feed(manager, told, *map(FollowedTurn, ids), FollowedTurn("nobody"))
        async with events:
            for _ in range(200):
                await anyio.lowlevel.checkpoint()
            assert (told.parts, told.ends) == (0, 0)  # the end of each answer is in its last piece
            body = b""
            with anyio.fail_after(PATIENCE):
                while (data := await events.read()) is not None:
                    assert len(data) < 1 << 20
                    body += data
        body += events.end()
        assert (told.parts, told.ends) == (2, 2)
    frames = [orjson.loads(line[6:]) for line in body.split(b"\n\n") if line]
    assert events.headers["x-more"] == "1"
    assert frames[-1] == {"type": "end"}
    assert {"turn": "nobody", "error": {"message": "UnknownTurnError"}} in frames
    for turn_id in ids:
        mine = [frame for frame in frames if frame.get("turn") == turn_id]
        texts = [frame["event"]["text"] for frame in mine if frame.get("event", {}).get("type") == "text_delta"]
        assert "".join(texts) == "word " * WORDS
        assert len(texts) < 20  # deltas that are there together are one event
        cursors = [int(frame["cursor"].rpartition(".")[2]) for frame in mine if "event" in frame]
        assert cursors == sorted(set(cursors))
        assert mine[-1]["end"]["id"] == turn_id


async def test_the_end_of_a_part_repeats_its_text_only_to_a_page_that_has_not_read_it_from_the_start() -> None:
    script = [Answer(text="word " * WORDS)] * 2
    async with ProviderServer(script) as provider, ConversationManager() as manager:
        turn_id, _ = await answered(manager, provider)
        from_start = await frames_of(feed(manager, Told(), FollowedTurn(turn_id)))
        middle = next(frame for frame in from_start if frame.get("event", {}).get("type") == "text_delta")["cursor"]
        from_middle = await frames_of(feed(manager, Told(), FollowedTurn(turn_id, middle)))
    ends = [
        frame["event"]["part"]
        for frames in (from_start, from_middle)
        for frame in frames
        if frame.get("event", {}).get("type") == "part_end"
    ]
    assert ends == [{"type": "text"}, {"type": "text", "text": "word " * WORDS}]


async def frames_of(events: TurnEvents) -> list[dict[str, Any]]:
    """Read a feed to its end."""
    body = b""
    with anyio.fail_after(PATIENCE):
        async with events:
            while (data := await events.read()) is not None:
                body += data
    return [orjson.loads(line[6:]) for line in body.split(b"\n\n") if line]


async def test_a_page_that_goes_away_ends_its_followers() -> None:
    told = Told()
    async with ProviderServer([Answer(text="word " * WORDS)] * 2) as provider, ConversationManager() as manager:
        ids = await answered(manager, provider)
        with anyio.move_on_after(PATIENCE) as limit:
            async with feed(manager, told, *map(FollowedTurn, ids)) as events:
                assert await events.read()
        assert not limit.cancelled_caught
        assert told.ends == 0
