# google-genai's signatures name classes of packages that are not installed here.
# pyright: reportUnknownMemberType=false
"""The vendors' own SDKs understand what the loopback server says: they are the oracle for its answers."""

from typing import Any

import httpx
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import TextBlock, ThinkingBlock, ToolUseBlock
from google import genai
from google.genai import types
from openai import AsyncOpenAI
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseReasoningItem

from dhenara_async.endpoint import AIModelAPIProviderEnum
from dhenara_async.response import FinishReason, Usage
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall

_TEXT = "Zwölf Boxkämpfer\u2028jagen  🤖.\n\nEnd"
_ADD = ScriptedToolCall(call_id="call_1", name="add", arguments='{"a": 1, "b": "two words"}')
_USAGE = Usage(input_tokens=100, cache_read_tokens=40, cache_write_tokens=10, output_tokens=30, reasoning_tokens=12)
_FULL = Answer(text=_TEXT, reasoning="Let me think.", signature="c2lnbmVk", tool_calls=(_ADD,), usage=_USAGE)


def _openai(server: ProviderServer) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=server.base_url(AIModelAPIProviderEnum.OPEN_AI), api_key="key", max_retries=0)


def _anthropic(server: ProviderServer) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=server.base_url(AIModelAPIProviderEnum.ANTHROPIC), api_key="key", max_retries=0)


def _gemini(server: ProviderServer) -> genai.Client:
    # A transport of its own, because the SDK's aiohttp session warns about itself when it is made.
    options = types.HttpOptions(
        base_url=server.base_url(AIModelAPIProviderEnum.GOOGLE_AI),
        async_client_args={"transport": httpx.AsyncHTTPTransport()},
    )
    return genai.Client(api_key="key", http_options=options)


_PNG = b"\x89PNG\r\n\x1a\nx"
_PICTURE = types.Part.from_bytes(data=_PNG, mime_type="image/png")
_CALLED = types.FunctionCall(id="c", name="add", args={"first_term": {"mime_type": 1}})
_RESULT = types.Part.from_function_response(
    name="add",
    response={"the_sum": 3},
    parts=[types.FunctionResponsePart.from_bytes(data=_PNG, mime_type="image/png")],
)
_DECLARED = types.FunctionDeclaration(
    name="add", parameters_json_schema={"type": "object", "properties": {"first_term": {"type": "integer"}}}
)
# The client's own type of contents names classes of packages that are not installed here.
_GEMINI_ASKED: dict[str, tuple[Any, types.GenerateContentConfig | None]] = {
    "a picture": ([_PICTURE, "What is it?"], None),
    "a file": ([types.Part.from_uri(file_uri="https://a.test/a.pdf", mime_type="application/pdf"), "And?"], None),
    "a stored file": ([types.File(uri="https://a.test/files/a", name="files/a", mime_type="image/png"), "And?"], None),
    "part of a video": (
        [
            types.Part(
                file_data=types.FileData(file_uri="https://youtu.be/a"),
                video_metadata=types.VideoMetadata(start_offset="1s"),
            )
        ],
        None,
    ),
    "contents without a role": ([types.Content(parts=[types.Part(text="hi")])], None),
    "a picture in the instruction": (
        "hi",
        types.GenerateContentConfig(
            system_instruction=types.Content(parts=[_PICTURE]),
            thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_level=types.ThinkingLevel.LOW),
            image_config=types.ImageConfig(aspect_ratio="1:1"),
            stop_sequences=["#"],
        ),
    ),
    "settings beside its own": (
        "hi",
        types.GenerateContentConfig(
            http_options=types.HttpOptions(
                extra_body={"system_instruction": {"parts": [{"text": "Be brief."}]}, "safety_settings": []}
            )
        ),
    ),
    "a call and its result": (
        [
            types.UserContent("1+2?"),
            types.Content(
                role="model",
                parts=[types.Part(function_call=_CALLED, thought_signature=b"skip_thought_signature_validator")],
            ),
            types.Content(role="user", parts=[_RESULT]),
        ],
        types.GenerateContentConfig(
            tools=[types.Tool(function_declarations=[_DECLARED])],
            tool_config=types.ToolConfig(
                function_calling_config=types.FunctionCallingConfig(
                    mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["add"]
                )
            ),
        ),
    ),
}


