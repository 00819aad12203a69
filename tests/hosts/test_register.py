"""Hosts and dialects from outside the package: a whole dialect, written by public names alone, and a plain row."""

import ast
import base64
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from threading import Barrier, Thread

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ValidationError

import dhenara_async.drivers
from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Conversation,
    ConversationManager,
    ConversationNode,
    Dialect,
    FetchPolicy,
    FilePart,
    FinishReason,
    Host,
    Message,
    Quirks,
    TextDelta,
    ToolResultPart,
    register_driver,
    register_host,
)
from dhenara_async.calls.input import CallInput
from dhenara_async.downloads.inlining import fetches
from dhenara_async.drivers import JsonObject, Rules, as_list, as_object
from dhenara_async.errors import ConfigurationError, RateLimitError, TruncatedStreamError
from dhenara_async.hosts.registry import driver_for, expected_origin, host_of, resolve
from dhenara_async.testing import Answer, ProviderServer, ReplayTransport, check_grammar
from tests.acme import ACME, ACME_1, ANSWER, CALLING, KEY, AcmeDriver
from tests.loopback import ONCE

KETTLE = Host(
    "https://api.kettle.test/v1",
    key_variables=("KETTLE_API_KEY",),
    quirks=Quirks(max_tokens_field="max_completion_tokens", lacks={"seed"}, stream_options=False, image_urls=False),
)
register_host("kettle", KETTLE)

PNG = b"\x89PNG\r\n\x1a\npixels"


class Acme:
    """The service: gives its answers in order, the last one again and again, and keeps what it was asked."""

    def __init__(self, answers: Sequence[Sequence[JsonObject]], status: int) -> None:
        self.url = ""
        self.seen: list[tuple[str, Mapping[str, str], JsonObject]] = []
        self._answers = list(answers)
        self._status = status

    async def talk(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append((request.path, headers, orjson.loads(await request.read())))
        if self._status != 200:
            return web.json_response({"oops": "too much talk"}, status=self._status, headers={"retry-after": "3"})
        said = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if request.path == "/talk":
            return web.json_response({"said": said}, headers={"acme-trace": "trace-1"})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        body = b"".join(b"event: %s\ndata: %s\n\n" % (str(one["kind"]).encode(), orjson.dumps(one)) for one in said)
        for at in range(0, len(body), 11):  # the network cuts where it likes
            await response.write(body[at : at + 11])
        await response.write_eof()
        return response

    async def picture(self, request: web.Request) -> web.Response:
        return web.Response(body=PNG, content_type="image/png")

    @property
    def bodies(self) -> list[JsonObject]:
        return [body for _path, _headers, body in self.seen]


@asynccontextmanager
async def acme(*answers: Sequence[JsonObject], status: int = 200) -> AsyncGenerator[Acme]:
    service, application = Acme(answers or [ANSWER], status), web.Application()
    application.router.add_post("/talk", service.talk)
    application.router.add_post("/talk/live", service.talk)
    application.router.add_get("/picture.png", service.picture)
    async with TestServer(application) as server:
        service.url = str(server.make_url("")).rstrip("/")
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("ACME_BASE_URL", service.url)
            yield service


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    monkeypatch.setenv("ACME_API_KEY", KEY)
    monkeypatch.delenv("ACME_BASE_URL", raising=False)
    monkeypatch.delenv("KETTLE_API_KEY", raising=False)


# ---------------------------------------------------------------------------------------------- calling it


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_registered_dialect_is_called_like_any_other(streaming: bool) -> None:
    config = AIModelCallConfig(streaming=streaming, max_output_tokens=50)
    async with acme() as service:
        response = await AIModelClient(ACME_1, config).generate("Hello?", instructions=["Be kind."])
    ((path, headers, body),) = service.seen
    assert path == ("/talk/live" if streaming else "/talk")
    assert headers["x-acme-version"] == "3"
    assert headers["x-acme-key"] == f"Key {KEY}" and "authorization" not in headers
    assert body == {
        "model": "acme-1",
        "lead": ["Be kind."],
        "turns": [{"who": "user", "pieces": [{"say": "Hello?"}]}],
        "limit": 50,
    }
    answer = response.chat_response
    assert (answer.text(), answer.reasoning()) == ("Good day \N{ROBOT FACE}", "Hm. Yes.")
    assert (answer.model, answer.provider, answer.response_id) == ("acme-1-june", "acme", "a-1")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.source) == (7, 5, "reported")
    assert answer.choices[0].finish_reason is FinishReason.STOP
    assert (response.endpoint.provider, response.endpoint.dialect) == ("acme", "acme_pieces")
    assert response.cost() is None and KEY not in repr(response)


