"""Messages as OpenAI's and Anthropic's APIs write them."""

import base64
from collections.abc import Mapping

import orjson
import pytest

from dhenara_async import (
    AIModelClient,
    AIModelEndpoint,
    FilePart,
    JsonPart,
    Message,
    ModelCall,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    gather,
)
from dhenara_async.errors import ConfigurationError
from dhenara_async.messages.dicts import read_messages
from dhenara_async.testing import ProviderServer

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()
PNG_URL = f"data:image/png;base64,{PNG}"
PDF = base64.b64encode(b"%PDF-1.7 something").decode()
CALL = ToolCallPart(call_id="c1", name="weather", arguments='{"city":"Paris"}')
Dict = Mapping[str, object]
WAV = base64.b64encode(b"RIFF....WAVEfmt ").decode()
SAID: Dict = {"type": "output_text", "text": "Sunny.", "annotations": []}

OPENAI: list[Dict] = [
    {"role": "system", "content": "Be brief."},
    {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
    {
        "role": "user",
        "content": [{"type": "text", "text": "Here?"}, {"type": "image_url", "image_url": {"url": PNG_URL}}],
    },
    {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}},
            {"id": "c2", "type": "function", "function": {"name": "time", "arguments": ""}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "Sunny."},
    {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "Noon."}]},
    {"role": "assistant", "content": "Sunny at noon."},
    {"role": "user", "content": "Thanks."},
]
ANTHROPIC: list[Dict] = [
    {
        "role": "user",
        "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            {
                "type": "document",
                "title": "a.pdf",
                "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
            },
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Ada."}},
            {"type": "text", "text": "Here?"},
        ],
    },
    {
        "role": "assistant",
        "id": "msg_1",
        "stop_reason": "tool_use",
        "content": [
            {"type": "thinking", "thinking": "Look it up.", "signature": "c2ln"},
            {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Paris"}},
        ],
    },
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "c1",
                "is_error": True,
                "content": [{"type": "text", "text": "No."}],
            },
            {"type": "text", "text": "So?"},
        ],
    },
]


def test_openai_chat_dicts_become_messages() -> None:
    system, developer, user, asked, results, answer, thanks = read_messages(OPENAI)
    assert (system, developer) == (Message.system("Be brief."), Message.system("Be kind."))
    assert user == Message.user("Here?", FilePart.from_url(PNG_URL))
    assert asked == Message.assistant(CALL, ToolCallPart(call_id="c2", name="time"))
    assert results == Message.user(
        ToolResultPart.of(CALL, "Sunny."), ToolResultPart(call_id="c2", name="time", content=[TextPart(text="Noon.")])
    )
    assert (answer, thanks) == (Message.assistant("Sunny at noon."), Message.user("Thanks."))


def test_anthropic_dicts_become_messages() -> None:
    user, asked, results = read_messages(ANTHROPIC)
    files = [part for part in user.parts if isinstance(part, FilePart)]
    assert [file.media_type for file in files] == ["image/png", "application/pdf", "text/plain"]
    assert [file.filename for file in files] == [None, "a.pdf", None]
    assert asked == Message.assistant(ReasoningPart(text="Look it up."), CALL)
    assert results == Message.user(ToolResultPart.of(CALL, "No.", is_error=True), "So?")


def test_items_of_the_responses_api_become_messages() -> None:
    items: list[Dict] = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "Hi."}, {"type": "input_image", "image_url": PNG_URL}],
        },
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"Paris"}', "id": "fc_1"},
        {"type": "function_call_output", "call_id": "c1", "output": "Sunny."},
        {
            "type": "message",
            "role": "assistant",
            "content": [SAID],
        },
    ]
    assert read_messages(items) == [
        Message.user("Hi.", FilePart.from_url(PNG_URL)),
        Message.assistant(CALL),
        Message.user(ToolResultPart.of(CALL, "Sunny.")),
        Message.assistant("Sunny."),
    ]