class TestChat:
    """openai ``chat.completions``."""

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_answer(self, streamed: bool) -> None:
        async with ProviderServer([_FULL]) as server, _openai(server) as client:
            if streamed:
                async with client.chat.completions.stream(
                    model="gpt-4o-mini",
                    messages=[{"role": "user", "content": "hi"}],
                    stream_options={"include_usage": True},
                ) as stream:
                    completion = await stream.get_final_completion()
            else:
                completion = await client.chat.completions.create(
                    model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}]
                )
        choice = completion.choices[0]
        assert (choice.message.content, choice.finish_reason) == (_TEXT, "tool_calls")
        assert choice.message.tool_calls
        call = choice.message.tool_calls[0]
        assert call.type == "function"
        assert (call.id, call.function.name, call.function.arguments) == ("call_1", "add", _ADD.arguments)
        assert completion.model == "gpt-4o-mini"
        usage = completion.usage
        assert usage and usage.prompt_tokens_details and usage.completion_tokens_details
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (100, 30, 130)
        assert usage.prompt_tokens_details.cached_tokens == 40
        assert usage.completion_tokens_details.reasoning_tokens == 12

    async def test_chunks_in_order(self) -> None:
        async with ProviderServer([Answer(text="one two")] * 2) as server, _openai(server) as client:
            for asked in (False, True):
                stream = await client.chat.completions.create(
                    model="gpt-4o-mini",
                    messages=[{"role": "user", "content": "hi"}],
                    stream=True,
                    stream_options={"include_usage": asked},
                )
                chunks = [chunk async for chunk in stream]
                assert chunks[0].choices[0].delta.role == "assistant"
                spoken = [chunk for chunk in chunks if chunk.choices]
                assert [chunk.choices[0].delta.content for chunk in spoken[1:-1]] == ["one", " two"]
                assert spoken[-1].choices[0].finish_reason == "stop"
                assert [bool(chunk.usage) for chunk in chunks] == [False] * 4 + [True] * asked

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_refusal(self, streamed: bool) -> None:
        async with ProviderServer([Answer(refusal="I would rather not.")]) as server, _openai(server) as client:
            messages = client.chat.completions
            if streamed:
                async with messages.stream(model="m", messages=[{"role": "user", "content": "hi"}]) as stream:
                    completion = await stream.get_final_completion()
            else:
                completion = await messages.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert completion.choices[0].message.refusal == "I would rather not."
        assert completion.choices[0].finish_reason == "stop"

    @pytest.mark.parametrize(
        ("reason", "word"),
        [
            (FinishReason.STOP, "stop"),
            (FinishReason.LENGTH, "length"),
            (FinishReason.CONTEXT_WINDOW, "length"),
            (FinishReason.CONTENT_FILTER, "content_filter"),
            (FinishReason.REFUSAL, "content_filter"),
            (FinishReason.PAUSE, "stop"),
        ],
    )
    async def test_finish_reasons(self, reason: FinishReason, word: str) -> None:
        async with ProviderServer([Answer(text="x", finish_reason=reason)]) as server, _openai(server) as client:
            completion = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert completion.choices[0].finish_reason == word

    async def test_reasoning_of_compatible_hosts(self) -> None:
        answer = Answer(text="x", reasoning="hm hm")
        async with ProviderServer([answer] * 3) as server:
            fields = [("deepseek", "reasoning_content"), ("groq", "reasoning"), ("openai", None)]
            for provider, field in fields:
                base_url = server.base_url(AIModelAPIProviderEnum(provider))
                async with AsyncOpenAI(base_url=base_url, api_key="key", max_retries=0) as client:
                    completion = await client.chat.completions.create(
                        model="m", messages=[{"role": "user", "content": "hi"}]
                    )
                extra = completion.choices[0].message.model_extra or {}
                assert extra == ({field: "hm hm"} if field else {})