async def test_streamed_and_plain_answers_of_a_registered_dialect_are_the_same() -> None:
    async with acme() as service:
        plain = await AIModelClient(ACME_1).generate("Hello?")
        async with AIModelClient(ACME_1).stream("Hello?") as stream:
            events = [event async for event in stream]
    check_grammar(events)
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["Good ", "day \N{ROBOT FACE}"]
    assert stream.response.chat_response == plain.chat_response
    assert [path for path, _headers, _body in service.seen] == ["/talk/live", "/talk"][::-1]


async def test_settings_that_a_registered_dialect_lacks_are_warned_about() -> None:
    async with acme():
        response = await AIModelClient(ACME_1, AIModelCallConfig(temperature=0.5, seed=1)).generate("Hello?")
    assert [(warning.code, warning.knob) for warning in response.warnings] == [
        ("param_dropped", "temperature"),
        ("param_dropped", "seed"),
    ]


async def test_tools_of_a_registered_dialect_are_called_and_answered() -> None:
    def add(a: int) -> int:
        return a

    config = AIModelCallConfig(tools=[add])
    async with acme(CALLING, ANSWER) as service, AIModelClient(ACME_1, config) as client:
        asked = Message.user("1?")
        response = (await client.generate(messages=[asked])).chat_response
        (call,) = response.tools()
        result = Message.user(ToolResultPart.of(call, "one"))
        await client.generate(messages=[asked, response.as_message(), result])
    assert response.choices[0].finish_reason is FinishReason.TOOL_CALLS
    assert (call.call_id, call.name, call.parsed()) == ("c-1", "add", {"a": 1})
    assert service.bodies[1]["functions"] == ["add"]
    assert as_list(service.bodies[1]["turns"])[1:] == [
        {"who": "assistant", "pieces": [{"call": "c-1", "name": "add", "with": '{"a":1}'}]},
        {"who": "user", "pieces": [{"result": "c-1", "say": "one"}]},
    ]


async def test_errors_of_a_registered_dialect_are_read_by_its_driver() -> None:
    async with acme(status=429):
        with pytest.raises(RateLimitError, match="acme answered 429: too much talk") as caught:
            await AIModelClient(ACME_1, ONCE).generate("Hello?")
    assert (caught.value.provider, caught.value.retry_after) == ("acme", 3.0)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_answer_without_its_end_is_truncated(streaming: bool) -> None:
    async with (
        acme(ANSWER[:-1]),
        AIModelClient(ACME_1).open(CallInput([Message.user("?")], (), AIModelCallConfig(), streaming)) as cut,
    ):
        with pytest.raises(TruncatedStreamError, match="without an end"):
            await cut.collect()
    assert cut.partial.text() == "Good day \N{ROBOT FACE}"


async def test_test_mode_needs_neither_key_nor_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME_API_KEY")
    response = await AIModelClient(ACME_1, AIModelCallConfig(test_mode=True)).generate("Hello?")
    assert response.chat_response.provider == "acme" and "acme-1 was not called" in response.text()


async def test_a_registered_driver_names_the_header_of_its_request_id() -> None:
    class TracedDriver(AcmeDriver):
        request_id_headers = ("acme-trace",)

    register_driver("tracing", TracedDriver)
    register_host("traced", Host("https://traced.test", "tracing", key_required=False))
    async with acme() as service:
        plain = await AIModelClient(ACME_1).generate("Hello?")
        api = AIModelAPI(provider="traced", base_url=service.url)
        traced = await AIModelClient(AIModelEndpoint(api=api, ai_model=ACME_1.ai_model)).generate("Hello?")
    assert (plain.request_id, traced.request_id) == (None, "trace-1")


