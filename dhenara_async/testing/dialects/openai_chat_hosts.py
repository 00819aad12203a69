"""Checks of compatible hosts: requests that OpenAI accepts and the host refuses, with the host's error.

Follows: the hosts' error messages as users have reported them, and the types of their SDKs (read 2026-11-22).
"""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise

from dhenara_async.testing.dialects.base import Arrived, Refusal, as_object, as_text, objects


def _mistral(arrived: Arrived) -> None:
    """Check Mistral: call ids of nine characters, no user after a tool, no empty or final assistant message."""
    messages = [message for _index, message in objects(arrived.body["messages"])]
    for message in messages:
        ids = [call.get("id") for _number, call in objects(message.get("tool_calls"))]
        for call_id in (*ids, *([message.get("tool_call_id")] if message["role"] == "tool" else [])):
            if not re.fullmatch(r"[a-zA-Z0-9]{9}", as_text(call_id)):
                raise Refusal(
                    f"Tool call id was {call_id} but must be a-z, A-Z, 0-9, with a length of 9.",
                    type="invalid_function_call",
                    code="3280",
                )
        if message["role"] == "assistant" and not (message.get("content") or message.get("tool_calls")):
            raise Refusal("Assistant message must have either content or tool_calls, but not none.", code="3240")
    for before, message in pairwise(messages):
        if before["role"] == "tool" and message["role"] not in {"tool", "assistant"}:
            raise Refusal(f"Unexpected role '{message['role']}' after role 'tool'", code="3230")
    if messages[-1]["role"] not in {"user", "tool"} and messages[-1].get("prefix") is not True:
        raise Refusal(
            "Expected last role User or Tool (or Assistant with prefix True) for serving but got "
            f"{messages[-1]['role']}",
            code="3230",
        )


def _groq(arrived: Arrived) -> None:
    for name in ("logprobs", "top_logprobs", "logit_bias"):
        if arrived.body.get(name) is not None:
            raise Refusal(f"property '{name}' is unsupported")
    for index, message in objects(arrived.body["messages"]):
        if message["role"] == "assistant" and "reasoning_content" in message:
            where = f"'messages.{index}'"
            raise Refusal(
                f"{where} : for 'role:assistant' the following must be satisfied[({where} : property "
                "'reasoning_content' is unsupported)]"
            )


_CEREBRAS_MESSAGE = frozenset({"role", "content", "name", "reasoning", "tool_calls", "tool_call_id"})
_CEREBRAS_UNKNOWN = frozenset(
    {
        *("chat_template_kwargs", "include_reasoning", "metadata", "min_p", "models", "plugins", "preset"),
        *("prompt_mode", "provider", "random_seed", "reasoning", "repetition_penalty", "safe_prompt"),
        *("safety_identifier", "store", "thinking", "top_k", "transforms", "usage", "web_search_options"),
    }
)


def _cerebras(arrived: Arrived) -> None:
    """Check Cerebras: it refuses unknown fields."""
    for name in sorted(_CEREBRAS_UNKNOWN & arrived.body.keys()):
        raise Refusal(f"body.{name}: property 'body.{name}' is unsupported", code="wrong_api_format", param=name)
    for index, message in objects(arrived.body["messages"]):
        for name in sorted(message.keys() - _CEREBRAS_MESSAGE):
            where = f"messages.{index}.{message['role']}.{name}"
            raise Refusal(f"{where}: property '{where}' is unsupported", code="wrong_api_format", param=where)


def _deepseek(arrived: Arrived) -> None:
    """Check DeepSeek while it thinks: returned calls have their reasoning, and no call can be forced."""
    model = as_text(arrived.body["model"])
    off = as_object(arrived.body.get("thinking")).get("type") == "disabled"
    if off or model.startswith(("deepseek-chat", "deepseek-coder")):
        return
    if arrived.body.get("tool_choice") not in (None, "auto", "none"):
        raise Refusal("Thinking mode does not support this tool_choice")
    for _index, message in objects(arrived.body["messages"]):
        if message.get("tool_calls") and not isinstance(message.get("reasoning_content"), str):
            raise Refusal("The `reasoning_content` in the thinking mode must be passed back to the API.")


def _xai(arrived: Arrived) -> None:
    model = as_text(arrived.body["model"])
    if re.match(r"grok-(3-mini|[4-9]|build|code)", model) and "non-reasoning" not in model:
        for name in ("presence_penalty", "frequency_penalty", "stop"):
            if arrived.body.get(name) is not None:
                raise Refusal(f"Model {model} does not support parameter {name}.")


def _openrouter(arrived: Arrived) -> None:
    """Check OpenRouter: encrypted reasoning is valid only for its own model."""
    for _index, message in objects(arrived.body["messages"]):
        for _number, detail in objects(message.get("reasoning_details")):
            sealed = detail.get("signature") or detail.get("data")
            if sealed and (as_text(arrived.body["model"]), sealed) not in arrived.issued:
                raise Refusal("encrypted reasoning was produced under a different model")


def _template(arrived: Arrived) -> None:
    """Check a chat template with one leading system message and alternating roles."""
    status = 500 if arrived.provider == "llama_cpp" else 400
    speakers: list[str] = []
    before = ""
    for index, message in objects(arrived.body["messages"]):
        role = as_text(message["role"])
        if role in {"system", "developer"}:
            if index:
                raise Refusal("System message must be at the beginning.", status=status)
        elif before != "tool" or role == "assistant":
            speakers.append("user" if role == "tool" else role)
        before = role
    if any(role != ("user", "assistant")[at % 2] for at, role in enumerate(speakers)):
        raise Refusal("ParsedConversation roles must alternate user/assistant/user/assistant/...", status=status)


_HOSTS: Mapping[str, Callable[[Arrived], None]] = {
    "mistral": _mistral,
    "groq": _groq,
    "cerebras": _cerebras,
    "deepseek": _deepseek,
    "xai": _xai,
    "openrouter": _openrouter,
    "vllm": _template,
    "lm_studio": _template,
    "llama_cpp": _template,
}


def check_host(arrived: Arrived) -> None:
    """Apply the checks of the path's host.

    Raises:
        Refusal: The host refuses the request.
    """
    check = _HOSTS.get(arrived.provider)
    if check is not None:
        check(arrived)
    if arrived.provider in {"groq", "cerebras"} and arrived.body.get("n") not in (None, 1):
        raise Refusal("'n' : number must be at most 1")
