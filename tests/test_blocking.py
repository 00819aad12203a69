"""The blocking face: no event loop in sight, nothing left running, and a clear word where it cannot work."""

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from dhenara_async import AIModelCallConfig, AIModelClient, Dialect, Router, StreamEnd, StreamEvent, TextDelta
from dhenara_async.calls.blocking import BlockingClient
from dhenara_async.errors import AuthenticationError, DeadlineError, ReadError, StreamStateError
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.testing.grammar import check_grammar
from tests.loopback import (
    PATIENCE,
    Play,
    Server,
    chat_body,
    chat_delta,
    chat_endpoint,
    chat_stream,
    chunk,
    chunked,
    endpoint_at,
    head,
    once,
    replies,
    serve,
    stalling,
    whole,
)

_ROOT = Path(__file__).parent.parent
WORDS = ("One", " two", " three.")
TEXT = "".join(WORDS)


class Elsewhere:
    """A loopback server in a thread of its own, as a script sees one."""

    def __init__(self, play: Play) -> None:
        self._play = play

    def __enter__(self) -> "Elsewhere":
        self._portal_manager = start_blocking_portal()
        self._portal = self._portal_manager.__enter__()
        self._server_manager = self._portal.wrap_async_context_manager(serve(self._play))
        self.seen: Server = self._server_manager.__enter__()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._server_manager.__exit__(None, None, None)
        self._portal_manager.__exit__(None, None, None)

    def client(self, config: AIModelCallConfig | None = None) -> BlockingClient:
        return AIModelClient(chat_endpoint(self.seen.url), config, is_async=False)

    def wait_connected(self, number: int) -> None:
        self._portal.call(self.seen.wait_connected, number)

    def wait_asked(self) -> None:
        self._portal.call(self.seen.asked.wait)

    def wait_hung_up(self) -> None:
        self._portal.call(self.seen.wait_hung_up)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
    assert not set(threading.enumerate()) - before  # threads of other tests may end meanwhile
    gc.collect()  # whoever forgot to close something is told within the test


@pytest.fixture
def provider() -> Iterator[ProviderServer]:
    answer = Answer(text=TEXT, pieces=WORDS)
    with start_blocking_portal() as portal:
        server = ProviderServer([answer] * 10, api_key="key")
        with portal.wrap_async_context_manager(server):
            yield server


@pytest.mark.parametrize("streaming", [False, True])
def test_generate(provider: ProviderServer, streaming: bool) -> None:
    endpoint = endpoint_at(provider, Dialect.ANTHROPIC_MESSAGES)
    client = AIModelClient(endpoint, AIModelCallConfig(streaming=streaming), is_async=False)
    threads = threading.active_count()
    response = client.generate("Count.", context=["Hello."], instructions=["Be brief."])
    assert response.text() == TEXT
    assert threading.active_count() <= threads
    assert client.model_endpoint is endpoint
    assert repr(client) == "BlockingAIModelClient(anthropic, claude-opus-5-5)"


def test_stream(provider: ProviderServer) -> None:
    client = AIModelClient(endpoint_at(provider, Dialect.OPENAI_RESPONSES), is_async=False)
    events: list[StreamEvent] = []
    with client.stream("Count.") as stream:
        with pytest.raises(StreamStateError, match="not complete"):
            _ = stream.response
        for event in stream:
            events.append(event)
        assert list(stream) == []
    check_grammar(events)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == TEXT
    assert stream.response.text() == stream.partial.text() == TEXT


def test_a_block_keeps_one_connection() -> None:
    with Elsewhere(replies(chunked(*chat_stream(*WORDS)))) as server:
        with server.client() as client:
            threads = threading.active_count()
            for _ in range(5):
                assert client.generate("Count.").text() == TEXT
                with client.stream("Count.") as stream:
                    assert sum(isinstance(event, StreamEnd) for event in stream) == 1
            assert (server.seen.connections, len(server.seen.requests)) == (1, 10)
            assert threading.active_count() <= threads
        server.wait_hung_up()


def test_a_connection_that_is_ready_before_the_first_call() -> None:
    with Elsewhere(replies(whole(chat_body(TEXT)))) as server:
        with server.client() as client:
            client.warm_up()
            server.wait_connected(1)
            assert server.seen.requests == []
            assert client.generate("Count.").text() == TEXT
            assert (server.seen.connections, len(server.seen.requests)) == (1, 1)
        server.wait_hung_up()
        server.client().warm_up()  # each of its calls opens and closes its own
        assert server.client().generate("Count.").text() == TEXT
        assert server.seen.connections == 2