async def test_the_driver_is_made_for_the_row_of_its_host() -> None:
    driver = driver_for(ACME_1)
    assert isinstance(driver, AcmeDriver) and driver.host is ACME
    elsewhere = AIModelEndpoint(api=AIModelAPI(provider="kettle", dialect="acme_pieces"), ai_model=ACME_1.ai_model)
    driver = driver_for(elsewhere)
    assert isinstance(driver, AcmeDriver) and driver.host is KETTLE
    assert expected_origin(elsewhere).dialect == "acme_pieces"


# ---------------------------------------------------------------------------------------------- keys


async def test_the_error_of_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME_API_KEY")
    with pytest.raises(ConfigurationError, match=r"no API key for acme: .* or set ACME_API_KEY$"):
        resolve(ACME_1)


def test_the_error_of_a_missing_key_without_variables_names_the_argument() -> None:
    register_host("keyed", Host("https://keyed.test"))
    with pytest.raises(ConfigurationError, match=r"no API key for keyed: pass AIModelAPI\(api_key=…\)$"):
        resolve(_at("keyed"))


def test_the_base_url_comes_from_the_row_unless_a_variable_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    address = resolve(ACME_1)
    assert (address.base_url, address.own_host) == ("https://api.acme.test", True)
    monkeypatch.setenv("ACME_BASE_URL", "https://eu.acme.test/")
    address = resolve(ACME_1)
    assert (address.base_url, address.own_host) == ("https://eu.acme.test", False)


# ---------------------------------------------------------------------------------------------- a compatible host


async def test_a_compatible_host_is_one_row() -> None:
    config = AIModelCallConfig(max_output_tokens=9, seed=1)
    async with ProviderServer([Answer(text="Steam.")] * 2) as server:
        endpoint = AIModelEndpoint(api=server.api("kettle"), ai_model=AIModel(model_name="black-1"))
        client = AIModelClient(endpoint, config)
        plain = await client.generate("What comes out?")
        async with client.stream("What comes out?") as stream:
            check_grammar([event async for event in stream])
    assert plain.text() == stream.response.text() == "Steam."
    assert plain.endpoint.provider == plain.chat_response.provider == "kettle"
    assert [warning.knob for warning in plain.warnings] == ["seed"]
    for seen, more in zip(server.requests, ({}, {"stream": True}), strict=True):
        assert (seen.provider, seen.dialect, seen.error) == ("kettle", Dialect.OPENAI_CHAT, None)
        messages = [{"role": "user", "content": "What comes out?"}]
        assert seen.json == {"model": "black-1", "messages": messages, "max_completion_tokens": 9, **more}


async def test_a_row_may_use_any_dialect_of_the_library() -> None:
    register_host(
        "claude_cloud", Host("https://cloud.test", "anthropic_messages", key_header="x-api-key", key_prefix="")
    )
    async with ProviderServer([Answer(text="Hello.")]) as server:
        endpoint = AIModelEndpoint(api=server.api("claude_cloud"), ai_model=AIModel(model_name="claude-opus-5-5"))
        response = await AIModelClient(endpoint).generate("Hi.")
    assert (response.text(), response.endpoint.dialect) == ("Hello.", "anthropic_messages")
    assert server.requests[0].path == "/claude_cloud/v1/messages"


async def test_the_key_of_a_row_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KETTLE_API_KEY", "kettle-key")
    transport = ReplayTransport(b'{"error": {"message": "no"}}', status=429)
    with pytest.raises(RateLimitError):
        await AIModelClient(_at("kettle"), ONCE, transport=transport).generate("Hi.")
    (request,) = transport.requests
    assert request.url == "https://api.kettle.test/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer kettle-key"


async def test_the_provider_server_refuses_an_unregistered_host() -> None:
    async with ProviderServer() as server:
        with pytest.raises(ConfigurationError, match="no host is called 'nobody'"):
            server.api("nobody")


