"""Thinking in Anthropic Messages: which requests for it are legal, and whether returned blocks are unchanged.

A signature of this server contains its model and digests of the preceding conversation and of its thinking, so a
changed block is detected. A scripted signature is only checked to be one that the server has sent.

Follows: https://platform.claude.com/docs/en/build-with-claude/extended-thinking and the preserved-thinking page beside
it (read 2026-11-22).
"""

import base64
import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

import orjson

from dhenara_async.testing.dialects.base import (
    Arrived,
    JsonKind,
    Refusal,
    Reply,
    as_array,
    as_object,
    as_text,
    fits,
    kind_of,
    objects,
)

_BINDING_BETA = "thinking-binding-controls-2026-08-01"
_LEAST_BUDGET = 1_024
_DIGEST = 16
_THINKING = ("thinking", "redacted_thinking")
_FIELDS = {
    "adaptive": {"type", "display"},
    "enabled": {"type", "display", "budget_tokens"},
    "disabled": {"type"},
    "between_tools": {"type"},
}

Block = dict[str, object]


def generation(model: str) -> tuple[int, int]:
    """Return the generation of a Claude id; an unknown id counts as the newest."""
    found = re.search(r"claude-(?:[a-z]+-)?(\d{1,2})(?:-(\d{1,2}))?(?:-|$)", model)
    return (int(found[1]), int(found[2] or 0)) if found else (99, 0)


def always_thinks(model: str) -> bool:
    """Whether thinking cannot be turned off; then no tool can be forced either."""
    return "fable" in model or "mythos" in model


def is_bound(model: str) -> bool:
    """Whether a model accepts returned thinking only after the conversation that produced it."""
    return "fable" in model and generation(model) >= (5, 1)


# Requested thinking


def check_thinking(arrived: Arrived) -> None:
    """Check the type of thinking against the model, the budget against ``max_tokens``, and the fields of the type.

    Raises:
        Refusal: One does not fit.
    """
    thinking = as_object(arrived.body.get("thinking"))
    if "thinking" not in arrived.body:
        return
    kind = as_text(thinking.get("type"))
    if kind not in _FIELDS:
        tags = ", ".join(f"'{name}'" for name in _FIELDS)
        raise Refusal(
            f"thinking: Input tag '{kind}' found using 'type' does not match any of the expected tags: {tags}"
        )
    extra = set(thinking) - _FIELDS[kind]
    if kind == "adaptive" and _has_beta(arrived) and is_bound(as_text(arrived.body["model"])):
        extra.discard("block_binding")
    if extra:
        raise Refusal(f"thinking.{kind}.{min(extra)}: Extra inputs are not permitted")
    _check_binding(thinking.get("block_binding"))
    if thinking.get("display") not in (None, "summarized", "omitted"):
        raise Refusal(f"thinking.{kind}.display: Input should be 'summarized' or 'omitted'")
    _check_type(as_text(arrived.body["model"]), kind, as_object(arrived.body.get("output_config")).get("effort"))
    if kind == "enabled":
        _check_budget(thinking.get("budget_tokens"), arrived.body["max_tokens"])
    if kind in {"adaptive", "enabled"}:
        _check_sampling(arrived)


def _check_binding(binding: object) -> None:
    where = "thinking.adaptive.block_binding"
    if not fits(binding, (JsonKind.NULL, JsonKind.OBJECT)):
        raise Refusal(f"{where}: Input should be an object")
    for name, value in as_object(binding).items():
        if name != "prefix_mismatch_behavior":
            raise Refusal(f"{where}.{name}: Extra inputs are not permitted")
        if value not in (None, "error", "drop_block"):
            raise Refusal(f"{where}.{name}: Input should be 'error' or 'drop_block'")


def _check_type(model: str, kind: str, effort: object) -> None:
    version = generation(model)
    if kind == "enabled" and version >= (4, 7):
        raise Refusal(
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
            '"output_config.effort" to control thinking behavior.'
        )
    if kind == "adaptive" and version < (4, 6):
        raise Refusal("adaptive thinking is not supported on this model")
    if kind == "enabled" and version < (3, 7):
        raise Refusal("thinking: Extra inputs are not permitted")
    too_much = "opus" in model and version == (5, 0) and effort in ("xhigh", "max")
    if kind == "disabled" and (always_thinks(model) or too_much):
        beside = f" with effort {effort}" if too_much else ""
        raise Refusal(f'"thinking.type.disabled" is not supported for this model{beside}.')


def _check_budget(budget: object, most: object) -> None:
    if not isinstance(budget, int) or isinstance(budget, bool):
        raise Refusal(f"thinking.enabled.budget_tokens: Input should be an integer, not {kind_of(budget)}")
    if budget < _LEAST_BUDGET:
        raise Refusal(f"thinking.enabled.budget_tokens: Input should be greater than or equal to {_LEAST_BUDGET}")
    if isinstance(most, int) and budget >= most:
        raise Refusal("`max_tokens` must be greater than `thinking.budget_tokens`.")


def _check_sampling(arrived: Arrived) -> None:
    if arrived.body.get("temperature", 1) != 1:
        raise Refusal("`temperature` may only be set to 1 when thinking is enabled.")
    if "top_k" in arrived.body:
        raise Refusal("`top_k` must be unset when thinking is enabled.")


