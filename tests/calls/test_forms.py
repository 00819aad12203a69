"""A request from a form has the same bytes as one that is formatted and encoded, at every host."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelCallConfig,
    AIModelEndpoint,
    ConversionPolicy,
    Dialect,
    Message,
    Tool,
)
from dhenara_async.calls.call import Call, Delivery
from dhenara_async.calls.forms import Form, is_fixed
from dhenara_async.calls.input import CallInput
from dhenara_async.calls.prepare import CallPreparer
from dhenara_async.calls.shared import SharedResources
from dhenara_async.hosts.table import HOSTS
from dhenara_async.messages.messages import FilePart, TextPart
from dhenara_async.request import ChatRequest, WireRequest
from tests import acme
from tests.cases import SOAK, cases, sample

MODELS = (
    "gpt-4o",
    "gpt-5",
    "o1",
    "claude-opus-4-6",
    "claude-3-haiku-20240307",
    "gemini-2.0-flash",
    "gemini-3-pro",
    "llama",
)
INSTRUCTIONS: list[tuple[str, ...]] = [(), ("Be brief.",), ("Be brief.", " ", 'Say "yes".')]
CONFIGS = {
    "nothing set": AIModelCallConfig(),
    "plain knobs": AIModelCallConfig(max_output_tokens=70, temperature=0.5, stop=("x",), seed=3, n=1),
    "reasoning": AIModelCallConfig(reasoning=True, reasoning_effort="low", prompt_cache=True, user_id="me"),
    "a header": AIModelCallConfig(extra_headers={"x-mine": "1", "anthropic-beta": "mine"}),
    "labels": AIModelCallConfig(metadata={"a": "b"}),
    "a body": AIModelCallConfig(extra_body={"x": {"y": 1}}),
    "a schema": AIModelCallConfig(structured_output={"type": "object", "properties": {}}),
    "a tool": AIModelCallConfig(tools=(Tool(name="look", parameters={"type": "object", "properties": {}}),)),
}
WORDS = ["Hi.", ' \n words "in quotes", \\ and \u2028 \x00 ', "dhenara/1/question", "ß漢🙂", "a" * 5000, '"', "\\u0041"]


def endpoint(host: str, model: str) -> AIModelEndpoint:
    api = AIModelAPI(provider=host, api_key=SecretStr("k"), base_url="http://127.0.0.1:1/v1")
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))


def asked(
    words: str | Message, config: AIModelCallConfig, *, lead: tuple[str, ...] = (), stream: bool = True
) -> CallInput:
    message = Message.user(words) if isinstance(words, str) else words
    return CallInput([message], lead, config, stream)


def caller(target: AIModelEndpoint, policy: ConversionPolicy | None = None) -> CallPreparer:
    return CallPreparer(target, policy, SharedResources())


def told(call: Call) -> object:
    """Return all values of a call that its provider or its caller can see."""
    source = call.source
    assert isinstance(source, Delivery)
    return (
        (source.request.url, source.request.headers, source.request.body, source.timeouts),
        (call.request, call.origin, call.warnings, call.report, call.pricing, call.prefix, type(call.driver)),
    )


def is_filled_in(call: Call) -> bool:
    return call.without_reasoning is None  # which every other call over a network has


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_form_gives_the_same_request_at_every_host(config: AIModelCallConfig) -> None:
    """Each host is tried with half of the models, and each of them with a third of the words; a soak tries all."""
    with cases() as case:
        for at, host in enumerate(HOSTS):
            filled = 0
            for number, model in enumerate(sample(MODELS, 2, at)):
                target = endpoint(host, model)
                words_tried = ["First.", *sample(WORDS, 3, at + number)]  # the first is not filled in
                for lead in INSTRUCTIONS:
                    for stream in (True, False):
                        kept = caller(target)
                        for words in words_tried:
                            with case(f"{host}, {model}, {lead}, {stream}, {words[:20]!r}"):
                                question = asked(words, config, lead=lead, stream=stream)
                                call = kept.call(question, None)
                                assert told(call) == told(caller(target).call(question, None))
                                filled += is_filled_in(call)
            with case(host):
                assert bool(filled) is is_fixed(config)


@settings(max_examples=300 if SOAK else 100, deadline=None)
@given(words=st.text(st.characters(codec="utf-8"), min_size=1), dialect=st.sampled_from(Dialect))
def test_a_form_gives_the_same_request_for_any_text(words: str, dialect: Dialect) -> None:
    if not words.strip():
        return
    api = AIModelAPI(provider="openai", api_key=SecretStr("k"), base_url="http://127.0.0.1:1/v1", dialect=dialect)
    target = AIModelEndpoint(api=api, ai_model=AIModel(model_name="some-model"))
    config = CONFIGS["plain knobs"]
    kept = caller(target)
    calls = [kept.call(asked(text, config), None) for text in ("first", "second", words)]
    assert [is_filled_in(call) for call in calls] == [False, True, True]
    assert told(calls[-1]) == told(caller(target).call(asked(words, config), None))


@pytest.mark.parametrize("name", ["labels", "a body", "a schema", "a tool"])
def test_mutable_values_are_never_kept_in_a_form(name: str) -> None:
    kept = caller(endpoint("openai", "gpt-4o"))
    assert not is_fixed(CONFIGS[name])
    assert not any(is_filled_in(kept.call(asked("Hi.", CONFIGS[name]), None)) for _ in range(3))


def test_a_config_with_a_dictionary_is_encoded_at_each_call() -> None:
    body: dict[str, object] = {}
    config = AIModelCallConfig.model_construct(extra_body=body)
    kept = caller(endpoint("openai_compatible", "gpt-4o"))
    for _ in range(3):
        kept.call(asked("Hi.", config), None)
    body["later"] = True
    source = kept.call(asked("Hi.", config), None).source
    assert isinstance(source, Delivery)
    assert b'"later":true' in source.request.body


def test_a_form_is_used_only_for_calls_of_its_kind() -> None:
    target = endpoint("openai", "gpt-4o")
    kept = caller(target)
    kinds = [
        asked("Hi.", CONFIGS["nothing set"]),
        asked("Hi.", CONFIGS["plain knobs"]),
        asked("Hi.", CONFIGS["nothing set"], lead=("Be brief.",)),
        asked("Hi.", CONFIGS["nothing set"], stream=False),
        asked(Message.user("Hi.", "You."), CONFIGS["nothing set"]),
        asked(Message.user("Hi.").model_copy(update={"node": "n1"}), CONFIGS["nothing set"]),
        asked(
            Message.user("Look.", FilePart(media_type="image/png", url="https://a.example/b.png")), CONFIGS["a header"]
        ),
        replace(asked("Hi.", CONFIGS["nothing set"]), messages=[Message.user("Hi."), Message.assistant("Yes?")] * 2),
    ]
    for first in kinds:
        for second in kinds:
            for question in (first, first, second, second, second, first):
                if question.messages[-1].role == "assistant":
                    continue
                assert told(kept.call(question, None)) == told(caller(target).call(question, None))


def test_a_lone_surrogate_is_replaced_and_reported_despite_a_form() -> None:
    kept = caller(endpoint("openai", "gpt-4o"))
    half = asked(Message.user(TextPart.unchecked(type="text", text="half \ud83d")), CONFIGS["nothing set"])
    for _ in range(3):
        kept.call(asked("Hi.", CONFIGS["nothing set"]), None)
    call = kept.call(half, None)
    assert isinstance(call.source, Delivery)
    assert "half \ufffd" in call.source.request.body.decode()
    assert [entry.code for entry in call.report.entries] == ["text_repaired"]


def test_a_form_needs_the_text_exactly_once_in_the_body() -> None:
    """The form of a dialect that uses the text otherwise, or twice, is not kept."""
    form = Form(CONFIGS["nothing set"], (), stream=True)
    made = caller(endpoint("openai", "gpt-4o")).call(asked("Hi.", CONFIGS["nothing set"]), None)
    assert isinstance(made.source, Delivery)
    wire = made.driver.encode(made.request, endpoint("openai", "gpt-4o"))
    for body, header in (('["%s"]', ""), ("[]", ""), ('["%s","%s"]', ""), ('["%s",%d]', ""), ('["%s"]', "%d")):

        def write(message: Message, body: str = body, header: str = header) -> tuple[ChatRequest, WireRequest]:
            words = message.get_text()
            said, digest = (text.replace("%s", words).replace("%d", str(len(words))) for text in (body, header))
            return made.request, replace(wire, body=said.encode(), headers={"digest": digest})

        form = Form(CONFIGS["nothing set"], (), stream=True)
        form.write(write)
        assert (form.example is not None) is (body == '["%s"]' and not header)


def test_dialects_from_outside_may_do_with_words_as_they_like() -> None:
    assert acme.ACME  # registered by being imported
    target = endpoint("acme", "some-model")
    kept = caller(target)
    for words in WORDS[:4]:
        call = kept.call(asked(words, CONFIGS["nothing set"]), None)
        assert not is_filled_in(call)
        assert told(call) == told(caller(target).call(asked(words, CONFIGS["nothing set"]), None))