# ---------------------------------------------------------------------------------------------- conversations


async def test_opaque_state_returns_to_its_own_host_only() -> None:
    async with (
        acme() as service,
        ProviderServer([Answer(text="Indeed.")] * 2) as server,
        ConversationManager() as manager,
    ):
        kettle = AIModelEndpoint(api=server.api("kettle"), ai_model=AIModel(model_name="black-1"))
        claude = AIModelEndpoint(
            api=server.api(AIModelAPIProviderEnum.ANTHROPIC), ai_model=AIModel(model_name="claude-opus-5-5")
        )
        conversation = await manager.create()
        for query, endpoint in (("One?", ACME_1), ("Two?", kettle), ("Three?", claude), ("Four?", ACME_1)):
            node = await manager.ask(conversation, query, endpoint)
            assert node.status == "complete" and node.origin is not None
            assert node.origin.provider == str(endpoint.api.provider)
    for seen in server.requests:
        assert seen.error is None and b"Good day" in seen.body
        assert b"sealed" not in seen.body and b"Hm." not in seen.body
    turns = [as_object(turn) for turn in as_list(service.bodies[-1]["turns"])]
    assert [turn["who"] for turn in turns] == ["user", "assistant"] * 3 + ["user"]
    own = [{"thought": "Hm. Yes.", "seal": "sealed"}, {"say": "Good day \N{ROBOT FACE}"}]
    assert [turn["pieces"] for turn in turns[1::2]] == [own, [{"say": "Indeed."}], [{"say": "Indeed."}]]


async def test_a_turn_of_a_registered_host_survives_json_and_is_continued() -> None:
    async with acme() as service, ConversationManager() as manager:
        conversation = await manager.create()
        node = await manager.ask(conversation, "One?", ACME_1)
        kept = ConversationNode.model_validate_json(node.model_dump_json())
        assert kept == node and kept.model_dump_json() == node.model_dump_json()
        assert kept.origin is not None
        assert (kept.origin.provider, kept.origin.dialect) == ("acme", "acme_pieces")
        await manager.ask(Conversation(conversation.id, nodes=[kept]), "Two?", ACME_1)
        await manager.ask(conversation, "Two?", ACME_1)
    assert service.bodies[1] == service.bodies[2]
    assert b"sealed" in orjson.dumps(service.bodies[1])


# ---------------------------------------------------------------------------------------------- files by URL


async def test_a_file_is_downloaded_for_a_registered_dialect() -> None:
    config = AIModelCallConfig(fetch=FetchPolicy(allow_http=True, allow_private=True))
    async with acme() as service:
        picture = FilePart.from_url(f"{service.url}/picture.png", media_type="image/png")
        await AIModelClient(ACME_1, config).generate(Message.user(picture, "What is it?"))
    (turn,) = as_list(service.bodies[0]["turns"])
    expected = {"file": "image/png", "base64": base64.b64encode(PNG).decode()}
    assert as_list(as_object(turn)["pieces"])[0] == expected


def test_the_rules_of_a_registered_driver_state_which_urls_its_api_fetches() -> None:
    def only_documents(part: FilePart) -> bool:
        return part.kind == "pdf"

    class ReadingDriver(AcmeDriver):
        def rules(self, endpoint: AIModelEndpoint) -> Rules:
            return replace(super().rules(endpoint), fetches=only_documents)

    register_driver("acme_reading", ReadingDriver)
    register_host("archive", Host("https://archive.test", "acme_reading", key_required=False))
    assert fetches(_at("archive"), FilePart.from_url("https://files.test/a.pdf", media_type="application/pdf"))
    assert not fetches(_at("archive"), FilePart.from_url("https://files.test/a.png", media_type="image/png"))
    assert not fetches(_at("archive"), FilePart.from_url("https://10.0.0.8/a.pdf", media_type="application/pdf"))


