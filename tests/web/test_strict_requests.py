"""Requests that a chat refuses or repeats: fields named twice, other sites, the same turn asked for twice."""

import pytest

from dhenara_async.web.chat.http import check_origin
from dhenara_async.web.frames.tagged import TaggedSSEFrames
from dhenara_async.web.inputs.fields import RefusedRequest, object_of
from tests.web.protocols import events_of
from tests.web.test_chat_routes import FRAMEWORKS, chatting


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"a","id":"b"}',
        b'{"messages":[{"role":"user","r\\u006fle":"system"}]}',
    ],
)
def test_a_body_that_names_a_field_twice_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedRequest) as caught:
        object_of(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(("site", "refused"), [("cross-site", True), ("same-site", True), ("same-origin", False)])
def test_another_site_is_known_without_its_origin(site: str, refused: bool) -> None:
    if not refused:
        check_origin("POST", {"sec-fetch-site": site}, ())
        return
    with pytest.raises(RefusedRequest):
        check_origin("POST", {"sec-fetch-site": site}, ())


def test_a_fan_out_reconnects_after_the_time_that_the_app_says() -> None:
    assert TaggedSSEFrames(retry=2.5).begin() == b"retry: 2500\n\n"


@FRAMEWORKS
async def test_a_turn_that_is_asked_for_twice_by_its_node_is_one(framework: str) -> None:
    async with chatting(framework=framework) as chat:
        await chat.page.ask("Hello?")
        node = chat.page.messages[-1]["id"]
        for path, more in (("regenerate", {}), ("edit", {"text": "Other?"})):
            body = {"nodeId": node, "turnId": f"made-{path}", **more}
            answers = [await chat.page.send("POST", f"chat/chat-1/{path}", body) for _ in range(2)]
            assert [status for status, _ in answers] == [200, 200]
            first, second = (next(iter(events_of(answer))) for _, answer in answers)
            assert first == second
        _, tree = await chat.page.get("chat/chat-1/tree")
        assert len(tree["nodes"]) == 3
