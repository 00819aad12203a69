"""What is made without a check is what the constructor would have made."""

import copy
import pickle
from collections.abc import Iterator
from typing import cast

import pytest
from pydantic import ValidationError

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Budget,
    Capabilities,
    ConversationNode,
    ConversationPolicy,
    ConversionPolicy,
    Dialect,
    Limits,
    Timeouts,
    Tool,
)
from dhenara_async.drivers import parts
from dhenara_async.errors import ConfigurationError, StructuredOutputError
from dhenara_async.formatter.conversion import ConversionReport
from dhenara_async.formatter.formatter import PromptFormatter
from dhenara_async.frozen import FrozenModel
from dhenara_async.messages.messages import FilePart, Message, Origin, ReasoningPart, TextPart, ToolCallPart
from dhenara_async.response import AIModelCallResponse, Attempt, ChatResponse, Choice, FinishReason, Latency
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.usage.prices import Pricing
from dhenara_async.usage.tokens import Usage
from tests.loopback import endpoint_at

ORIGIN = Origin(provider="openai", dialect="openai_chat", endpoint="https://here", account="a", model="m")
TEXT = TextPart(text="Hi.", origin=ORIGIN)
CHOICE = Choice(finish_reason=FinishReason.STOP, parts=(TEXT,))
ANSWER = ChatResponse(choices=(CHOICE,), provider="openai", model="m")
RESPONSE = AIModelCallResponse(
    latency=Latency(first_event=None, total=1.0),
    endpoint=ORIGIN,
    chat_response=ANSWER,
    conversion=ConversionReport(),
    pricing=Pricing(),
)


@pytest.mark.parametrize("checked", [TEXT, Usage(total_tokens=3, input_tokens=1), CHOICE, ANSWER, RESPONSE])
def test_unchecked_values_equal_validated_ones(checked: FrozenModel) -> None:
    given = {name: getattr(checked, name) for name in checked.model_fields_set}
    unchecked = type(checked).unchecked(**given)
    assert unchecked == checked
    assert unchecked.model_dump_json() == checked.model_dump_json()  # the order of its members too
    assert unchecked.model_dump_json(exclude_unset=True) == checked.model_dump_json(exclude_unset=True)
    assert repr(unchecked) == repr(checked)
    assert type(checked).model_validate_json(unchecked.model_dump_json()) == unchecked
    assert unchecked.model_copy() == checked


def test_values_that_are_given_everything_are_the_checked_ones() -> None:
    checked = TextPart(**dict(TEXT))
    unchecked = TextPart.unchecked(**dict(TEXT))
    assert unchecked == checked
    assert unchecked.model_fields_set == checked.model_fields_set == set(TextPart.model_fields)
    assert unchecked.model_dump_json(exclude_unset=True) == checked.model_dump_json(exclude_unset=True)
    assert repr(unchecked) == repr(checked)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dialect", Dialect)
async def test_what_a_call_makes_has_its_fields_in_order(dialect: Dialect, streaming: bool) -> None:
    question, knobs = Message.user("Well?"), AIModelCallConfig(streaming=streaming)
    async with ProviderServer([Answer(reasoning="Hm.", text="Hi."), Answer(text="Hi.")]) as server:
        client = AIModelClient(endpoint_at(server, dialect), knobs)
        answers = [await client.generate(question) for _ in range(2)]
    values = [value for made in (question, *answers) for value in values_in(made)]
    assert {type(value) for value in values} >= {Attempt, Choice, Latency, Origin, ReasoningPart, TextPart, Usage}
    for value in values:
        assert list(vars(value)) == list(type(value).model_fields)