async def test_a_row_states_the_urls_that_its_host_fetches() -> None:
    def only_pictures(part: FilePart) -> bool:
        return part.kind == "image"

    row = Host("https://reader.test", "acme_pieces", key_required=False, fetches=only_pictures)
    register_host("reader", row)
    pdf = FilePart.from_url("https://files.test/a.pdf", media_type="application/pdf")
    picture = FilePart.from_url("https://files.test/a.png", media_type="image/png")
    assert fetches(_at("reader"), picture) and not fetches(_at("reader"), pdf)
    assert not fetches(ACME_1, picture) and not fetches(ACME_1, pdf)
    assert fetches(ACME_1, FilePart.from_bytes(PNG))


def test_the_url_rule_of_a_row_wins_over_that_of_its_dialect() -> None:
    picture = FilePart.from_url("https://files.test/a.png", media_type="image/png")
    register_host("closed", Host("https://closed.test", Dialect.GEMINI, fetches=lambda part: False))
    register_host("open", Host("https://open.test", Dialect.GEMINI))
    assert fetches(_at("open"), picture) and not fetches(_at("closed"), picture)
    assert not fetches(_at("kettle"), picture)  # its quirks say so


# ---------------------------------------------------------------------------------------------- names


def _at(provider: str, dialect: str | None = None) -> AIModelEndpoint:
    return AIModelEndpoint(api=AIModelAPI(provider=provider, dialect=dialect), ai_model=AIModel(model_name="m"))


class _Theirs(StrEnum):
    ACME = "acme"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("openai", AIModelAPIProviderEnum.OPEN_AI),
        (AIModelAPIProviderEnum.GROQ, AIModelAPIProviderEnum.GROQ),
        ("acme", "acme"),
        (_Theirs.ACME, "acme"),
        ("never registered", "never registered"),
    ],
)
def test_a_provider_is_a_member_or_a_name_and_stays_so_through_json(given: str, found: str) -> None:
    api, model = AIModelAPI(provider=given), AIModel(model_name="m", provider=given)
    for provider in (api.provider, model.provider):
        assert provider == found and type(provider) is type(found)
    again = AIModelAPI.model_validate_json(api.model_dump_json())
    assert again == api and type(again.provider) is type(found)
    assert AIModel.model_validate_json(model.model_dump_json()) == model
    assert orjson.loads(api.model_dump_json())["provider"] == str(found)
    assert AIModelAPI.model_validate(api.model_dump()) == api


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("gemini", Dialect.GEMINI),
        (Dialect.OPENAI_CHAT, Dialect.OPENAI_CHAT),
        ("acme_pieces", "acme_pieces"),
        (None, None),
    ],
)
def test_a_dialect_is_a_member_or_a_name_and_stays_so_through_json(given: str | None, found: str | None) -> None:
    api = AIModelAPI(provider="acme", dialect=given)
    again = AIModelAPI.model_validate_json(api.model_dump_json())
    assert again == api
    assert api.dialect == again.dialect == found and type(api.dialect) is type(again.dialect) is type(found)


@pytest.mark.parametrize("field", ["provider", "dialect"])
@pytest.mark.parametrize("wrong", ["", 7])
def test_an_empty_or_non_text_name_is_refused(field: str, wrong: object) -> None:
    with pytest.raises(ValidationError, match=field):
        AIModelAPI.model_validate({"provider": "acme", field: wrong})


_UNKNOWN = {
    "host": (_at("acmee"), r"no host is called 'acmee' \(similar: acme\); register_host\("),
    "house's host": (_at("anthropics"), r"no host is called 'anthropics' \(similar: anthropic.*\); register_host\("),
    "host like nothing": (_at("xyzzy"), r"no host is called 'xyzzy'; register_host\("),
    "dialect": (
        _at("acme", "acme_piece"),
        r"no dialect is called 'acme_piece' \(similar: acme_pieces\); register_driver",
    ),
    "house's dialect": (_at("openai", "openai_chats"), r"no dialect .*\(similar: openai_chat.*\); register_driver\("),
}


