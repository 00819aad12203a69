"""``dhenara-async serve`` as a process: without keys, on a free port, with a token, and its end."""

import asyncio
import signal
import socket
import sqlite3
import sys
from pathlib import Path
from uuid import uuid4
from zipfile import ZipFile

import aiohttp
import anyio
import pytest
from yarl import URL

from dhenara_async.cli.serve import _address, _without_password  # pyright: ignore[reportPrivateUsage]
from tests.browser import Browsing
from tests.commands import GUARD_SECONDS, ROOT, WITH_CTRL_C, environment_of, finish, read_until, run, start
from tests.web.playground.person import Person
from tests.web.playground.visits import Visit

EVERYWHERE = "0.0.0.0"  # noqa: S104 - behind a token, which is what is tested
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")


async def installed(folder: Path) -> Path:
    """Build the wheel and unpack it, as an installation does; return the folder to import from."""
    build = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    await anyio.run_process(build, cwd=ROOT)
    package = folder / "installed"
    with ZipFile(next(folder.glob("*.whl"))) as packed:  # noqa: ASYNC240 - nothing else runs meanwhile
        packed.extractall(package)
    return package


async def test_from_its_wheel_and_without_keys_it_serves_page_and_openai_front_with_stand_ins(tmp_path: Path) -> None:
    package = await installed(tmp_path)
    code = f"import dhenara_async; assert 'installed' in dhenara_async.__file__; {WITH_CTRL_C}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", code, "serve", "--port", "0", "--delay", "0"),
        cwd=tmp_path,
        env=environment_of({"DHENARA_ASYNC_HOME": str(tmp_path), "PYTHONPATH": str(package)}),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        told = (await read_until(process, b"Ctrl-C")).decode()
        assert "Stand-in servers on this computer answer, not models." in told
        assert str(tmp_path / "conversations.db") in told
        url = told.partition("The page: ")[2].split()[0]
        async with aiohttp.ClientSession() as session:
            page = Visit(url, session, uuid4().hex)
            models = await page.get("api/models")
            assert (models["demo"], models["tools"]) == (True, ["weather"])
            names = [model["id"] for model in models["models"]]
            assert len(names) == 4
            assert models["models"][3]["kind"] == "plan"
            [turn] = await page.ask("Tell a story.", names[0])
            assert turn["status"] == "complete"
            [turn] = await page.ask("What is the weather?", names[1], parent=turn["id"])
            [call] = turn["waiting"]["calls"]
            [begun] = await page.begin(kind="resume", nodeId=turn["id"], decisions={call["key"]: True})
            [last] = [frame["end"] for frame in await page.frames(begun["turnId"]) if "end" in frame]
            assert last["toolResults"][0]["text"].startswith("It rains in Bergen")
            async with session.get(url) as reply:
                assert "trusted-types dompurify" in reply.headers["content-security-policy"]
                assert reply.status == 200
            files = package / "dhenara_async" / "web" / "playground" / "page"
            for path in files.rglob("*.*js"):
                async with session.get(f"{url}assets/{path.relative_to(files).as_posix()}") as reply:
                    assert await reply.read() == path.read_bytes()
            body = {"model": names[1], "messages": [{"role": "user", "content": "Hello"}]}
            headers = {"authorization": "Bearer any"}
            async with session.post(f"{url}v1/chat/completions", json=body, headers=headers) as reply:
                assert (await reply.json())["choices"][0]["message"]["content"]
    finally:
        process.send_signal(signal.SIGINT)
        out, err = await finish(process)
    assert (process.returncode, "Stopped." in out) == (0, True), err
    assert (tmp_path / "conversations.db").stat().st_mode & 0o077 == 0