def test_who_answers_is_made_once_for_each_model_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: dict[object, object] = {}
    monkeypatch.setattr(parts, "_served", remembered)
    monkeypatch.setattr(parts, "_MOST_SERVED", 5)

    def origin(model: str | None) -> Origin | None:
        answer = parts.PartsInFlight(ORIGIN)
        answer.begin(model=model, response_id=None)
        return answer.close(answer.open("text")).part.origin

    for model in (None, *map(str, range(20)), "x" * 300):
        assert origin(model) == ORIGIN.model_copy(update={"served_model": model})
        assert (origin(model) is origin(model)) == (model != "x" * 300)
        assert 0 < len(remembered) <= 5


def values_in(value: object) -> Iterator[FrozenModel]:
    """``value``, and every value inside it."""
    if isinstance(value, FrozenModel):
        yield value
        for item in vars(value).values():
            yield from values_in(item)
    elif isinstance(value, tuple):
        for item in cast("tuple[object, ...]", value):
            yield from values_in(item)


def test_what_is_made_anew_is_nobody_elses() -> None:
    first, second = ConversionReport.unchecked(), ConversionReport.unchecked()
    assert first.counted is not second.counted


def test_values_that_were_given_the_same_names_share_them_and_their_copies_do_not() -> None:
    first, second = Usage.unchecked(input_tokens=1), Usage.unchecked(input_tokens=2)
    copies: list[Usage] = [
        first.model_copy(update={"output_tokens": 3}),
        first.model_copy(update={"output_tokens": 3}, deep=True),
        pickle.loads(pickle.dumps(first)).model_copy(update={"output_tokens": 3}),  # noqa: S301 - our own
        copy.deepcopy(first).model_copy(update={"output_tokens": 3}),
    ]
    assert [each.model_fields_set for each in copies] == [{"input_tokens", "output_tokens"}] * 4
    assert first.model_fields_set == second.model_fields_set == {"input_tokens"}


# ------------------------------------------------------------------------------------------------ copies


def look(where: str) -> str:
    """Look there."""
    return where


CONFIG = AIModelCallConfig(temperature=0.5, tools=[look])
API = AIModelAPI(provider="openai", api_key="sesame")
ENDPOINT = AIModelEndpoint(api=API, ai_model=AIModel(model_name="m"))
WRONG_CHANGES: list[tuple[FrozenModel, dict[str, object]]] = [
    (CONFIG, {"temprature": 0.1}),
    (CONFIG, {"temperature": "hot"}),
    (CONFIG, {"top_p": 3}),
    (CONFIG, {"tools": [len]}),
    (CONFIG, {"retries": "often"}),
    (CONFIG.timeouts, {"totle": 3.0}),
    (CONFIG.timeouts, {"total": -1}),
    (CONFIG.retries, {"attempts": 0}),
    (CONFIG.fetch, {"max_bytes": 0}),
    (API, {"base": "http://127.0.0.1"}),
    (API, {"headers": {"a": 1}}),
    (ENDPOINT, {"model": "m"}),
    (ENDPOINT, {"api": "openai"}),
    (ENDPOINT.ai_model, {"model_name": ""}),
    (ENDPOINT.pricing, {"rate": 1}),
    (Capabilities(), {"reasoning": "sometimes"}),
    (ConversionPolicy(), {"strikt": True}),
    (ConversionPolicy(), {"media": "burn"}),
    (ConversationPolicy(), {"keep_turns": 0}),
    (Limits(), {"concurrency": 0}),
    (Budget(), {"tokens": -1}),
    (Tool.from_function(look), {"name": "no name"}),
    (TEXT, {"txet": "Ho."}),
    (FilePart(media_type="text/plain", data=b"a"), {"url": "https://example.test/a"}),
    (Message.user("Hi."), {"parts": [1]}),
    (ConversationNode(user_query="Hi."), {"status": "done"}),
]


@pytest.mark.parametrize(
    ("value", "changes"), WRONG_CHANGES, ids=[f"{type(value).__name__}-{changes}" for value, changes in WRONG_CHANGES]
)
def test_copies_are_checked_as_the_constructor_checks(value: FrozenModel, changes: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(changes))):
        value.model_copy(update=changes)


