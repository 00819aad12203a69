"""Whatever a value holds, its representation is one short line without secrets; Jupyter shows answers as Markdown."""

from collections.abc import Sequence
from dataclasses import is_dataclass

import pytest

import dhenara_async
from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    ChatResponse,
    Choice,
    Conversation,
    ConversationManager,
    ConversationNode,
    ConversionEntry,
    ConversionReport,
    Failover,
    FilePart,
    FinishReason,
    Message,
    Origin,
    PartEnd,
    PartOutcome,
    RefusalPart,
    Role,
    StreamEnd,
    TextDelta,
    TextPart,
    ToolCallPart,
    Usage,
)
from dhenara_async.formatter.markdown import as_markdown, code_span
from dhenara_async.frozen import ShortRepr
from dhenara_async.stores import MemoryStore, SQLStore

KEY = "sk-very-secret"
LONG = "word " * 5000
ENDPOINT = AIModelEndpoint(
    api=AIModelAPI.model_validate(
        {"provider": "openai", "api_key": KEY, "base_url": f"http://user:{KEY}@a.example/v1"}
    ),
    ai_model=AIModel(model_name="m" * 500),
)
TARGET = Origin(
    provider="openai", dialect="openai_responses", endpoint="api.openai.com", account=None, model="gpt-6.2-sol"
)
PARTS = (TextPart(text=LONG), ToolCallPart(call_id="c" * 300, name="look", arguments=LONG))
CHOICE = Choice(parts=PARTS * 50, finish_reason=FinishReason.STOP)
RESPONSE = ChatResponse(choices=(CHOICE,), usage=Usage(output_tokens=5), model="gpt", provider="openai")
NODE = ConversationNode(user_query=LONG, response=RESPONSE, instructions=(LONG,) * 3)
TREE = Conversation("i" * 1000, nodes=[NODE])
ENTRY = ConversionEntry(
    code="media_dropped", severity="lossy", message=0, part=0, kind="file", target=TARGET, reason="altered", detail=LONG
)
VALUES: Sequence[object] = (
    *(ENDPOINT, ENDPOINT.api, TARGET, *PARTS, CHOICE, RESPONSE, NODE, TREE, ENTRY),
    *(Message(role=Role.USER, parts=PARTS), FilePart(data=b"x" * 9999, media_type="text/plain", filename=LONG)),
    AIModelCallConfig(extra_headers={"x-key": KEY}, extra_body={"key": KEY}, stop=("a" * 300, "b")),
    ConversionReport(entries=(ENTRY,) * 90),
    *(TextDelta(0, LONG), PartEnd(0, PARTS[0])),
    StreamEnd(FinishReason.STOP, LONG, ()),
    Failover((ENDPOINT,) * 30),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_representations_are_short_and_without_secrets(value: object) -> None:
    shown = repr(value)
    assert len(shown) <= 200 and "\n" not in shown
    assert shown.startswith(type(value).__name__)
    assert KEY not in shown


async def test_those_of_clients_managers_streams_and_stores_too() -> None:
    plan = Failover((ENDPOINT,) * 30)
    config = AIModelCallConfig(test_mode=True, extra_headers={"x-key": KEY})
    client = AIModelClient(plan, config)
    async with client.stream("Hi.") as stream, ConversationManager(config=config) as manager:
        kept = await manager.create()
        async with manager.turn(kept, "Hi.", ENDPOINT) as turn:
            shown = [repr(turn)]
        database = SQLStore(f"postgresql://user:{KEY}@db.example/{'x' * 300}")
        blocking = AIModelClient(plan, config, is_async=False)
        shown += map(repr, (client, blocking, stream, manager, manager.store, MemoryStore(), database))
    assert [text for text in shown if len(text) > 200 or KEY in text or " object at 0x" in text] == []
    assert "conversations=1" in repr(manager)


def test_all_public_dataclasses_have_the_short_one() -> None:
    public = [getattr(dhenara_async, name) for name in dhenara_async.__all__]
    plain = [kind for kind in public if isinstance(kind, type) and is_dataclass(kind)]
    assert plain and [kind.__name__ for kind in plain if kind.__repr__ is not ShortRepr.__repr__] == []


def test_a_representation_leaves_defaults_out_and_keeps_what_is_short() -> None:
    assert repr(Message(role=Role.USER, parts=(TextPart(text="Hi."),))) == "Message(role='user', parts=<1 item>)"
    assert repr(TextPart(text="Hi.")) == "TextPart(text='Hi.')"
    assert repr(TextDelta(0, "Hi.")) == "TextDelta(part_id=0, text='Hi.')"


def test_an_answer_is_shown_as_markdown() -> None:
    parts = (
        TextPart(text="**Two** lines.\n\nHere."),
        RefusalPart(text="No.\nNever."),
        ToolCallPart(call_id="1", name="look", arguments='{"at": "`sky`"}'),
    )
    choice = Choice(parts=parts, finish_reason=FinishReason.STOP)
    answer = ChatResponse(choices=(choice,), usage=Usage(output_tokens=7), model="gpt", provider="openai")
    shown = '**Two** lines.\n\nHere.\n\n> No.\n> Never.\n\n- `` look({"at": "`sky`"}) ``\n\n*gpt, 7 tokens*'
    assert as_markdown(answer) == shown
    node = ConversationNode(user_query="Why?", response=answer, status="interrupted", error="cut")
    assert as_markdown(node) == f"> Why?\n\n{shown}\n\n*interrupted: cut*"
    second = ConversationNode(user_query="And?", parent_id=node.id)
    tree = Conversation(nodes=[node, second])
    assert as_markdown(tree) == f"{as_markdown(node)}\n\n---\n\n> And?"
    assert as_markdown(Conversation()) == "*an empty conversation*"


def test_a_report_is_shown_as_a_table() -> None:
    outcome = PartOutcome(message=0, part=0, kind="file", outcome="omitted")
    report = ConversionReport(entries=(ENTRY.model_copy(update={"detail": "a | b\n<c>"}),), parts=(outcome,))
    assert as_markdown(report) == (
        "1 omitted\n\n"
        "| message | part | kind | outcome | code | severity | why |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| 0 | 0 | file | omitted | media_dropped | lossy | a \\| b &lt;c> |"
    )
    assert as_markdown(ConversionReport()) == "nothing to carry over"


@pytest.mark.parametrize(("line", "shown"), [("a", "`a`"), ("a`b", "`` a`b ``"), ("`` x", "``` `` x ```")])
def test_code_is_fenced_by_more_backquotes_than_it_has(line: str, shown: str) -> None:
    assert code_span(line) == shown
