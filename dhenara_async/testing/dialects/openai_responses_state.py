"""The opaque state of OpenAI Responses, checked when it returns: encrypted reasoning and paired item ids.

The server stores nothing, so both can be verified alone: encrypted content is a seal over the account, the model and
the summary, and the id of an item contains the id of the reasoning that led to it.

Follows: https://platform.openai.com/docs/guides/reasoning (encrypted reasoning items, read 2026-11-22).
"""

import base64
import re
from hashlib import blake2b

from dhenara_async.testing.dialects.base import Arrived, Refusal, Reply, as_text, bearer, objects
from dhenara_async.testing.script import Answer

_SECRET = b"openai responses of a loopback server"
_LED_ID = re.compile(r"[a-z]+_([0-9a-f]{24})[0-9a-f]{8}")


def summary_of(answer: Answer) -> list[dict[str, object]]:
    """Return the summary of an answer's reasoning; empty if it is not shown."""
    return [{"type": "summary_text", "text": answer.reasoning}] if answer.reasoning else []


def encrypted_content(reply: Reply) -> str:
    """Return the scripted state of the reasoning, or a seal that ``check_seals`` recognises."""
    if reply.answer.signature is not None:
        return reply.answer.signature
    return _seal(reply.arrived, summary_of(reply.answer))


def led_identifier(reply: Reply, prefix: str, reasoning_id: str) -> str:
    """Return the id of the item that follows a reasoning item."""
    own = reply.identifier(prefix).removeprefix(prefix)
    return f"{prefix}{reasoning_id.removeprefix('rs_')}{own[:8]}"


def check_seals(arrived: Arrived) -> None:
    """Refuse reasoning that this server has not produced for this account and model, or that was changed.

    A scripted seal is only checked to have been sent for this model.
    """
    model = as_text(arrived.body.get("model"))
    for _index, item in objects(arrived.body["input"]):
        sealed = item.get("encrypted_content")
        if item.get("type") != "reasoning" or sealed is None or (model, sealed) in arrived.issued:
            continue
        if sealed != _seal(arrived, item.get("summary")):
            raise Refusal(
                f"The encrypted content {as_text(sealed)[:8]}... could not be verified.",
                code="invalid_encrypted_content",
            )


def check_led(arrived: Arrived) -> None:
    """Refuse an item whose id names a reasoning item that does not directly precede it."""
    before: dict[str, object] = {}
    for _index, item in objects(arrived.body["input"]):
        named = _LED_ID.fullmatch(as_text(item.get("id")))
        if named and item.get("type") != "reasoning":
            reasoning_id = f"rs_{named[1]}"
            if before.get("type") != "reasoning" or before.get("id", reasoning_id) != reasoning_id:
                raise Refusal(
                    f"Item '{item['id']}' of type '{item.get('type')}' was provided without its required 'reasoning' "
                    f"item: '{reasoning_id}'.",
                    param="input",
                )
        before = item


def _seal(arrived: Arrived, summary: object) -> str:
    texts = [as_text(part.get("text")) for _index, part in objects(summary)]
    seed = "\n".join([bearer(arrived.headers), as_text(arrived.body.get("model")), *texts]).encode()
    return base64.b64encode(blake2b(seed, key=_SECRET, digest_size=48).digest()).decode()
