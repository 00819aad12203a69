"""``AnswersByWords``: finds our own answers in a history that a client sends without ids.

A conversation that began with such a history is found by the id of its first turn, which follows from the words there.
Any other one is searched for by the words of its last answers. From there on, the turns that show the same questions,
files, results and answers as the history are followed as far as they go.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import anyio

from dhenara_async.conversation import ConversationNode
from dhenara_async.manager import ConversationManager
from dhenara_async.messages.messages import Role
from dhenara_async.stores import StoreWithSearch
from dhenara_async.stores.journal import StoreWithJournal
from dhenara_async.stores.search import asked_words
from dhenara_async.turns.keeping import described
from dhenara_async.web.openai.responses.history import GivenMessage, GivenTurn, OwnAnswers, turns_of
from dhenara_async.web.openai.responses.ids import TurnPlace, response_id
from dhenara_async.web.openai.responses.input_items import GivenItem

logger: logging.Logger = logging.getLogger("dhenara_async")

_WORDS: Final = 12  # of the answer, and of its question
_HITS: Final = 10
_SEARCHES: Final = 3  # for the last turns that have words
_SECONDS: Final = 2.0


class AnswersByWords:
    """Finds the answers of one owner by their words.

    Args:
        manager: The manager, confined to the owner.
        own: Opens the conversations of hits.
    """

    def __init__(self, manager: ConversationManager, own: OwnAnswers) -> None:
        self._manager = manager
        self._own = own

    async def with_ids(self, items: Sequence[GivenItem]) -> Sequence[GivenItem]:
        """Return the messages of a request with the responses that their answers belong to.

        They come back as they are if the answers have ids, or are not known, or the store does not find them in time.

        Args:
            items: The messages, oldest first.
        """
        answers = [at for at, item in enumerate(items) if item.message.role is Role.ASSISTANT]
        if not answers or any(item.responses or item.referred for item in items):
            return items
        turns = turns_of([GivenMessage(item.message) for item in items[: answers[-1] + 1]])
        try:
            with anyio.fail_after(_SECONDS):
                path = await self._continued(turns) or await self._searched(turns)
        except Exception as exc:  # noqa: BLE001 - whatever a store raises, there is an answer without it
            logger.warning("a history is taken as it was sent, because the store did not answer: %s", described(exc))
            return items
        named = list(items)
        for at, place in zip(answers, path, strict=False):
            named[at] = replace(items[at], responses=(response_id(place),))
        return named if path else items

    async def _continued(self, turns: Sequence[GivenTurn]) -> list[TurnPlace]:
        """Return the turns of a conversation that began with the first turn of this history."""
        store = self._manager.store
        found = await store.find_node(turns[0].id_behind(None)) if isinstance(store, StoreWithJournal) else None
        return [] if found is None else await self._followed(TurnPlace(found[0], found[1].id), turns)

    async def _searched(self, turns: Sequence[GivenTurn]) -> list[TurnPlace]:
        """Return the turns of a conversation that has the words of this history."""
        if not isinstance(self._manager.store, StoreWithSearch):
            return []
        queries = [(at, _query(turn)) for at, turn in enumerate(turns)]
        for at, query in [each for each in reversed(queries) if each[1]][:_SEARCHES]:
            for hit in await self._manager.search(query, limit=_HITS):
                path = await self._followed(TurnPlace(hit.conversation, hit.node), turns)
                if len(path) > at:
                    return path
        return []

    async def _followed(self, place: TurnPlace, turns: Sequence[GivenTurn]) -> list[TurnPlace]:
        """Return the turns of a history on the longest way through a turn; none if it is not the path to that turn."""
        conversation = await self._own.conversation(place)
        if conversation is None:
            return []
        path = conversation.path(place.node)
        if len(path) > len(turns) or not all(map(GivenTurn.shows, turns, path)):
            return []
        last: Sequence[ConversationNode] = path[-1:]
        for turn in turns[len(path) :]:
            children = [child for node in last for child in await self._manager.children(conversation, node.id)]
            following = [child for child in children if turn.shows(child)]
            if not following:
                break
            last = following
        return [TurnPlace(place.conversation, node.id) for node in conversation.path(last[-1].id)]


def _query(turn: GivenTurn) -> str:
    said = "" if turn.answer is None else turn.answer.message.get_text()
    return " ".join([*asked_words(said)[:_WORDS], *asked_words(turn.query)[:_WORDS]])
