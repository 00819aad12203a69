"""Bodies of pages and agents: approvals, ids of turns and names of files, as they are read."""

from typing import Any

import orjson
import pytest

from dhenara_async.web.inputs.agui_run import agent_run
from dhenara_async.web.inputs.fields import RefusedRequest, WebLimits
from dhenara_async.web.inputs.ui_chat import PageRequest, digest_of, page_request

LIMITS = WebLimits()


def asked(*parts: object, role: str = "user", **more: object) -> PageRequest:
    message = {"id": "m1", "role": role, "parts": parts}
    return page_request(orjson.dumps({"id": "c", "messages": [message], **more}), LIMITS)


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        ({"status": "resolved", "payload": True}, True),
        ({"status": "resolved", "payload": {"approved": True, "reason": "fine"}}, True),
        ({"status": "resolved", "payload": {"approved": "yes"}}, False),
        ({"status": "resolved", "payload": {"approved": False, "reason": "too dear"}}, "too dear"),
        ({"status": "resolved", "payload": {}}, False),
        ({"status": "resolved", "payload": False}, False),
        ({"status": "resolved", "payload": None}, False),
        ({"status": "resolved"}, False),
        ({"status": "cancelled", "payload": True}, False),
    ],
)
def test_an_agent_approves_only_in_so_many_words(answer: dict[str, object], decision: bool | str) -> None:
    body: dict[str, object] = {"threadId": "t", "runId": "r", "messages": []}
    run = agent_run(orjson.dumps({**body, "resume": [{"interruptId": "c1", **answer}]}), LIMITS)
    assert run.decisions == {"c1": decision}


@pytest.mark.parametrize(
    ("approval", "decision"),
    [
        ({"id": "c1", "approved": True, "reason": "fine"}, True),
        ({"id": "c1", "approved": False, "reason": "too dear"}, "too dear"),
        ({"id": "c1", "approved": False, "reason": ""}, False),
        ({"id": "c1", "approved": False}, False),
    ],
)
def test_a_page_denies_with_its_reason(approval: dict[str, object], decision: bool | str) -> None:
    part = {"type": "dynamic-tool", "toolCallId": "c1", "state": "approval-responded", "approval": approval}
    assert asked(part, role="assistant").decisions == {"c1": decision}


def test_an_approval_that_is_neither_yes_nor_no_is_refused() -> None:
    part: dict[str, Any] = {"type": "dynamic-tool", "toolCallId": "c1", "state": "approval-responded"}
    with pytest.raises(RefusedRequest, match="neither true nor false"):
        asked({**part, "approval": {"id": "c1", "approved": "yes"}}, role="assistant")


def test_a_question_that_is_sent_again_is_one_turn_and_an_edited_one_is_another() -> None:
    one, other = ({"type": "text", "text": text} for text in ("One?", "Other?"))
    assert asked(one).turn_id == asked(one).turn_id != asked(other).turn_id
    assert asked(one, messageId="m1").turn_id is None
    given = asked(one, messageId="m1", turnId="t").turn_id
    assert given is not None
    assert given == asked(other, turnId="t").turn_id
    assert digest_of("ab", "c") != digest_of("a", "bc")


def test_the_name_of_a_file_is_bounded() -> None:
    file = {"type": "file", "url": "data:text/plain;base64,SGk=", "mediaType": "text/plain", "filename": "n" * 300}
    (part,) = asked(file).files
    assert part.filename == "n" * 200