@pytest.mark.parametrize(("endpoint", "said"), _UNKNOWN.values(), ids=_UNKNOWN.keys())
async def test_an_unregistered_name_is_refused_before_anything_is_sent(endpoint: AIModelEndpoint, said: str) -> None:
    transport = ReplayTransport(b"{}")
    client = AIModelClient(endpoint, transport=transport)
    assert endpoint.api.provider in repr(client)
    with pytest.raises(ConfigurationError, match=said):
        await client.generate("Hi.")
    with pytest.raises(ConfigurationError, match=said):
        client.stream("Hi.")
    async with ConversationManager(transport=transport) as manager:
        conversation = await manager.create()
        with pytest.raises(ConfigurationError, match=said):
            await manager.ask(conversation, "Hi.", endpoint)
    for ask in (resolve, expected_origin, driver_for):
        with pytest.raises(ConfigurationError, match=said):
            ask(endpoint)
    assert transport.requests == [] and conversation.nodes == ()


async def test_a_host_may_be_registered_before_its_dialect() -> None:
    register_host("early", Host("https://early.test", "late_dialect", key_required=False))
    with pytest.raises(ConfigurationError, match="no dialect is called 'late_dialect'"):
        resolve(_at("early"))
    register_driver("late_dialect", AcmeDriver)
    assert resolve(_at("early")).origin.dialect == "late_dialect"


# ---------------------------------------------------------------------------------------------- registering


def test_registering_the_same_again_changes_nothing() -> None:
    register_host("acme", ACME)
    register_host("acme", Host(**{name: getattr(ACME, name) for name in Host.__dataclass_fields__}))
    register_driver("acme_pieces", AcmeDriver)
    assert host_of("acme") is ACME


def test_a_taken_name_is_refused_and_stays_with_its_owner() -> None:
    other = Host("https://other.test")
    with pytest.raises(ConfigurationError, match="another host is registered as 'acme' already: choose another name"):
        register_host("acme", other)
    with pytest.raises(
        ConfigurationError, match="another dialect is registered as 'acme_pieces' already: choose another"
    ):
        register_driver("acme_pieces", lambda host: AcmeDriver(host))
    assert host_of("acme") is ACME and isinstance(driver_for(ACME_1), AcmeDriver)


@pytest.mark.parametrize("name", [*AIModelAPIProviderEnum, "openai"])
def test_the_librarys_own_hosts_cannot_be_replaced(name: str) -> None:
    before = host_of(name)
    with pytest.raises(ConfigurationError, match=f"'{name}' is a host of this library itself: choose another name"):
        register_host(name, before)
    assert host_of(name) is before


@pytest.mark.parametrize("name", [*Dialect, "gemini"])
def test_the_librarys_own_dialects_cannot_be_replaced(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{name}' is a dialect of this library itself: choose another name"):
        register_driver(name, AcmeDriver)
    assert not isinstance(driver_for(_at("acme", name)), AcmeDriver)


@pytest.mark.parametrize("name", ["", "  "])
def test_a_blank_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="the name of a host is empty"):
        register_host(name, ACME)
    with pytest.raises(ConfigurationError, match="the name of a dialect is empty"):
        register_driver(name, AcmeDriver)


def test_of_many_threads_that_register_a_name_one_succeeds() -> None:
    rows = [Host(f"https://{number}.test") for number in range(8)]
    barrier, refused = Barrier(len(rows)), list[ConfigurationError]()

    def register(row: Host) -> None:
        barrier.wait()
        try:
            register_host("contested", row)
        except ConfigurationError as exc:
            refused.append(exc)

    threads = [Thread(target=register, args=(row,)) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == len(rows) - 1 and host_of("contested") in rows


# ---------------------------------------------------------------------------------------------- the room


def test_the_drivers_package_exports_its_names() -> None:
    room = dhenara_async.drivers
    assert room.__all__ == sorted(room.__all__) == sorted(dir(room))
    assert all(getattr(room, name) is not None for name in room.__all__)
    assert not hasattr(room, "Drivr")


def test_type_checkers_see_the_same_exports() -> None:
    tree = ast.parse(Path(dhenara_async.drivers.__file__).read_text(encoding="utf-8"))
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    promised = {
        alias.name for node in imports if (node.module or "").startswith("dhenara_async.") for alias in node.names
    }
    assert promised == set(dhenara_async.drivers.__all__)