def test_copies_take_what_the_constructor_takes() -> None:
    changed = CONFIG.model_copy(update={"tools": [look, Budget], "retries": 1, "stop": ["."]})
    assert changed == AIModelCallConfig(temperature=0.5, tools=[look, Budget], retries=1, stop=["."])
    assert changed.model_fields_set == {"temperature", "tools", "retries", "stop"}
    assert isinstance(first := changed.tools[0], Tool)
    assert first.name == "look"
    assert "pear" not in repr(API.model_copy(update={"api_key": "pear"}))
    said = Message.user("Hi.").model_copy(update={"parts": ["Ho.", TEXT]})
    assert said == Message.user("Ho.", TEXT)


@pytest.mark.parametrize("deep", [False, True])
def test_copies_carry_along_what_is_no_part_of_the_value(deep: bool) -> None:
    call = ToolCallPart(call_id="1", name="watch", arguments='{"where": "up"}')
    tool = Tool.from_function(look).model_copy(update={"name": "watch"}, deep=deep)
    assert tool.bind(call)() == "up"
    (again,) = CONFIG.model_copy(update={"tools": [tool]}, deep=deep).tools
    assert isinstance(again, Tool)
    assert again.bind(call)() == "up"
    answer = ANSWER.wanted({"type": "string"}).model_copy(update={"model": "n"}, deep=deep)
    assert answer.model == "n"
    with pytest.raises(StructuredOutputError, match="is not JSON"):
        answer.structured()


def test_values_changed_without_a_check_are_the_checked_copies() -> None:
    for value, changes in ((TEXT, {"text": "Ho."}), (ANSWER, {"model": "n"}), (CONFIG, {"seed": 3, "top_k": 2})):
        given = cast("dict[str, object]", changes)
        checked, changed = value.model_copy(update=given), value.changed(**given)
        assert changed == checked
        assert changed.model_fields_set == checked.model_fields_set
        assert changed.model_dump_json() == checked.model_dump_json()
    assert TEXT.text == "Hi."
    tool = Tool.from_function(look).changed(description="Watch.")
    assert tool.bind(ToolCallPart(call_id="1", name="look", arguments='{"where": "up"}'))() == "up"


def test_a_copy_does_not_use_the_caches_of_its_original() -> None:
    endpoint = AIModelEndpoint(api=API, ai_model=AIModel(model_name="gpt-5"))
    node = ConversationNode(user_query="Wie hoch ist der Brocken?")
    PromptFormatter.format_conversation([node], endpoint)

    changed = node.model_copy(update={"user_query": "Wie tief ist der Laacher See?"})
    formatted = PromptFormatter.format_conversation([changed], endpoint)

    assert [message.get_text() for message in formatted.messages] == ["Wie tief ist der Laacher See?"]
    assert pickle.loads(pickle.dumps(node)) == node == copy.deepcopy(node)  # noqa: S301 - our own bytes
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint  # noqa: S301 - our own bytes


def test_what_the_constructor_refuses_is_a_mistake_of_this_library() -> None:
    with pytest.raises(ConfigurationError, match="AIModelCallConfig: there is no max_token") as caught:
        AIModelCallConfig(max_token=1)  # pyright: ignore[reportCallIssue] - what is tested
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value.__cause__, ValidationError)
    with pytest.raises(ValidationError):
        AIModelCallConfig.model_validate({"max_token": 1})
    with pytest.raises(ConfigurationError, match="temperature: input should be greater than or equal to 0"):
        AIModelCallConfig(temperature=-1)


def test_one_stop_and_one_time_limit_need_no_sequence_and_no_class() -> None:
    config = AIModelCallConfig(stop="END", timeouts=30)
    assert config == AIModelCallConfig(stop=["END"], timeouts=Timeouts(total=30))
    assert AIModelCallConfig.model_validate_json(config.model_dump_json()) == config