def check_continued_turn(arrived: Arrived) -> None:
    """Check that a turn to be continued starts with thinking, if thinking has a budget.

    Raises:
        Refusal: It starts with another block.
    """
    if as_object(arrived.body.get("thinking")).get("type") != "enabled":
        return
    turns = [message for _index, message in objects(arrived.body["messages"]) if message.get("role") != "system"]
    answers = [at for at, message in enumerate(turns) if message.get("role") == "assistant"]
    if not answers:
        return
    after = [block for message in turns[answers[-1] + 1 :] for block in _blocks(message)]
    if after and not any(block.get("type") == "tool_result" for block in after):
        return
    first = next((as_text(block.get("type")) for block in _blocks(turns[answers[-1]])), "")
    if first not in _THINKING:
        raise Refusal(
            f"messages.{answers[-1]}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{first}`. "
            "When `thinking` is enabled, a final `assistant` message must start with a thinking block (preceding the "
            "lastmost set of `tool_use` and `tool_result` blocks)."
        )


# Sent signatures


def signature(reply: Reply, thinking: str) -> str:
    """Return the signature of ``thinking``: the scripted one, or one that ``check_signatures`` recognises."""
    if reply.answer.signature is not None:
        return reply.answer.signature
    prefix = _digest(_serialized(reply.arrived, None))
    head = prefix + reply.conversation.model.encode()
    return base64.b64encode(_digest(head) + _digest(head + thinking.encode()) + head).decode()


# Returned thinking


class _Signed(NamedTuple):
    """The content of a signature: a digest of the preceding conversation, and one that also covers its thinking."""

    prefix: bytes
    thinking: bytes
    head: bytes


def check_signatures(arrived: Arrived) -> None:
    """Check that returned thinking is unchanged and, for strict models, in its own conversation.

    Raises:
        Refusal: The server has not sent the signature, or its thinking or its conversation was changed.
    """
    answers = [index for index, message in objects(arrived.body["messages"]) if message.get("role") == "assistant"]
    for index, message in objects(arrived.body["messages"]):
        for number, block in enumerate(_blocks(message)):
            if block.get("type") == "thinking":
                _check_signature(arrived, f"messages.{index}.content.{number}", block, latest=index == answers[-1])
    if not _drops_mismatches(arrived):
        for where in _misplaced_thinking(arrived):
            raise Refusal(
                f"{where}: Invalid `signature` in `thinking` block. The block is bound to a different conversation. "
                'Remove the block, or set thinking.block_binding.prefix_mismatch_behavior to "drop_block".'
            )


def transformations(arrived: Arrived) -> Block:
    """Return the answer's report of changes to the request, if the beta header asks for it; empty if there are none."""
    if not _has_beta(arrived) or not (dropped := list(_misplaced_thinking(arrived))):
        return {}
    reason = "prefix_binding_mismatch"
    return {
        "input_transformations": [{"type": "thinking_dropped", "path": where, "reason": reason} for where in dropped]
    }


def _misplaced_thinking(arrived: Arrived) -> Iterator[str]:
    """Find thinking that a strict model produced in another conversation."""
    if not is_bound(as_text(arrived.body["model"])):
        return
    for index, message in objects(arrived.body["messages"]):
        for number, block in enumerate(_blocks(message)):
            signed = _read(as_text(block.get("signature"))) if block.get("type") == "thinking" else None
            if signed is not None and signed.prefix != _digest(_serialized(arrived, (index, number))):
                yield f"messages.{index}.content.{number}"


def _check_signature(arrived: Arrived, where: str, block: Block, *, latest: bool) -> None:
    """Check that the server has sent the signature for exactly this thinking."""
    thinking, given = as_text(block.get("thinking")), as_text(block.get("signature"))
    signed = _read(given)
    if signed is None:
        if any(given == signature for _model, signature in arrived.issued):
            return  # a scripted signature
        raise Refusal(f"{where}: Invalid `signature` in `thinking` block")
    if signed.thinking == _digest(signed.head + thinking.encode()):
        return
    if latest:
        raise Refusal(
            f"{where}: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. "
            "These blocks must remain as they were in the original response."
        )
    raise Refusal(f"{where}: Invalid `signature` in `thinking` block")


def _read(text: str) -> _Signed | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    proof, thinking, head = raw[:_DIGEST], raw[_DIGEST : 2 * _DIGEST], raw[2 * _DIGEST :]
    # Compare the re-encoded text too: base64 allows several last characters for the same bytes.
    own = len(head) > _DIGEST and proof == _digest(head) and base64.b64encode(raw).decode() == text
    return _Signed(head[:_DIGEST], thinking, head) if own else None


def _serialized(arrived: Arrived, until: tuple[int, int] | None) -> bytes:
    """Serialise everything before a block (message, block), or everything, independent of the cut into messages."""
    preceding: list[object] = [arrived.body.get("system"), arrived.body.get("tools")]
    for index, message in objects(arrived.body.get("messages")):
        for number, block in enumerate(_blocks(message)):
            if until is not None and (index, number) >= until:
                break
            preceding.append(
                [message.get("role"), {key: value for key, value in block.items() if key != "cache_control"}]
            )
    return orjson.dumps(preceding, option=orjson.OPT_SORT_KEYS)


def _blocks(message: Block) -> Iterator[Block]:
    content = message.get("content")
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    else:
        yield from (as_object(block) for block in as_array(content))


def _has_beta(arrived: Arrived) -> bool:
    return _BINDING_BETA in arrived.headers.get("anthropic-beta", "")


def _drops_mismatches(arrived: Arrived) -> bool:
    binding = as_object(as_object(arrived.body.get("thinking")).get("block_binding"))
    return binding.get("prefix_mismatch_behavior") == "drop_block"


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST, key=b"loopback thinking").digest()