def test_files_and_json_results_in_dicts_become_parts() -> None:
    parts: list[Dict] = [
        {"type": "image", "source": {"type": "url", "url": "https://example.test/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
        {"type": "input_file", "filename": "b.pdf", "file_data": PDF},
        {"type": "file", "file": {"file_id": "file-1"}},
        {
            "type": "input_audio",
            "input_audio": {"data": WAV, "format": "wav"},
        },
    ]
    (message,) = read_messages([{"role": "user", "content": parts}])
    files = [part for part in message.parts if isinstance(part, FilePart)]
    assert files.pop(0).url == "https://example.test/a.png"
    assert [(file.filename, file.media_type.partition("/")[0], file.file_id) for file in files] == [
        *[("a.pdf", "application", None), ("b.pdf", "application", None), (None, "application", "file-1")],
        (None, "audio", None),
    ]
    (result,) = read_messages([{"role": "tool", "tool_call_id": "c", "content": {"degrees": 20}}])
    assert result.parts == (ToolResultPart(call_id="c", content=[JsonPart(value={"degrees": 20})]),)


def test_texts_messages_and_dumped_messages_are_read_beside_dicts() -> None:
    own = Message.assistant("Ho.", CALL)
    read = read_messages(
        ["Hi.", own, own.model_dump(), orjson.loads(own.model_dump_json()), {"role": "user", "content": "So?"}]
    )
    assert read == [Message.user("Hi."), own, own, own, Message.user("So?")]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"content": "Hi."}, "a message has a role and a content"),
        ({"role": "model", "content": "Hi."}, "the role of a message is user"),
        ({"role": "user", "content": [{"type": "hologram", "text": "Hi."}]}, "type 'hologram' is unknown"),
        ({"role": "user", "content": [{"text": "Hi."}]}, "type 'None' is unknown"),
        ({"role": "user", "content": 7}, "content is a text or a list"),
        ({"role": "user", "content": [7]}, "a content part is a dict"),
        ({"role": "user", "content": "Hi.", "name": "Ada"}, "the field 'name' cannot be kept"),
        (
            {"role": "user", "content": [{"type": "text", "text": "", "cache_control": {"a": 1}}]},
            "prompt_cache=True",
        ),
        ({"role": "user", "parts": [{"text": "Hi."}]}, "a dict with parts is a dumped Message"),
        ({"role": "tool", "content": "Hi."}, "tool_call_id is a text"),
        ({"role": "user", "content": [{"type": "image", "source": {"type": "smell"}}]}, "is base64, url, text or file"),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"format": "wav", "data": "?"}}]},
            "base64",
        ),
        (7, "a message is a Message, a text or a dict"),
    ],
)
def test_an_unknown_shape_is_refused_with_the_index_of_its_message(item: Dict, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_messages(["First.", item])
    assert str(caught.value).startswith("message 1: ")
    assert "Hi." not in str(caught.value)


@pytest.mark.parametrize("provider", ["anthropic", "openai", "google_ai", "groq"])
@pytest.mark.parametrize("messages", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
async def test_a_call_to_each_provider_takes_dicts_as_messages(provider: str, messages: list[Dict]) -> None:
    async with ProviderServer() as server:
        model = AIModelEndpoint.of(f"{provider}:some-model").ai_model
        async with AIModelClient(AIModelEndpoint(api=server.api(provider), ai_model=model)) as client:
            assert (await client.generate(messages=messages)).text()
        sent = str(server.requests[0].body)
    assert "weather" in sent and "Paris" in sent


async def test_prompt_context_and_fan_out_take_dicts() -> None:
    async with ProviderServer() as server:
        endpoint = AIModelEndpoint(api=server.api("openai"), ai_model=AIModelEndpoint.of("openai:m").ai_model)
        client = AIModelClient(endpoint)
        said: list[Dict] = [{"role": "user", "content": "One."}, {"role": "assistant", "content": "Two."}]
        await client.generate({"role": "user", "content": "Three."}, context=said)
        await gather([ModelCall(endpoint, messages=[*said, {"role": "user", "content": "Three."}])])
        bodies = [request.body for request in server.requests]
    assert bodies[0] == bodies[1]
    assert [message.role for message in read_messages(said)] == [Role.USER, Role.ASSISTANT]


def test_a_message_without_content_becomes_an_empty_message() -> None:
    read = read_messages([{"role": "user"}, {"role": "user", "content": "Hi"}])
    assert [message.get_text() for message in read] == ["", "Hi"]