def test_outside_a_block_each_call_closes_its_own() -> None:
    with Elsewhere(replies(whole(chat_body(TEXT)))) as server:
        client = server.client()
        for number in range(1, 4):
            assert client.generate("Count.").text() == TEXT
            server.wait_hung_up()
            assert server.seen.connections == number


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("failing", [False, True])
def test_leaving_early_hangs_up(kept: bool, failing: bool) -> None:
    with Elsewhere(stalling(head(), chat_delta("One"))) as server:
        client = server.client()
        if kept:
            client.__enter__()
        stream = client.stream("Count.")
        try:
            with stream:
                for event in stream:
                    if isinstance(event, TextDelta):
                        if failing:
                            raise KeyError("the reader's own")
                        break
        except KeyError:
            assert failing
        server.wait_hung_up()
        if kept:
            client.__exit__(None, None, None)
        assert stream.partial.text() == "One"
        with pytest.raises(StreamStateError):
            _ = stream.response
        with pytest.raises(StreamStateError, match="inside its block"):
            list(stream)


def test_failures_are_the_same() -> None:
    broken = [head(transfer_encoding="chunked"), chunk(chat_delta("One")), b"99\r\ndata"]
    with Elsewhere(once(*broken)) as server, server.client().stream("Count.") as stream:
        events: list[StreamEvent] = []
        with pytest.raises(ReadError):
            for event in stream:
                events.append(event)
        check_grammar(events, complete=False)
        assert stream.partial.text() == "One"


def test_deadlines_are_the_same() -> None:
    config = AIModelCallConfig.model_validate({"timeouts": {"first_byte": 0.05}, "retries": {"attempts": 1}})
    with Elsewhere(stalling()) as server, pytest.raises(DeadlineError) as caught:
        server.client(config).generate("Count.")
    assert caught.value.limit == "first_byte"


def test_refusals_are_the_same(provider: ProviderServer) -> None:
    endpoint = endpoint_at(provider, Dialect.GEMINI)
    wrong = endpoint.api.model_validate({**endpoint.api.model_dump(), "api_key": "the wrong key"})
    with pytest.raises(AuthenticationError):
        AIModelClient(endpoint.model_copy(update={"api": wrong}), is_async=False).generate("Hi.")


def test_states(provider: ProviderServer) -> None:
    client = AIModelClient(endpoint_at(provider, Dialect.OPENAI_CHAT), is_async=False)
    stream = client.stream("Count.")
    with pytest.raises(StreamStateError, match="inside its block"):
        list(stream)
    with stream:
        with pytest.raises(StreamStateError, match="entered once"):
            stream.__enter__()
        assert list(stream)
    with client, pytest.raises(StreamStateError, match="already in a block"):
        client.__enter__()
    assert client.generate("Count.").text() == TEXT


async def test_a_running_loop_waits_as_in_a_notebook() -> None:
    with Elsewhere(replies(chunked(*chat_stream(*WORDS)))) as server:
        client = server.client()
        assert client.generate("Count.").text() == TEXT
        with client, client.stream("Count.") as stream:
            client.warm_up()
            assert sum(isinstance(event, StreamEnd) for event in stream) == 1
        assert stream.response.text() == TEXT


def test_refused_where_it_would_wait_for_itself() -> None:
    said: list[StreamStateError] = []

    def choose(_messages: object, _config: object) -> str:
        try:
            client.generate("Which one?")
        except StreamStateError as exc:
            said.append(exc)
        return "only"

    with Elsewhere(replies(whole(chat_body(TEXT)))) as server:
        router = Router(choose, {"only": chat_endpoint(server.seen.url)})
        client = AIModelClient(router, is_async=False)
        with client:
            assert client.generate("Count.").text() == TEXT
    assert "waiting for itself" in str(said[0])


# ------------------------------------------------------------------------------------------------ interrupted and left


def test_leaving_the_block_ends_what_other_threads_wait_for() -> None:
    with Elsewhere(stalling(head(), chat_delta("One"))) as server:
        met: list[tuple[str, BaseException]] = []
        texts: list[str] = []
        begun = threading.Barrier(3)

        def generate(client: BlockingClient) -> None:
            begun.wait(PATIENCE)
            with pytest.raises(StreamStateError) as caught:
                client.generate("Count.")
            met.append(("generate", caught.value))

        def stream(client: BlockingClient) -> None:
            with pytest.raises(StreamStateError) as caught, client.stream("Count.") as stream:
                for event in stream:
                    if isinstance(event, TextDelta):
                        begun.wait(PATIENCE)
            texts.append(stream.partial.text())
            met.append(("stream", caught.value))

        with server.client() as client:
            threads = [threading.Thread(target=target, args=(client,)) for target in (generate, stream)]
            for thread in threads:
                thread.start()
            begun.wait(PATIENCE)
            server.wait_connected(2)
        for thread in threads:
            thread.join(PATIENCE)
        assert sorted(name for name, _ in met) == ["generate", "stream"]
        assert texts == ["One"]
        assert not any(exc.retryable for _, exc in met if isinstance(exc, StreamStateError))
        server.wait_hung_up()
        assert server.seen.connections == 2


