"""What a target demands of the history it is sent: the facts by which a formatter makes one legal.

A driver states them for an endpoint, the formatter obeys them, and neither knows the other. Spelling is not among them:
how a dialect writes a thing that it has a place for is its driver's own affair.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, cast

from dhenara_async.messages.messages import FilePart, HostedToolPart, Part, ProviderState, ReasoningPart, ToolCallPart

Place = Literal["question", "result"]

STATE_DEPTH = 100
"""The most levels that a part's ``provider_state`` may be nested; a request has room for about 250 in all."""
STATE_VALUES = 200_000
"""The most values that a part's ``provider_state`` may hold."""

_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class CallIds:
    """Which ids a target takes for tool calls, and how an illegal one becomes legal.

    Attributes:
        pattern: What a legal id matches from end to end.
        prefix: What a made one begins with.
        length: How many letters and digits follow.
    """

    pattern: re.Pattern[str] = field(default=re.compile(r".{1,64}", re.DOTALL))
    prefix: str = "call_"
    length: int = 24

    def legal(self, call_id: str) -> str:
        """``call_id`` if it is legal, else one made of it, the same every time."""
        return call_id if self.pattern.fullmatch(call_id) else self.made(call_id)

    def made(self, seed: str) -> str:
        """A legal id that tells nothing but ``seed`` apart from others."""
        number, letters = int.from_bytes(sha256(seed.encode(errors="surrogatepass")).digest()), ""
        while len(letters) < self.length:
            number, letter = divmod(number, len(_LETTERS))
            letters += _LETTERS[letter]
        return self.prefix + letters


@dataclass(slots=True)
class Vetted:
    """What of a part's ``provider_state`` may be sent.

    Attributes:
        state: What may be sent; None = nothing.
        reason: Why something of it may not: ``not_allowed``, ``altered`` or ``limit_exceeded``; None = all of it may,
            but for what the driver never sends.
        detail: The same for people; it names keys and types, never values.
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
    """The state of ``part`` as it is, unless it is too deep or too large to be worked on."""
    if part.provider_state is not None and not within_bounds(part.provider_state):
        words = f"it is nested deeper than {STATE_DEPTH} levels, or holds more than {STATE_VALUES} values"
        return Vetted(None, "limit_exceeded", words)
    return Vetted(part.provider_state)


def anything(_part: object) -> bool:
    """Every part is taken."""
    return True


def nothing(_part: object) -> bool:
    """No part is taken."""
    return False


def any_file(_part: FilePart, _place: Place) -> bool:
    """Every file is taken."""
    return True


@dataclass(frozen=True, slots=True)
class Rules:
    """What one endpoint takes. The defaults are those of a dialect that takes everything and knows nothing by itself.

    Attributes:
        alternates: User and assistant take turns, the user first.
        system_inside: A system message may stand inside the conversation.
        prefill: The conversation may end with what the assistant said, to be continued.
        ragged_prefill: Such an end may end in white space.
        bridge: What the assistant says between a tool's result and the user, where the two may not meet; empty where
            they may.
        call_ids: Which ids tool calls may have.
        names: What the name of a function matches from end to end.
        object_arguments: A call's arguments are an object on this wire rather than a text.
        error_flag: A tool's result can say that it is an error.
        needs_tools: A history with calls is taken only beside a declaration of their functions.
        files: Whether a file is taken, among what the user says or inside a tool's result.
        generated: Whether a file that the model itself made goes back among what it said.
        refusals: A refusal of its own goes back as one.
        citations: Citations of its own go back with their text.
        hosted: Whether what it ran or reported itself goes back.
        hosted_pairs: Of that, a call and what it gave stand together in one answer, or neither does.
        hosted_with_reasoning: That goes back only together with the reasoning that led to it.
        reasoning_back: Who may have its earlier reasoning: the same ``model``, any model of the same ``account``
            (without opaque state), or nobody.
        reasoning_leads: Reasoning is taken only in front of something that the model said after it.
        replayable: Whether a piece of reasoning of its own can be sent back.
        unsigned: Whether a call, as the first of its step, is sent with the documented stand-in for a signature.
        bound_to_prefix: Reasoning goes back only behind exactly the messages, instructions and tools it was made under.
        vet: What of a part's ``provider_state`` may be sent. A stored node is only data, and whoever can write it can
            put anything there: a driver that sends more of it than seals states here what its API's answers hold.
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
