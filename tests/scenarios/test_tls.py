"""Streams over TLS that are left: a goodbye takes a host that listens, so none is waited for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

PROGRAM = """
import asyncio, gc, socket, ssl, sys, threading
from pathlib import Path

import anyio

from dhenara_async import AIModel, AIModelAPI, AIModelAPIProviderEnum, AIModelCallConfig, AIModelClient, AIModelEndpoint

phase, certificate = sys.argv[1:]
HEAD = b"HTTP/1.1 200 OK\\r\\ncontent-type: text/event-stream\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n"
CHOICE = b'{"index":0,"delta":{"content":"One"}}'
EVENT = b'data: {"id":"1","object":"chat.completion.chunk","model":"m","choices":[%s]}\\n\\n' % CHOICE
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)
listener = socket.create_server(("127.0.0.1", 0))
asked, left, over = threading.Event(), threading.Event(), threading.Event()


def serve():
    raw, _ = listener.accept()
    with context.wrap_socket(raw, server_side=True) as connection:
        got = connection.recv(65536)
        while b'"stream"' not in got:
            got += connection.recv(65536)
        if phase == "mid-stream":
            connection.sendall(HEAD + b"%x\\r\\n%s\\r\\n" % (len(EVENT), EVENT))
        asked.set()
        left.wait()  # it does not listen meanwhile
        try:
            connection.recv(1)
        except OSError:  # a reset is an end as well
            pass
        over.set()


def sockets():
    return sum(str(one.readlink()).startswith("socket:") for one in Path("/proc/self/fd").iterdir() if one.is_symlink())


async def main():
    url = f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
    api = AIModelAPI(provider=AIModelAPIProviderEnum.OPENAI_COMPATIBLE, api_key="k", base_url=url)
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="m"))
    async with AIModelClient(endpoint, AIModelCallConfig(retries=0)) as client:
        before = sockets()

        async def read():
            async with client.stream("Hi.") as stream:
                async for _event in stream:
                    heard.set()

        heard = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.to_thread.run_sync(asked.wait)
            if phase == "mid-stream":
                await heard.wait()
            tasks.cancel_scope.cancel()
        print("sockets left beside the host's:", sockets() - before - 1)
        left.set()
        await anyio.to_thread.run_sync(over.wait)


thread = threading.Thread(target=serve)
thread.start()
asyncio.run(main())
thread.join()
listener.close()
gc.collect()
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of an authority, and of a host that it vouches for, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "host.pem"))
    return folder / "authority.pem", folder / "host.pem"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sockets are counted in /proc")
@pytest.mark.parametrize("phase", ["headers", "mid-stream"])
def test_leaving_a_stream_over_tls_closes_its_connection(phase: str, certificates: tuple[Path, Path]) -> None:
    """In a process of its own, because the authorities that are trusted are read once a process."""
    authority, host = certificates
    environment = {**os.environ, "SSL_CERT_FILE": str(authority), "NO_PROXY": "*"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, phase, str(host)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stderr, done.stdout, done.returncode) == ("", "sockets left beside the host's: 0\n", 0)
