"""Differences between Chat Completions hosts: data in their rows of ``hosts``, read by the driver.

A quirk is named after the wire's behaviour, not after a host.

Sources: the hosts' API references, SDK types and published refusals (read 2026-11-22)
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

from dhenara_async.frozen import ShortRepr

ReasoningField = Literal["reasoning_content", "reasoning", "reasoning_details", "thinking_chunk"]


@dataclass(frozen=True, slots=True, repr=False)
class Quirks(ShortRepr):
    """A host's differences; the defaults suit a host without rules of its own.

    Attributes:
        max_tokens_field: The field for the limit of the answer.
        seed_field: The field for the seed.
        user_field: The field for the id of the caller's user.
        lacks: Fields of OpenAI's request that this host does not have.
        top_k: Whether ``top_k`` is accepted.
        stream_options: Whether usage in a stream must be requested.
        counted_logprobs: ``logprobs`` itself is the number of alternatives.
        developer_role: Whether the ``developer`` role is accepted.
        system_anywhere: Whether a system message may stand inside the conversation.
        alternates: Whether user and assistant messages must alternate, as strict chat templates demand.
        listed_texts: Whether text without media may be sent as a list of texts.
        refusals: Whether an assistant's refusal has a type of its own.
        silence: The content of an assistant message that has only calls.
        prefix: Whether a last assistant message must be marked for continuation, and no system message may be last.
        bridge: An assistant message to insert between a tool result and a user message, where they may not be adjacent.
        call_ids: ``short`` = at most 40 characters, ``nine`` = exactly nine letters and digits.
        required_word: The tool choice that forces a call.
        tool_choice: Whether the host obeys a tool choice.
        strict_tools: Whether ``strict`` is accepted, for tools and structured output.
        tools_stop_reasoning: Whether its newer models take functions only without reasoning.
        thinking: How reasoning is requested: by ``effort`` alone, by effort and an on/off object ``thinking``, by
            effort and a flag in ``reasoning``, or entirely inside ``reasoning``.
        thinking_budget: Whether that object takes a token budget.
        efforts: The efforts it accepts, lowest first; empty = all of the model's.
        efforts_of: Different efforts by model, for ids that begin with the key.
        reasoning_format: Whether the place of the reasoning text can be chosen.
        reasoning_back: The field in which earlier reasoning is sent back; None = never.
        reasoning_always: Whether every earlier answer has that field, empty if it had no reasoning.
        schemas: Where schemas are enforced: by the ``model`` if it can, by the ``host`` for any model, or None = only
            JSON can be requested.
        require_parameters: Whether requests must exclude upstream machines that ignore a schema.
        image_urls: Whether it fetches images itself.
        documents: How a PDF is sent: as a ``file`` by its bytes, as one that may be a URL, as a ``document_url``, or
            not at all.
        audio: How audio is sent: as an object, as its base64 text, or not at all.
        video: Whether video may be sent, by URL.
        web_search: How a search is requested: by ``web_search_options``, by a plugin, or not at all.
        reasoning_apart: Whether ``completion_tokens`` excludes the reasoning tokens.
        inline_thinking: Whether an answer may begin with its reasoning between ``<think>`` marks.
    """

    max_tokens_field: str = "max_tokens"
    seed_field: str = "seed"
    user_field: str = "user"
    lacks: AbstractSet[str] = frozenset()
    top_k: bool = False
    stream_options: bool = True
    counted_logprobs: bool = False
    developer_role: bool = False
    system_anywhere: bool = False
    alternates: bool = False
    listed_texts: bool = True
    refusals: bool = False
    silence: str | None = None
    prefix: bool = False
    bridge: str = ""
    call_ids: Literal["short", "nine"] = "short"
    required_word: str = "required"
    tool_choice: bool = True
    strict_tools: bool = True
    tools_stop_reasoning: bool = False
    thinking: Literal["effort", "effort and thinking", "effort and flag", "object"] = "effort"
    thinking_budget: bool = False
    efforts: tuple[str, ...] = ()
    efforts_of: tuple[tuple[str, tuple[str, ...]], ...] = ()
    reasoning_format: bool = False
    reasoning_back: ReasoningField | None = None
    reasoning_always: bool = False
    schemas: Literal["model", "host"] | None = "model"
    require_parameters: bool = False
    image_urls: bool = True
    documents: Literal["file", "file or url", "document_url"] | None = None
    audio: Literal["object", "text"] | None = None
    video: bool = False
    web_search: Literal["options", "plugin"] | None = None
    reasoning_apart: bool = False
    inline_thinking: bool = False


OPENAI = Quirks(
    max_tokens_field="max_completion_tokens",
    user_field="safety_identifier",
    developer_role=True,
    system_anywhere=True,
    refusals=True,
    tools_stop_reasoning=True,
    documents="file",
    audio="object",
    web_search="options",
)
