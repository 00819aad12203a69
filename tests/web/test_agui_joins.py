"""Clients of AG-UI that join a run late: what they see before the first event, and the files of questions."""

import base64
from typing import Any

import anyio

from dhenara_async import Target
from tests.loopback import PATIENCE, Connection, chat_endpoint, chat_stream, head, serve
from tests.web.protocols import events_of
from tests.web.test_chat_routes import PNG, chatting

PICTURE = {
    "type": "image",
    "source": {"type": "data", "value": base64.b64encode(PNG).decode(), "mimeType": "image/png"},
}


def question(name: str, content: object) -> dict[str, object]:
    return {"id": name, "role": "user", "content": content}


async def test_a_late_client_sees_questions_and_their_files_before_the_answer_begins() -> None:
    asked, begins = anyio.Event(), anyio.Event()

    async def play(connection: Connection) -> None:
        while (request := await connection.request()) is not None:
            if b"Two?" in request.body:
                asked.set()
                await begins.wait()
            await connection.send(head(), *chat_stream("A fox."))

    rest: Any = []
    async with serve(play) as held:
        models: dict[str, Target] = {"held": chat_endpoint(held.url)}
        async with chatting(more_models=models) as chat:
            page = chat.page
            text: dict[str, object] = {"type": "text", "text": "One?"}
            first = question("q1", [PICTURE, text])
            run: dict[str, Any] = {"threadId": "t", "forwardedProps": {"model": "held"}}
            await page.send("POST", "ag-ui", {**run, "runId": "r1", "messages": [first]})
            _, history = await page.get("chat/t")
            answer = {"id": history["messages"][-1]["id"], "role": "assistant", "content": "A fox."}
            second = question("q2", "Two?")
            messages = [first, answer, second]
            with anyio.fail_after(PATIENCE):
                async with page.session.post(
                    f"{page.url}/api/ag-ui", json={**run, "runId": "r2", "messages": messages}
                ):
                    await asked.wait()
                    joining = f"{page.url}/api/ag-ui/t/stream"
                    for sent in ([], messages):
                        seen = b""
                        async with page.session.post(joining, json={**run, "messages": sent}) as reply:
                            while b"MESSAGES_SNAPSHOT" not in seen or not seen.endswith(b"\n\n"):
                                seen += await reply.content.readany()
                            begun: Any = events_of(seen)
                            if sent:
                                begins.set()
                                rest = events_of(await reply.read())
                        shown = begun[1]["messages"]
                        assert [each["type"] for each in begun] == ["RUN_STARTED", "MESSAGES_SNAPSHOT"]
                        assert [each["content"] for each in shown] == [[PICTURE, text], "A fox.", "Two?"]
                    assert [each["id"] for each in shown] == ["q1", answer["id"], "q2"]
    kinds = [each["type"] for each in rest]
    assert (kinds[0], kinds[-1], "MESSAGES_SNAPSHOT" in kinds) == ("TEXT_MESSAGE_START", "RUN_FINISHED", False)
    assert "".join(each.get("delta", "") for each in rest) == "A fox."
