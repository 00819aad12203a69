"""``AnswersByWords``: finds our own answers in a history that a client sends without ids.

The store is searched for the words of the last answer. A hit counts if the whole history is the path to it: every
question, file and result, and every answer.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import anyio

from dhenara_async.conversation import ConversationNode
from dhenara_async.manager import ConversationManager
from dhenara_async.messages.messages import Role
from dhenara_async.stores import SearchHit, StoreWithSearch
from dhenara_async.stores.search import asked_words
from dhenara_async.turns.keeping import described
from dhenara_async.web.openai.responses.history import GivenMessage, GivenTurn, OwnAnswers, turns_of
from dhenara_async.web.openai.responses.ids import TurnPlace, response_id
from dhenara_async.web.openai.responses.input_items import GivenItem

logger: logging.Logger = logging.getLogger("dhenara_async")

_WORDS: Final = 12  # of the answer, and of its question
_HITS: Final = 10
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
        path = await self._found(items[: answers[-1] + 1])
        if path is None:
            return items
        named = list(items)
        for at, place in zip(answers, path, strict=True):
            named[at] = replace(items[at], responses=(response_id(place),))
        return named

    async def _found(self, items: Iterable[GivenItem]) -> list[TurnPlace] | None:
        """Return the turns of a history that ends with an answer."""
        turns = turns_of([GivenMessage(item.message) for item in items])
        last = turns[-1]
        said = "" if last.answer is None else last.answer.message.get_text()
        query = " ".join([*asked_words(said)[:_WORDS], *asked_words(last.query)[:_WORDS]])
        if not query or not isinstance(self._manager.store, StoreWithSearch):
            return None
        try:
            with anyio.fail_after(_SECONDS):
                for hit in await self._manager.search(query, limit=_HITS):
                    path = await self._path_to(hit)
                    if len(path) == len(turns) and all(map(GivenTurn.shows, turns, path)):
                        return [TurnPlace(hit.conversation, node.id) for node in path]
        except Exception as exc:  # noqa: BLE001 - whatever a store raises, there is an answer without it
            logger.warning("a history is taken as it was sent, because the store did not answer: %s", described(exc))
        return None

    async def _path_to(self, hit: SearchHit) -> Sequence[ConversationNode]:
        conversation = await self._own.conversation(TurnPlace(hit.conversation, hit.node))
        return () if conversation is None else conversation.path(hit.node)
