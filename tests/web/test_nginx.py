"""The nginx of the README in front of a chat: words arrive at once, files fit, and clients that leave are noticed."""

import base64
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from subprocess import DEVNULL

import aiohttp
import anyio
import orjson
import pytest

from dhenara_async import Target
from tests.loopback import PATIENCE, chat_delta, chat_endpoint, head, serve, stalling
from tests.readme.blocks import blocks
from tests.web.protocols import ui_message_of
from tests.web.test_chat_routes import PNG, Page, chatting
from tests.web.test_real_chat_clients import TEXT
from tests.web.test_use_chat import Gate

(SERVER,) = (block.code for block in blocks("nginx"))
# Buffers are as large as nginx has them by default, and everything is compressed that may be.
AROUND = """{user} daemon off; pid {folder}/pid; error_log {folder}/errors;
events {{}}
http {{
    access_log off; gzip on; gzip_types *; gzip_proxied any;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {server}
}}
"""
ORIGIN = "http://chat.example.com:8080"


@asynccontextmanager
async def nginx(app: str, folder: Path) -> AsyncGenerator[Path]:
    """Run nginx in front of the app at a URL, and yield the socket that it listens at."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is missing: apt-get install nginx-light")
    listening, settings = folder / "nginx.sock", folder / "nginx.conf"
    server = SERVER.replace("127.0.0.1:8000", app.removeprefix("http://")).replace(
        "listen 80", f"listen unix:{listening}"
    )
    assert server.count(str(folder)) == 1
    user = "user root;" if os.getuid() == 0 else ""  # another user could not write into the folder
    settings.write_text(AROUND.format(folder=folder, server=server, user=user), encoding="utf-8")
    command = [program, "-p", str(folder), "-c", str(settings), "-e", str(folder / "errors")]
    async with await anyio.open_process(command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL) as process:
        try:
            with anyio.fail_after(PATIENCE):
                while not await _listens(listening):
                    assert process.returncode is None, (folder / "errors").read_text()
                    await anyio.sleep(0.005)
            yield listening
        finally:
            process.terminate()


async def _listens(path: Path) -> bool:
    try:
        stream = await anyio.connect_unix(path)
    except OSError:
        return False
    await stream.aclose()
    return True


async def test_the_nginx_of_the_readme_holds_nothing_back(tmp_path: Path) -> None:
    gate = Gate()
    picture = "data:image/png;base64," + base64.b64encode(PNG + bytes(2_000_000)).decode()
    async with serve(gate.play) as held, serve(stalling(head(), chat_delta(TEXT[:10]))) as stalled:
        models: dict[str, Target] = {"held": chat_endpoint(held.url), "stalled": chat_endpoint(stalled.url)}
        async with (
            chatting(more_models=models, detach=False) as chat,
            nginx(chat.page.url, tmp_path) as path,
            aiohttp.ClientSession(headers={"x-user": "ann"}, connector=aiohttp.UnixConnector(str(path))) as session,
        ):
            page = Page(ORIGIN, session)
            with anyio.fail_after(PATIENCE):
                async with session.post(f"{ORIGIN}/api/chat", json=page.say("What?", model="held")) as reply:
                    assert reply.headers["content-type"] == "text/event-stream"
                    began = await reply.content.readuntil(TEXT[:10].encode())
                    gate.open.set()
                    assert list(ui_message_of(began + await reply.content.read()).texts.values()) == [TEXT]

                async with session.post(f"{ORIGIN}/api/chat", json=page.say("What?", model="stalled")) as reply:
                    await reply.content.readuntil(TEXT[:10].encode())
                await stalled.hung_up.wait()

                part = {"type": "file", "mediaType": "image/png", "url": picture}
                asked = page.say("What is this?", model="gpt")
                page.messages[-1]["parts"] = [part, {"type": "text", "text": "What is this?"}]
                for origin, status in (("http://evil.example", 403), (ORIGIN, 200)):
                    headers, body = {"origin": origin, "content-type": "application/json"}, BytesIO(orjson.dumps(asked))
                    async with session.post(f"{ORIGIN}/api/chat", data=body, headers=headers) as reply:
                        assert reply.status == status
                        if status == 200:
                            assert ui_message_of(await reply.read()).finish
