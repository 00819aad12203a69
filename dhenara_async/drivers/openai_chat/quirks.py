"""How the many hosts that speak Chat Completions differ: data in their rows of ``hosts``, read by the driver.

A quirk is named for what the wire does, not for who does it.

Sources: the hosts' API references, SDK types and published refusals (read 2026-11-22)
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal

ReasoningField = Literal["reasoning_content", "reasoning", "reasoning_details", "thinking_chunk"]


@dataclass(frozen=True, slots=True)
class Quirks:
    """How a host's wire differs; the defaults are what a host without rules of its own takes.

    Attributes:
        max_tokens_field: What the cap on the answer is called.
        seed_field: What the seed is called.
        user_field: What the id of the caller's user is called.
        lacks: Fields of OpenAI's request that this host does not know.
        top_k: Whether ``top_k`` is known.
        stream_options: Whether usage in a stream has to be asked for.
        counted_logprobs: ``logprobs`` itself is the number of alternatives.
        developer_role: Whether the ``developer`` role is known.
        system_anywhere: Whether a system message may stand inside the conversation.
        alternates: Whether user and assistant have to take turns, as strict chat templates demand.
        listed_texts: Whether words without any media may come as a list of texts.
        refusals: Whether an assistant's refusal has a type of its own.
        silence: The content of an assistant message that has only calls.
        prefix: Whether a last assistant message has to be marked as one to be continued, and no system message is last.
        bridge: What the assistant says between a tool's result and the user, where the two may not meet.
        call_ids: ``short`` = at most 40 characters, ``nine`` = exactly nine letters and digits.
        required_word: The tool choice that demands a call.
        tool_choice: Whether a tool choice is heeded.
        strict_tools: Whether ``strict`` is known, of tools and of answers.
        tools_stop_reasoning: Whether its newer models take functions only while they do not reason.
        thinking: How reasoning is asked for: by ``effort`` word alone, by word and an on/off object ``thinking``, by
            word and a flag in ``reasoning``, or all of it inside ``reasoning``.
        thinking_budget: Whether that object takes a token budget.
        efforts: The effort words it knows, least first; empty = all the model's.
        efforts_of: The words it knows of models whose ids begin so, where those are others.
        reasoning_format: Whether it can be told where to put the reasoning text.
        reasoning_back: Where earlier reasoning is sent back; None = nowhere.
        reasoning_always: Every earlier answer has that field, empty where there was none.
        schemas: Who holds an answer to a schema: the ``model`` if it can, the ``host`` for any model, or nobody, and
            JSON is all that can be asked for.
        require_parameters: Whether it has to be told not to choose a machine that ignores a schema.
        image_urls: Whether it fetches pictures itself.
        documents: How a PDF is sent: as a ``file`` by its bytes, as one that may be a URL, as a ``document_url``, or
            not at all.
        audio: How sound is sent: as an object, as its base64 text, or not at all.
        video: Whether moving pictures may come, by URL.
        web_search: How a search is asked for: by ``web_search_options``, by a plugin, or not at all.
        reasoning_apart: Whether ``completion_tokens`` leaves the reasoning tokens out.
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
