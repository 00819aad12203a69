"""The demands of a target on a history; a formatter changes the history until it obeys them.

A driver states the rules of an endpoint; the formatter obeys them; neither imports the other. Rules say what may be
sent. How to write it in JSON is left to the driver.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, cast

from dhenara_async.messages.messages import FilePart, HostedToolPart, Part, ProviderState, ReasoningPart, ToolCallPart

Place = Literal["question", "result"]

STATE_DEPTH = 100
"""The deepest allowed nesting of a part's ``provider_state``; a whole request may be nested about 250 deep."""
STATE_VALUES = 200_000
"""The most values that a part's ``provider_state`` may hold."""

_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class CallIds:
    """The tool call ids that a target accepts, and how an illegal id is replaced.

    Attributes:
        pattern: Matches a whole legal id.
        prefix: The beginning of a generated id.
        length: How many letters and digits follow the prefix.
    """

    pattern: re.Pattern[str] = field(default=re.compile(r".{1,64}", re.DOTALL))
    prefix: str = "call_"
    length: int = 24

    def legal(self, call_id: str) -> str:
        """Return ``call_id`` if it is legal, else a legal id derived from it, always the same one."""
        return call_id if self.pattern.fullmatch(call_id) else self.made(call_id)

    def made(self, seed: str) -> str:
        """Return a legal id derived from ``seed`` by a hash."""
        number, letters = int.from_bytes(sha256(seed.encode(errors="surrogatepass")).digest()), ""
        while len(letters) < self.length:
            number, letter = divmod(number, len(_LETTERS))
            letters += _LETTERS[letter]
        return self.prefix + letters


@dataclass(slots=True)
class Vetted:
    """The portion of a part's ``provider_state`` that may be sent.

    Attributes:
        state: The state to send; None = nothing.
        reason: Why some of the state is withheld: ``not_allowed``, ``altered`` or ``limit_exceeded``; None = none is
            withheld, except fields that the driver never sends.
        detail: The reason in words; names keys and types, never values.
    """

    state: ProviderState | None
    reason: Literal["not_allowed", "altered", "limit_exceeded"] | None = None
    detail: str = ""


def within_bounds(value: object) -> bool:
    """Whether a JSON value is nested no deeper than ``STATE_DEPTH`` and holds no more than ``STATE_VALUES`` values."""
    level: Sequence[object] = (value,)
    count = depth = 0
    while level:
        depth, count = depth + 1, count + len(level)
        if depth > STATE_DEPTH or count > STATE_VALUES:
            return False
        below: list[object] = []
        for item in level:
            if item.__class__ is str:
                continue
            if isinstance(item, dict):
                below += cast("dict[str, object]", item).values()
            elif isinstance(item, list):
                below += cast("list[object]", item)
        level = below
    return True


def bounded(part: Part) -> Vetted:
    """Return the state of ``part`` unchanged, unless it is too deep or too large to process."""
    if part.provider_state is not None and not within_bounds(part.provider_state):
        words = f"it is nested deeper than {STATE_DEPTH} levels, or holds more than {STATE_VALUES} values"
        return Vetted(None, "limit_exceeded", words)
    return Vetted(part.provider_state)


def anything(_part: object) -> bool:
    """Accept every part."""
    return True


def nothing(_part: object) -> bool:
    """Accept no part."""
    return False


def any_file(_part: FilePart, _place: Place) -> bool:
    """Accept every file."""
    return True


def url_scheme(part: FilePart) -> str:
    """Return the scheme of a file's URL in lower case, such as ``https``; empty without a URL."""
    return (part.url or "").partition(":")[0].lower()


@dataclass(frozen=True, slots=True)
class Rules:
    """The demands of one endpoint. The defaults suit a dialect that accepts everything and has no features of its own.

    Attributes:
        alternates: User and assistant messages must alternate, the user first.
        system_inside: A system message may stand inside the conversation.
        prefill: The conversation may end with an assistant message, which the model continues.
        ragged_prefill: Such a last message may end in white space.
        bridge: An assistant message to insert between a tool result and a user message, where they may not be adjacent;
            empty where they may.
        call_ids: The legal ids of tool calls.
        names: Matches a whole legal function name.
        object_arguments: The wire has a call's arguments as an object, not as text.
        error_flag: A tool result can be marked as an error.
        needs_tools: A history with calls is accepted only with a declaration of the called functions.
        files: Whether a file is accepted, in a user message or inside a tool result.
        fetches: Whether the API itself fetches the URL of a file; all other files are downloaded and sent inline.
        generated: Whether a file generated by the model itself is sent back in its assistant message.
        refusals: The model's own refusals are sent back as refusals.
        citations: The model's own citations are sent back with their text.
        hosted: Whether a part of a tool that the provider ran, or of its own reports, is sent back.
        hosted_pairs: A hosted call and its result are sent back together or not at all.
        hosted_with_reasoning: Hosted parts are sent back only together with the reasoning before them.
        reasoning_back: Which models get earlier reasoning back: the same ``model``, any model of the same ``account``
            (without opaque state), or None = no model.
        reasoning_leads: Reasoning is accepted only in front of other output of the same turn.
        replayable: Whether a reasoning part of its own can be sent back.
        unsigned: Whether a call, as the first of its step, is sent with the documented stand-in for a signature.
        bound_to_prefix: Reasoning is sent back only after exactly the messages, instructions and tools under which it
            was produced.
        vet: Checks a part's ``provider_state`` and returns the portion to send. Stored nodes are untrusted data: a
            driver that sends more than signatures states here which fields its API's answers have.
    """

    alternates: bool = False
    system_inside: bool = True
    prefill: bool = True
    ragged_prefill: bool = True
    bridge: str = ""
    call_ids: CallIds = field(default_factory=CallIds)
    names: re.Pattern[str] = field(default=re.compile(r"[a-zA-Z0-9_-]{1,64}"))
    object_arguments: bool = False
    error_flag: bool = False
    needs_tools: bool = False
    files: Callable[[FilePart, Place], bool] = any_file
    fetches: Callable[[FilePart], bool] = nothing
    generated: Callable[[FilePart], bool] = nothing
    refusals: bool = False
    citations: bool = False
    hosted: Callable[[HostedToolPart], bool] = nothing
    hosted_pairs: bool = False
    hosted_with_reasoning: bool = False
    reasoning_back: Literal["model", "account"] | None = None
    reasoning_leads: bool = False
    replayable: Callable[[ReasoningPart], bool] = anything
    unsigned: Callable[[ToolCallPart], bool] = nothing
    bound_to_prefix: bool = False
    vet: Callable[[Part], Vetted] = bounded
