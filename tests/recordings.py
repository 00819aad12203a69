"""Recorded provider traffic as test data: found by an environment variable or beside the repository, never in it.

Each recording is a request's answer as a provider sent it, together with what it says by another reader's judgement
(``expect``). The folder's own README tells how they were made.
"""

import base64
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import cast

import orjson

from dhenara_async.endpoint import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelEndpoint,
    Dialect,
)
from dhenara_async.errors import DhenaraError, ProtocolError, TruncatedStreamError

JsonObject = dict[str, object]

_VARIABLE = "DHENARA_RECORDINGS"
_BESIDE = Path(__file__).resolve().parent.parent.parent / "shared" / "recordings"

FOLDER = Path(os.environ.get(_VARIABLE) or _BESIDE)
FOUND = (FOLDER / "index.jsonl").is_file()
MISSING = f"no recordings: set {_VARIABLE} to their folder, or put it at ../shared/recordings"

DIALECTS = {
    "anthropic_messages": Dialect.ANTHROPIC_MESSAGES,
    "gemini_generate": Dialect.GEMINI,
    "mistral_chat": Dialect.OPENAI_CHAT,
    "openai_chat": Dialect.OPENAI_CHAT,
    "openai_responses": Dialect.OPENAI_RESPONSES,
}
"""The APIs that are tested, and what speaks them."""

_PROVIDERS = {provider.value: provider for provider in AIModelAPIProviderEnum}
_STAND_INS = {
    Dialect.ANTHROPIC_MESSAGES: AIModelAPIProviderEnum.ANTHROPIC,
    Dialect.GEMINI: AIModelAPIProviderEnum.GOOGLE_AI,
    Dialect.OPENAI_CHAT: AIModelAPIProviderEnum.OPENAI_COMPATIBLE,
    Dialect.OPENAI_RESPONSES: AIModelAPIProviderEnum.OPENAI_COMPATIBLE,
}

_CONTENT_TYPES = {"sse": "text/event-stream", "json": "application/json"}


@dataclass(frozen=True, slots=True)
class Differs:
    """Why an answer of ours is not what a recording expects, on purpose.

    Attributes:
        error: What is raised instead; ``partial`` still has the expected words.
        reason: Why that is right.
    """

    error: type[DhenaraError]
    reason: str


_NO_FINISH = Differs(
    TruncatedStreamError, "a stream without any finishReason is cut; the expectation takes it as whole"
)
_FIREBASE = "gemini_generate/firebase-vertexai-streaming-"

EXCEPTIONS = {
    f"{_FIREBASE}failure-empty-content": _NO_FINISH,
    f"{_FIREBASE}failure-invalid-json": _NO_FINISH,
    f"{_FIREBASE}failure-malformed-content": _NO_FINISH,
    f"{_FIREBASE}success-quotes-escaped": _NO_FINISH,
    "openai_chat/pydantic-ai-models-test_openai-test_invalid_response": Differs(
        ProtocolError, "the body has nothing of a chat completion; the expectation reads it as an empty answer"
    ),
}
"""Recordings where we differ on purpose, by id; kept below one in a hundred."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One exchange.

    Attributes:
        id: ``<api>/<name>``.
        api: The folder's name for the API.
        provider: Who was called, in the folder's words.
        stream: Whether a stream was asked for.
        status: The answer's HTTP status.
        headers: The answer's headers, with a content type in any case.
        framing: ``sse`` or ``json``.
        body: The answer's bytes.
        features: What can be seen in it, as tags.
        expect: What it says.
    """

    id: str
    api: str
    provider: str
    stream: bool
    status: int
    headers: dict[str, str]
    framing: str
    body: bytes = field(repr=False)
    features: tuple[str, ...]
    expect: JsonObject = field(repr=False)

    @property
    def dialect(self) -> Dialect:
        """The wire language of the answer."""
        return DIALECTS[self.api]

    def endpoint(self, base_url: str) -> AIModelEndpoint:
        """An endpoint at ``base_url`` that speaks as the recorded provider does."""
        provider = _PROVIDERS.get(self.provider, _STAND_INS[self.dialect])
        api = AIModelAPI.model_validate(
            {"provider": provider, "dialect": self.dialect, "base_url": base_url, "api_key": "key"}
        )
        return AIModelEndpoint(api=api, ai_model=AIModel(model_name="model-that-was-asked-for"))


@cache
def index() -> tuple[JsonObject, ...]:
    """One row a recording of a dialect that we speak; empty where there are no recordings."""
    if not FOUND:
        return ()
    rows = map(orjson.loads, (FOLDER / "index.jsonl").read_bytes().splitlines())
    return tuple(row for row in rows if row["api"] in DIALECTS)


def ids(*, framing: str | None = None) -> list[str]:
    """The ids of the recordings, all of them or those of one framing."""
    return [str(row["id"]) for row in index() if framing in (None, row["framing"])]


def load(recording_id: str) -> Recording:
    """Read one recording."""
    raw = orjson.loads((FOLDER / f"{recording_id}.json").read_bytes())
    response = cast(JsonObject, raw["response"])
    body = str(response["body"])
    framing = str(response["framing"])
    headers = {"content-type": _CONTENT_TYPES[framing], **cast(dict[str, str], response["headers"])}
    return Recording(
        id=recording_id,
        api=str(raw["api"]),
        provider=str(raw["provider"]),
        stream=bool(raw["stream"]),
        status=int(str(response["status"])),
        headers=headers,
        framing=framing,
        body=base64.b64decode(body) if response["encoding"] == "base64" else body.encode(),
        features=tuple(raw["features"]),
        expect=cast(JsonObject, raw["expect"]),
    )
