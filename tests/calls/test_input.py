"""Invalid input raises a typed error before any request: the transport is never used."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from pydantic import SecretStr, ValidationError

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    ConversationManager,
    Dialect,
    FilePart,
    Message,
    Role,
    TextPart,
    Timeouts,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.errors import ConfigurationError, DhenaraError, UnsupportedError
from dhenara_async.request import HttpRequest
from dhenara_async.transport import Exchange
from tests.loopback import SPEAKERS

DIALECTS = list(SPEAKERS)
PNG = b"\x89PNG\r\n\x1a\n"


class Untouchable:
    """A transport that fails the test when it is used."""

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
        raise AssertionError(f"something was sent to {request.url}")

    async def aclose(self) -> None:
        raise AssertionError("somebody else's transport was closed")


def endpoint_for(
    dialect: Dialect = Dialect.OPENAI_CHAT, *, key: str | None = "key", base_url: str | None = None
) -> AIModelEndpoint:
    provider, model = SPEAKERS[dialect]
    secret = None if key is None else SecretStr(key)
    api = AIModelAPI(provider=provider, api_key=secret, base_url=base_url, dialect=dialect)
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))


def client_for(endpoint: AIModelEndpoint, config: AIModelCallConfig | None = None) -> AIModelClient:
    return AIModelClient(endpoint, config, transport=Untouchable())


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    for name in ("OPENAI", "ANTHROPIC", "GOOGLE", "GEMINI", "GROQ", "GOOGLE_GEMINI"):
        monkeypatch.delenv(f"{name}_API_KEY", raising=False)
        monkeypatch.delenv(f"{name}_BASE_URL", raising=False)


# ----------------------------------------------------------------------------------------------------------- endpoints

_VARIABLES = {
    Dialect.OPENAI_CHAT: "GROQ_API_KEY",
    Dialect.OPENAI_RESPONSES: "OPENAI_API_KEY",
    Dialect.ANTHROPIC_MESSAGES: "ANTHROPIC_API_KEY",
    Dialect.GEMINI: "GOOGLE_API_KEY or GEMINI_API_KEY",
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("key", [None, "", "  \n"])
async def test_a_missing_key_is_refused_with_its_variable(dialect: Dialect, key: str | None) -> None:
    client = client_for(endpoint_for(dialect, key=key))
    with pytest.raises(ConfigurationError, match=_VARIABLES[dialect]):
        await client.generate("Hi.")
    with pytest.raises(ConfigurationError, match=_VARIABLES[dialect]):
        client.stream("Hi.")


@pytest.mark.parametrize("key", ["abc\ndef", "abc\r\nx-other: 1", "sk-\x00", "sk-é", "sk-\u200b"])
async def test_a_key_with_invalid_header_characters_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="no header can carry") as caught:
        await client_for(endpoint_for(key=key)).generate("Hi.")
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "base_url",
    [
        *("localhost:9000", "ftp://host/v1", "http://", "https:///v1", "http://:80/v1", "host", "http://[::1"),
        *("http://host:port/v1", "http://host:99999/v1", "http://ho st/v1", " http://host/v1", "http://host/\nv1"),
        *("http://host/v1?key=x", "http://host/v1#x"),
    ],
)
async def test_an_invalid_base_url_is_refused(base_url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url of groq"):
        await client_for(endpoint_for(base_url=base_url)).generate("Hi.")


async def test_a_compatible_host_needs_a_base_url() -> None:
    api = AIModelAPI(provider=AIModelAPIProviderEnum.OPENAI_COMPATIBLE)
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="m"))
    with pytest.raises(ConfigurationError, match=r"base_url=…"):
        await client_for(endpoint).generate("Hi.")


def test_a_model_needs_a_name() -> None:
    with pytest.raises(ConfigurationError, match="model_name"):
        AIModel(model_name="")


# ----------------------------------------------------------------------------------------------------------- the knobs


@pytest.mark.parametrize("knob", ["temprature", "max_tokens", "model", "api_key"])
def test_an_unknown_option_is_refused_by_its_name(knob: str) -> None:
    with pytest.raises(ValidationError, match=knob):
        AIModelCallConfig.model_validate({knob: 1})


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("max_output_tokens", 0),
        ("temperature", -0.1),
        ("top_p", 1.1),
        ("top_k", 0),
        ("stop", 1),
        ("timeouts", {"total": 0}),
        ("timeouts", {"read": 1}),
        ("extra_headers", {"x": 1}),
    ],
)
def test_an_option_out_of_its_range_is_refused_by_its_name(knob: str, value: object) -> None:
    with pytest.raises(ValidationError, match=knob):
        AIModelCallConfig.model_validate({knob: value})


def test_a_config_is_immutable() -> None:
    config = AIModelCallConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1  # pyright: ignore[reportAttributeAccessIssue] - that is the test


@pytest.mark.parametrize("headers", [{"x": "a\nb"}, {"x": "a\r\nevil: 1"}, {"x": "\0"}, {"a\nb": "x"}, {"": "x"}])
@pytest.mark.parametrize("of_the_host", [False, True])
async def test_invalid_extra_headers_are_refused(headers: dict[str, str], of_the_host: bool) -> None:
    endpoint, config = endpoint_for(), AIModelCallConfig(extra_headers={} if of_the_host else headers)
    if of_the_host:
        endpoint = endpoint.model_copy(update={"api": endpoint.api.model_copy(update={"headers": headers})})
    with pytest.raises(ConfigurationError, match="no header can carry"):
        await client_for(endpoint, config).generate("Hi.")


# -------------------------------------------------------------------------------------------------------- the question

Ask = Callable[[AIModelClient], object]

_HI = Message.user("Hi.")
WRONG_QUESTIONS: dict[str, tuple[Ask, str]] = {
    "nothing": (lambda client: client.stream(), "nothing to ask"),
    "empty prompt": (lambda client: client.stream(""), "prompt is empty"),
    "blank prompt": (lambda client: client.stream(" \n\t"), "prompt is empty"),
    "message without parts": (lambda client: client.stream(Message.user()), "prompt is empty"),
    "blank message": (lambda client: client.stream(Message.user(" ")), "prompt is empty"),
    "blank parts": (lambda client: client.stream(Message.user("\n", TextPart(text="\u3000"))), "prompt is empty"),
    "blank behind a context": (
        lambda client: client.stream(Message.user(" "), context=["Two and two?", Message.assistant("Five.")]),
        "prompt is empty",
    ),
    "blank behind an answer": (
        lambda client: client.stream(messages=[_HI, Message.assistant("Hello."), Message.user(" ")]),
        "prompt is empty",
    ),
    "nothing behind an answer": (
        lambda client: client.stream(messages=[_HI, Message.assistant("Hello."), Message(role=Role.USER, parts=())]),
        "prompt is empty",
    ),
    "blank instruction behind an answer": (
        lambda client: client.stream(messages=[_HI, Message.assistant("Hello."), Message.system(" ")]),
        "prompt is empty",
    ),
    "blanks at the end": (
        lambda client: client.stream(
            messages=[_HI, Message.assistant("Yes?"), Message.user(" "), Message.assistant("")]
        ),
        "prompt is empty",
    ),
    "context alone": (lambda client: client.stream(context=["Hi."]), "nothing to ask"),
    "prompt and messages": (lambda client: client.stream("Hi.", messages=[_HI]), "either messages, or prompt"),
    "context and messages": (lambda client: client.stream(context=["x"], messages=[_HI]), "either messages, or prompt"),
    "no messages": (lambda client: client.stream(messages=[]), "messages is empty"),
    "blank messages": (
        lambda client: client.stream(messages=[Message.user(""), Message.assistant("\n")]),
        "prompt is empty",
    ),
    "instructions alone": (lambda client: client.stream(messages=[Message.system("Be brief.")]), "nothing to ask"),
    "context as text": (lambda client: client.stream("Hi.", context="Hello."), "context is a sequence"),
    "context as message": (
        lambda client: client.stream("Hi.", context=cast("list[Message]", _HI)),
        "context is a sequence",
    ),
    "messages as text": (
        lambda client: client.stream(messages=cast("list[Message]", "Hi.")),
        "messages is a sequence",
    ),
    "messages as message": (
        lambda client: client.stream(messages=cast("list[Message]", _HI)),
        "messages is a sequence",
    ),
    "instructions as text": (
        lambda client: client.stream("Hi.", instructions="Be brief."),
        "instructions is a sequence",
    ),
}


@pytest.mark.parametrize(("ask", "words"), WRONG_QUESTIONS.values(), ids=WRONG_QUESTIONS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_empty_or_malformed_question_is_refused(ask: Ask, words: str, dialect: Dialect) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ask(client_for(endpoint_for(dialect)))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_question_without_text_may_have_a_tool_result_or_a_file(dialect: Dialect) -> None:
    """A question may also follow an empty answer."""
    call = ToolCallPart(call_id="call_1", name="look", arguments="{}")
    picture = FilePart.from_bytes(PNG + b"pixels")
    client = client_for(endpoint_for(dialect))
    for messages in (
        [_HI, Message.assistant("")],
        [_HI, Message.assistant(call), Message.user(ToolResultPart.of(call))],
        [_HI, Message.assistant("Show me."), Message.user(" ", picture)],
    ):
        client.stream(messages=messages)


async def test_generate_refuses_the_same_questions() -> None:
    with pytest.raises(ConfigurationError, match="prompt is empty"):
        await client_for(endpoint_for()).generate("")
    with pytest.raises(ConfigurationError, match="instructions is a sequence"):
        await client_for(endpoint_for()).generate("Hi.", instructions="Be brief.")


async def test_a_refused_question_does_not_close_a_shared_transport() -> None:
    async with client_for(endpoint_for()) as client:
        with pytest.raises(ConfigurationError):
            await client.generate("")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_file_that_the_model_does_not_support_is_refused(dialect: Dialect) -> None:
    unknown = FilePart(media_type="application/x-unheard-of", data=b"?")
    with pytest.raises(UnsupportedError, match=SPEAKERS[dialect][1]):
        await client_for(endpoint_for(dialect)).generate(Message.user("Look.", unknown))


# --------------------------------------------------------------------------------------------------------------- files


def test_an_unreadable_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    (tmp_path / "page.png").write_bytes(b"<html>")
    (tmp_path / "data.unknownkind").write_bytes(b"\0\xff")
    (tmp_path / "folder.txt").mkdir()
    wrong = {
        "missing.txt": "No such file",
        "folder.txt": "directory",
        "empty.txt": "is empty",
        "latin.txt": "must be UTF-8; byte 2",
        "page.png": "not image/png",
        "data.unknownkind": "media type",
    }
    for name, words in wrong.items():
        with pytest.raises(ConfigurationError, match=words) as caught:
            FilePart.from_path(tmp_path / name)
        assert name in str(caught.value)
        assert "Gr" not in str(caught.value)


def test_a_malformed_media_type_of_a_path_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("Hi.", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"as text: .*pattern"):
        FilePart.from_path(path, media_type="text")
    assert FilePart.from_path(path, media_type="text/markdown").get_text() == "Hi."


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("data:image/png;base64,!!!", "base64 is broken"),
        ("data:image/png;base64", "must have the form"),
        ("data:image/png,abc", "must have the form"),
        ("data:image/png;base64,", "is empty"),
        ("data:image/png;base64," + base64.b64encode(b"GIF89a").decode(), "not image/png"),
        ("data:nonsense;base64,QUJD", "media_type|pattern"),
        ("ftp://host/x.png", "starts with https://"),
        ("file:///etc/passwd", "starts with https://"),
        ("x.png", "starts with https://"),
        ("https://", "starts with https://"),
        ("https://[::1/x.png", "is not a URL"),
    ],
)
def test_an_invalid_file_url_is_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        FilePart.from_url(url)


def test_a_data_url_becomes_bytes() -> None:
    part = FilePart.from_url("data:image/png;base64," + base64.b64encode(PNG).decode())
    assert (part.media_type, part.data, part.url) == ("image/png", PNG, None)


@pytest.mark.parametrize(
    "sources", [{}, {"url": "https://host/x.png", "data": PNG}, {"file_id": "f", "url": "https://host/x.png"}]
)
def test_a_file_has_exactly_one_source(sources: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="exactly one"):
        FilePart.model_validate({"media_type": "image/png", **sources})


# --------------------------------------------------------------------------------------------------------- the manager


async def test_the_manager_reports_mistakes_before_sending(tmp_path: Path) -> None:
    async with ConversationManager(transport=Untouchable()) as manager:
        conversation = await manager.create()
        attempts: list[tuple[Callable[[], object], str]] = [
            (lambda: manager.turn(conversation, " ", endpoint_for()), "query is empty"),
            (lambda: manager.turn(conversation, "Hi.", endpoint_for(key="")), "GROQ_API_KEY"),
            (lambda: manager.turn(conversation, "Hi.", endpoint_for(), files=[tmp_path / "no.txt"]), "No such file"),
            (lambda: manager.turn(conversation, "Hi.", endpoint_for(), instructions="Be."), "instructions is"),
        ]
        for attempt, words in attempts:
            with pytest.raises(ConfigurationError, match=words):
                attempt()
        with pytest.raises(ConfigurationError, match="instructions is"):
            await manager.ask(conversation, "Hi.", endpoint_for(), instructions="Be.")
        assert (conversation.head, list(conversation.nodes)) == (None, [])


# ------------------------------------------------------------------------------------------------- the blocking client


def test_the_blocking_client_finds_the_same_mistakes() -> None:
    client = AIModelClient(endpoint_for(key=""), is_async=False)
    with pytest.raises(ConfigurationError, match="GROQ_API_KEY"):
        client.generate("Hi.")
    with pytest.raises(ConfigurationError, match="prompt is empty"):
        client.stream("")
    with pytest.raises(ConfigurationError, match="makes its own"):
        AIModelClient(endpoint_for(), is_async=False, transport=Untouchable())  # type: ignore[call-overload]


def test_configuration_errors_are_value_errors() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(ConfigurationError, DhenaraError)
    assert not ConfigurationError.retryable