class TestResponses:
    """openai ``responses``."""

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_answer(self, streamed: bool) -> None:
        async with ProviderServer([_FULL]) as server, _openai(server) as client:
            if streamed:
                async with client.responses.stream(model="gpt-6-sol", input="hi") as stream:
                    response = await stream.get_final_response()
            else:
                response = await client.responses.create(model="gpt-6-sol", input="hi")
        reasoning, message, call = response.output
        assert isinstance(reasoning, ResponseReasoningItem)
        assert (reasoning.summary[0].text, reasoning.encrypted_content) == ("Let me think.", "c2lnbmVk")
        assert isinstance(message, ResponseOutputMessage)
        assert response.output_text == _TEXT
        assert isinstance(call, ResponseFunctionToolCall)
        assert (call.call_id, call.name, call.arguments) == ("call_1", "add", _ADD.arguments)
        usage = response.usage
        assert (response.status, response.model) == ("completed", "gpt-6-sol")
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (100, 30, 130)
        assert usage.input_tokens_details.cached_tokens == 40
        assert usage.output_tokens_details.reasoning_tokens == 12

    async def test_events_in_order(self) -> None:
        script = [Answer(text="a b", reasoning="r", tool_calls=(_ADD,))]
        async with ProviderServer(script) as server, _openai(server) as client:
            stream = await client.responses.create(model="gpt-6-sol", input="hi", stream=True)
            events = [event async for event in stream]
        assert [getattr(event, "sequence_number", None) for event in events] == list(range(len(events)))
        assert [event.type.removeprefix("response.") for event in events] == [
            "created",
            "in_progress",
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            *["function_call_arguments.delta"] * 5,
            "function_call_arguments.done",
            "output_item.done",
            "completed",
        ]

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_refusal(self, streamed: bool) -> None:
        async with ProviderServer([Answer(refusal="I would rather not.")]) as server, _openai(server) as client:
            if streamed:
                async with client.responses.stream(model="gpt-6-sol", input="hi") as stream:
                    response = await stream.get_final_response()
            else:
                response = await client.responses.create(model="gpt-6-sol", input="hi")
        (message,) = response.output
        assert isinstance(message, ResponseOutputMessage)
        (part,) = message.content
        assert part.type == "refusal"
        assert part.refusal == "I would rather not."
        assert response.status == "completed"

    @pytest.mark.parametrize(
        ("reason", "status", "detail"),
        [
            (FinishReason.STOP, "completed", None),
            (FinishReason.LENGTH, "incomplete", "max_output_tokens"),
            (FinishReason.CONTENT_FILTER, "incomplete", "content_filter"),
            (FinishReason.OTHER, "incomplete", "max_messages"),
            (FinishReason.ERROR, "failed", None),
        ],
    )
    async def test_finish_reasons(self, reason: FinishReason, status: str, detail: str | None) -> None:
        answer = Answer(text="x", finish_reason=reason)
        async with ProviderServer([answer, answer]) as server, _openai(server) as client:
            response = await client.responses.create(model="gpt-6-sol", input="hi")
            stream = await client.responses.create(model="gpt-6-sol", input="hi", stream=True)
            last = [event async for event in stream][-1]
        assert response.status == status
        assert (response.incomplete_details and response.incomplete_details.reason) == detail
        assert (response.error is not None) == (status == "failed")
        assert last.type == f"response.{status}"


class TestMessages:
    """anthropic ``messages``."""

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_answer(self, streamed: bool) -> None:
        async with ProviderServer([_FULL]) as server, _anthropic(server) as client:
            if streamed:
                async with client.messages.stream(
                    model="claude-sonnet-5-5", max_tokens=99, messages=[{"role": "user", "content": "hi"}]
                ) as stream:
                    message = await stream.get_final_message()
            else:
                message = await client.messages.create(
                    model="claude-sonnet-5-5", max_tokens=99, messages=[{"role": "user", "content": "hi"}]
                )
        thinking, text, call = message.content
        assert isinstance(thinking, ThinkingBlock)
        assert (thinking.thinking, thinking.signature) == ("Let me think.", "c2lnbmVk")
        assert isinstance(text, TextBlock)
        assert text.text == _TEXT
        assert isinstance(call, ToolUseBlock)
        assert (call.id, call.name, call.input) == ("call_1", "add", {"a": 1, "b": "two words"})
        assert (message.stop_reason, message.model) == ("tool_use", "claude-sonnet-5-5")
        usage = message.usage
        assert (usage.input_tokens, usage.output_tokens) == (50, 30)
        assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (40, 10)
        assert usage.output_tokens_details is not None
        assert usage.output_tokens_details.thinking_tokens == 12

    async def test_events_in_order(self) -> None:
        async with ProviderServer([Answer(text="a b", reasoning="r")]) as server, _anthropic(server) as client:
            stream = await client.messages.create(
                model="claude-sonnet-5-5",
                max_tokens=99,
                messages=[{"role": "user", "content": "hi"}],
                stream=True,
            )
            kinds: list[str] = []
            async for event in stream:
                kinds.append(event.delta.type if event.type == "content_block_delta" else event.type)
        kinds = [kind for kind in kinds if kind != "ping"]
        block = ["content_block_start", "content_block_stop"]
        assert kinds == [
            "message_start",
            *(block[0], "thinking_delta", "signature_delta", block[1]),
            *(block[0], "text_delta", "text_delta", block[1]),
            "message_delta",
            "message_stop",
        ]

    @pytest.mark.parametrize(
        ("reason", "word"),
        [
            (FinishReason.STOP, "end_turn"),
            (FinishReason.LENGTH, "max_tokens"),
            (FinishReason.CONTEXT_WINDOW, "model_context_window_exceeded"),
            (FinishReason.CONTENT_FILTER, "refusal"),
            (FinishReason.REFUSAL, "refusal"),
            (FinishReason.PAUSE, "pause_turn"),
        ],
    )
    async def test_finish_reasons(self, reason: FinishReason, word: str) -> None:
        async with ProviderServer([Answer(text="x", finish_reason=reason)]) as server, _anthropic(server) as client:
            message = await client.messages.create(
                model="claude-sonnet-5-5", max_tokens=99, messages=[{"role": "user", "content": "hi"}]
            )
        assert message.stop_reason == word

    async def test_refusal_and_stop_sequence(self) -> None:
        script = [
            Answer(text="Well,", refusal="no.", finish_reason=FinishReason.REFUSAL),
            Answer("x", stop_sequence="#"),
        ]
        async with ProviderServer(script) as server, _anthropic(server) as client:
            async with client.messages.stream(
                model="claude-sonnet-5-5", max_tokens=99, messages=[{"role": "user", "content": "hi"}]
            ) as stream:
                refused = await stream.get_final_message()
            stopped = await client.messages.create(
                model="claude-sonnet-5-5", max_tokens=99, messages=[{"role": "user", "content": "hi"}]
            )
        assert refused.stop_reason == "refusal"
        assert refused.stop_details and refused.stop_details.explanation == "no."
        assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "#")


