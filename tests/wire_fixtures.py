"""Answers in the bytes of each dialect with invented words: ``tests/fixtures``, read together with what they say.

``tests/fixtures/<dialect>/<shape>.sse`` is a stream and ``<shape>.json`` a plain body. Both have the content of
``<shape>.expected.json``, which was written by hand from the dialect's documentation:

- ``shows``: the shape, in words.
- ``provider``: the host whose answer it is; left out = one without differences from its dialect.
- ``config``: the settings of the call; left out = none.
- ``choices``: for each choice its finish and its parts. Fields with their default value are left out, and so is a
  part's origin, which is the same for all. Bytes are base64.
- ``usage``: the token counts that the answer reports; the others are None.
- ``structured``: the value of a structured answer; left out = none was requested.
- ``error``: the failure that ends the stream, by class and fields; left out = it ends well. Then ``choices`` has the
  content before the failure, whose last part may be interrupted.

Model and id of every answer are in ``SERVED``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import orjson

from dhenara_async import AIModel, AIModelAPI, AIModelAPIProviderEnum, AIModelClient, AIModelEndpoint, Dialect
from dhenara_async.testing import ReplayTransport, split_bytes

FOLDER = Path(__file__).parent / "fixtures"
MODEL = "fern"
SERVED = {
    Dialect.ANTHROPIC_MESSAGES: ("claude-fern", "msg_fern"),
    Dialect.GEMINI: ("gemini-fern", "fern"),
    Dialect.OPENAI_CHAT: ("gpt-fern", "chat_fern"),
    Dialect.OPENAI_RESPONSES: ("gpt-fern", "resp_fern"),
}
"""By dialect, the model and the id that every fixture reports."""

_PROVIDERS = {
    Dialect.ANTHROPIC_MESSAGES: AIModelAPIProviderEnum.ANTHROPIC,
    Dialect.GEMINI: AIModelAPIProviderEnum.GOOGLE_AI,
    Dialect.OPENAI_CHAT: AIModelAPIProviderEnum.OPENAI_COMPATIBLE,
    Dialect.OPENAI_RESPONSES: AIModelAPIProviderEnum.OPENAI_COMPATIBLE,
}
_EXPECTED = ".expected.json"


class ExpectedChoice(TypedDict):
    """One choice of an expected answer."""

    finish_reason: str
    raw_finish_reason: NotRequired[str]
    stop_sequence: NotRequired[str]
    parts: list[dict[str, object]]


class Expected(TypedDict):
    """An expected answer; see the module."""

    shows: str
    provider: NotRequired[str]
    config: NotRequired[dict[str, object]]
    choices: list[ExpectedChoice]
    usage: dict[str, object]
    structured: NotRequired[object]
    error: NotRequired[dict[str, object]]


@dataclass(frozen=True, slots=True)
class WireFixture:
    """One file with an answer.

    Attributes:
        name: ``<dialect>/<shape>.sse`` or ``<dialect>/<shape>.json``.
    """

    name: str

    @property
    def shape(self) -> str:
        """``<dialect>/<shape>``, which both forms of an answer share."""
        return self.name.rsplit(".", 1)[0]

    @property
    def dialect(self) -> Dialect:
        """The dialect of the answer."""
        return Dialect(self.name.split("/")[0])

    @property
    def is_stream(self) -> bool:
        """Whether it is a stream, not a plain body."""
        return self.name.endswith(".sse")

    @property
    def body(self) -> bytes:
        """The bytes of the answer."""
        return (FOLDER / self.name).read_bytes()

    @property
    def expected(self) -> Expected:
        """The content of the answer."""
        return cast(Expected, orjson.loads((FOLDER / f"{self.shape}{_EXPECTED}").read_bytes()))

    def client(self, body: bytes, *, byte_by_byte: bool = False) -> AIModelClient:
        """A client whose calls are answered with ``body``, in one read or in a read for each byte."""
        api = AIModelAPI.model_validate(
            {
                "provider": self.expected.get("provider", _PROVIDERS[self.dialect]),
                "dialect": self.dialect,
                "base_url": "http://127.0.0.1",
                "api_key": "key",
            }
        )
        kind = "text/event-stream" if self.is_stream else "application/json"
        chunks = split_bytes(body) if byte_by_byte else None
        transport = ReplayTransport(body, headers={"content-type": kind}, chunks=chunks)
        return AIModelClient(AIModelEndpoint(api=api, ai_model=AIModel(model_name=MODEL)), transport=transport)


def names() -> list[str]:
    """The names of all fixtures."""
    files = [path for path in FOLDER.rglob("*.*") if not path.name.endswith(_EXPECTED)]
    return sorted(path.relative_to(FOLDER).as_posix() for path in files)


def expected_shapes() -> set[str]:
    """The shapes that have an expectation."""
    files = FOLDER.rglob(f"*{_EXPECTED}")
    return {path.relative_to(FOLDER).as_posix().removesuffix(_EXPECTED) for path in files}
