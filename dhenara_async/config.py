"""The knobs of one call. A knob the target cannot take becomes a warning on the response, never silence."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue

from dhenara_async.value import Value


class Timeouts(Value):
    """Time limits in seconds, each with one owner; None = no limit.

    Attributes:
        connect: Getting a connection, DNS and TLS included.
        between_bytes: Silence of the host, before and during the answer. Reasoning models can be silent for minutes.
        total: The whole call. Off by default: a long answer is not a fault.
    """

    connect: float | None = Field(default=10.0, gt=0)
    between_bytes: float | None = Field(default=600.0, gt=0)
    total: float | None = Field(default=None, gt=0)


class AIModelCallConfig(Value):
    """Every knob of a call; None leaves it to the provider.

    Attributes:
        max_output_tokens: The most tokens of answer, reasoning included.
        temperature: Sampling temperature, clamped to the target's range.
        top_p: Nucleus sampling.
        top_k: Sample from the k likeliest tokens only.
        stop: Texts that end the answer.
        seed: For repeatable sampling where the provider has it.
        streaming: Whether ``generate`` streams on the wire and folds; ``stream`` always streams.
        timeouts: Time limits.
        extra_body: Merged over the request body last, for what has no knob here.
        extra_headers: Added to the request's headers last.
        test_mode: Answer without any network, and without a key.
    """

    max_output_tokens: int | None = Field(default=None, gt=0)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, gt=0)
    stop: Annotated[Sequence[str], AfterValidator(tuple)] = ()
    seed: int | None = None
    streaming: bool = False
    timeouts: Timeouts = Field(default_factory=Timeouts)
    extra_body: Mapping[str, JsonValue] = Field(default_factory=dict, repr=False)
    extra_headers: Mapping[str, str] = Field(default_factory=dict, repr=False)
    test_mode: bool = False