class TestGemini:
    """google-genai ``models``."""

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_answer(self, streamed: bool) -> None:
        async with ProviderServer([_FULL]) as server, _gemini(server).aio as client:
            if streamed:
                stream = await client.models.generate_content_stream(model="gemini-3.8-flash", contents="hi")
                chunks = [chunk async for chunk in stream]
            else:
                chunks = [await client.models.generate_content(model="gemini-3.8-flash", contents="hi")]
        parts = [part for chunk in chunks for part in chunk.parts or []]
        assert "".join(part.text or "" for part in parts if part.thought) == "Let me think."
        assert "".join(part.text or "" for part in parts if not part.thought) == _TEXT
        (call,) = [part for part in parts if part.function_call]
        assert call.thought_signature == b"signed"
        assert call.function_call is not None
        assert (call.function_call.id, call.function_call.args) == ("call_1", {"a": 1, "b": "two words"})
        last = chunks[-1]
        assert last.candidates
        assert last.candidates[0].finish_reason == types.FinishReason.STOP
        assert last.model_version == "gemini-3.8-flash"
        usage = last.usage_metadata
        assert usage is not None
        counts = (usage.prompt_token_count, usage.candidates_token_count, usage.thoughts_token_count)
        assert (*counts, usage.cached_content_token_count, usage.total_token_count) == (100, 18, 12, 40, 130)

    @pytest.mark.parametrize(
        ("reason", "word"),
        [
            (FinishReason.STOP, "STOP"),
            (FinishReason.LENGTH, "MAX_TOKENS"),
            (FinishReason.CONTENT_FILTER, "SAFETY"),
            (FinishReason.REFUSAL, "PROHIBITED_CONTENT"),
            (FinishReason.ERROR, "MALFORMED_RESPONSE"),
            (FinishReason.OTHER, "OTHER"),
        ],
    )
    async def test_finish_reasons(self, reason: FinishReason, word: str) -> None:
        async with ProviderServer([Answer(text="x", finish_reason=reason)]) as server, _gemini(server).aio as client:
            response = await client.models.generate_content(model="gemini-3.8-flash", contents="hi")
        assert response.candidates
        assert response.candidates[0].finish_reason == word

    async def test_the_sdk_goes_on_with_a_cut_answer(self) -> None:
        script = [Answer(text="Once upon ", finish_reason=FinishReason.PAUSE), Answer(text="a time.")]
        async with ProviderServer(script) as server, _gemini(server).aio as client:
            response = await client.models.generate_content(model="gemini-3.8-flash", contents="hi")
            assert [b"continuationToken" in request.body for request in server.requests] == [False, True]
        assert response.text == "Once upon a time."

    async def test_signature_after_text(self) -> None:
        async with ProviderServer([Answer(text="a b", signature="c2lnbmVk")]) as server, _gemini(server).aio as client:
            stream = await client.models.generate_content_stream(model="gemini-3.8-flash", contents="hi")
            parts = [part async for chunk in stream for part in chunk.parts or []]
        assert [part.text for part in parts] == ["a", " b", ""]
        assert [part.thought_signature for part in parts] == [None, None, b"signed"]

    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize("asked", _GEMINI_ASKED)
    async def test_what_the_client_sends(self, asked: str, streamed: bool) -> None:
        contents, config = _GEMINI_ASKED[asked]
        async with ProviderServer([Answer(text="seen")]) as server, _gemini(server).aio as client:
            if streamed:
                stream = await client.models.generate_content_stream(
                    model="gemini-3.8-flash", contents=contents, config=config
                )
                assert "".join([chunk.text or "" async for chunk in stream]) == "seen"
            else:
                response = await client.models.generate_content(
                    model="gemini-3.8-flash", contents=contents, config=config
                )
                assert response.text == "seen"
            assert [seen.status for seen in server.requests] == [200]