async def test_on_another_address_it_prints_a_token_and_an_answer_is_cut_at_the_end(tmp_path: Path) -> None:
    store = tmp_path / "kept.db"
    options = ("--host", EVERYWHERE, "--port", "0", "--delay", "0.5", "--grace", "0.3", "--store", str(store))
    process = await start("serve", *options, environment={"DHENARA_ASYNC_HOME": str(tmp_path)})
    try:
        told = (await read_until(process, b"Ctrl-C")).decode()
        address = told.partition("The page: ")[2].split()[0]
        url, _, token = address.partition("?token=")
        assert len(token) > 20
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            async with session.get(f"{url}api/models") as reply:
                assert reply.status == 401
            async with session.get(address) as reply:
                assert reply.status == 200
            page = Visit(url, session, uuid4().hex)
            model = (await page.get("api/models"))["models"][0]["id"]
            [turn] = await page.begin(model, kind="ask", question="Tell a long story.")
            async with session.get(f"{url}api/events", params={"turns": turn["turnId"]}) as reply:
                await reply.content.readuntil(b"_delta")
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(GUARD_SECONDS):
                    rest = await reply.read()
                assert b'"status":"interrupted"' in rest
    except BaseException:
        process.kill()
        raise
    out, err = await finish(process)
    assert (process.returncode, "Stopped." in out, "Stopping" in err) == (0, True, True), err
    assert "Traceback" not in err
    with sqlite3.connect(store) as database:
        [(body,)] = database.execute("select body from nodes").fetchall()
    database.close()
    assert b'"interrupted"' in (body if isinstance(body, bytes) else body.encode())


@pytest.mark.asyncio(loop_scope="session")
async def test_a_browser_is_let_in_by_the_printed_address_and_complains_of_nothing(
    tmp_path: Path, browsing: Browsing
) -> None:
    options = ("--port", "0", "--loopback", "--delay", "0", "--token", "a-long-token-of-mine")
    process = await start("serve", *options, environment={"DHENARA_ASYNC_HOME": str(tmp_path)})
    try:
        told = (await read_until(process, b"Ctrl-C")).decode()
        person = await Person.at(told.partition("The page: ")[2].split()[0], browsing)
        assert "token" not in person.page.url
        await person.asked("Tell a story.")
        await person.page.reload()
        await person.page.get_by_text("Here is answer number 1.").wait_for()
        assert browsing.problems == []
        await person.page.close()
    finally:
        process.send_signal(signal.SIGINT)
        await finish(process)
    assert process.returncode == 0


def test_a_token_is_readable_in_the_address_that_is_printed() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = URL(_address("127.0.0.1", listening, "a+b&c=d#e%f/g"))
    assert address.query["token"] == "a+b&c=d#e%f/g"


def test_the_password_of_a_database_is_not_shown() -> None:
    shown = _without_password("postgresql://ann:SECRET@db.example/talk?password=SECRET")
    assert shown == "postgresql://db.example/talk"
    assert _without_password("/home/ann@work/talk.db") == "/home/ann@work/talk.db"


def test_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("serve", "--port", str(taken.getsockname()[1]), environment={"DHENARA_ASYNC_HOME": str(tmp_path)})
    assert done.returncode == 2
    assert "--port 0" in done.stderr
    for options, word in (
        (("--token", "short"), "token"),
        (("--model", "nonsense"), "nonsense"),
        (("--loopback", "--tool", "nonsense"), "MODULE:FUNCTION"),
        (("--model", "openai:gpt-6-luna"), "there is no key for openai"),
        (("--model", "gpt-none"), "has no gpt-none"),
        (("--host", "192.0.2.1", "--loopback"), "192.0.2.1 is no address of this computer"),
        (("--allow-host", "http://box/", "--loopback"), "'http://box/' is no name of a host"),
    ):
        done = run("serve", "--port", "0", *options, environment={"DHENARA_ASYNC_HOME": str(tmp_path)})
        assert done.returncode == 2, options
        assert word in done.stderr


def test_without_its_extra_it_says_which_one(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['uvicorn'] = None; sys.argv = ['dhenara-async', 'serve', '--port', '0']; "
        "from dhenara_async.__main__ import main; main()"
    )
    done = run(code=code, environment={"DHENARA_ASYNC_HOME": str(tmp_path)})
    assert done.returncode == 2
    assert "pip install 'dhenara-async[serve]'" in done.stderr