def test_a_stream_that_is_left_at_once() -> None:
    with Elsewhere(stalling(head(), chat_delta("One"))) as server:
        with server.client() as client:
            with client.stream("Count."):
                pass
            with client.stream("Count.") as stream:
                next(iter(stream))
            left = client.stream("Count.").__enter__()
            next(iter(left))
        server.wait_hung_up()
        left.__exit__(None, None, None)
        with pytest.raises(StreamStateError, match="inside its block"):
            next(iter(left))


_INTERRUPTED = """
import signal, sys, threading
from dhenara_async import AIModelClient
from tests.loopback import chat_delta, head, stalling
from tests.test_blocking import Elsewhere

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with it ignored
what = sys.argv[1]
pieces = [] if what == "generate" else [head(), chat_delta("One")]
with Elsewhere(stalling(*pieces)) as server:

    def interrupt():
        server.wait_asked() if what != "stream" else heard.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    heard = threading.Event()
    threading.Thread(target=interrupt, daemon=True).start()
    with server.client() as client:
        try:
            if what == "generate":
                client.generate("Count.")
            elif what == "outside":
                server.client().generate("Count.")
            else:
                with client.stream("Count.") as stream:
                    try:
                        for event in stream:
                            print(event.type)
                            heard.set() if event.type == "text_delta" else None
                    except KeyboardInterrupt:
                        print("interrupted within", stream.partial.text())
                        raise
        except KeyboardInterrupt:
            print("interrupted")
        server.wait_hung_up()  # although the block is still open
        print("hung up")
    print("left", len(server.seen.requests), threading.active_count())
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("generate", ["interrupted", "hung up"]),
        ("outside", ["interrupted", "hung up"]),
        ("stream", ["stream_start", "part_start", "text_delta", "interrupted within One", "interrupted", "hung up"]),
    ],
)
def test_a_call_that_is_interrupted_is_cancelled(what: str, told: list[str]) -> None:
    command = [sys.executable, "-W", "error", "-c", _INTERRUPTED, what]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=_ROOT)
    assert (run.stderr, run.returncode) == ("", 0)
    *lines, left = run.stdout.splitlines()
    assert lines == told
    assert left.startswith("left 1 ")


_SCRIPT = """
import threading
from dhenara_async import AIModel, AIModelAPI, AIModelAPIProviderEnum, AIModelCallConfig, AIModelClient, AIModelEndpoint
api = AIModelAPI(provider=AIModelAPIProviderEnum.GROQ, api_key="key", base_url={base_url!r})
endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="some-model"))
client = AIModelClient(endpoint, is_async=False)
print(client.generate("Count.").text())
with client, client.stream("Count.") as stream:
    for event in stream:
        pass
print(stream.response.text(), threading.active_count())
"""


def test_a_script_under_strict_warnings(provider: ProviderServer) -> None:
    script = _SCRIPT.format(base_url=endpoint_at(provider, Dialect.OPENAI_CHAT).api.base_url)
    command = [sys.executable, "-W", "error", "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.stderr, run.returncode) == ("", 0)
    assert run.stdout == f"{TEXT}\n{TEXT} 1\n"


def test_a_loop_that_cannot_be_made_is_told(provider: ProviderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_files() -> object:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("asyncio.new_event_loop", out_of_files)
    monkeypatch.setattr("asyncio.runners.events.new_event_loop", out_of_files)
    with pytest.raises(OSError, match="Too many open files"):
        AIModelClient(chat_endpoint(provider.url), is_async=False).generate("Hi.")


# --------------------------------------------------------------------------------------------------------------- forks

_FORKED = """
import os, sys, warnings
from dhenara_async.errors import StreamStateError
from tests.loopback import chat_stream, chunked, replies
from tests.test_blocking import Elsewhere

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)


def in_a_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    assert os.waitpid(child, 0)[1] == 0


def ask():
    print(client.generate("Count.").text(), flush=True)
    with client.stream("Count.") as stream:
        print(len(list(stream)), flush=True)


def leave():
    left.__exit__(None, None, None)
    client.__exit__(None, None, None)
    print("left", flush=True)


def read_the_parents():
    try:
        next(iter(left))
    except StreamStateError as exc:
        print(exc, flush=True)


with Elsewhere(replies(chunked(*chat_stream("One.")))) as server:
    with server.client() as client:
        ask()
        left = client.stream("Count.").__enter__()
        next(iter(left))
        for work in (ask, read_the_parents, leave):
            in_a_child(work)
        left.__exit__(None, None, None)
        ask()
print(server.seen.connections)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_process_that_is_forked_inside_the_block() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", _FORKED],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=_ROOT,
    )
    assert (run.stderr, run.returncode) == ("", 0)
    *lines, connections = run.stdout.splitlines()
    assert lines == [
        *("One.", "5"),  # the parent
        *("One.", "5"),  # a child
        "a stream is read by the process that opened it, and this one was forked; ask anew",
        "left",
        *("One.", "5"),  # the parent, whose connections are still its own
    ]
    assert int(connections) >= 3  # the parent's, and one for each call of the child's
