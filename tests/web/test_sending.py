"""A client that reads slowly slows what it is sent, and gets no comments on top."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel
import pytest

from dhenara_async.errors import ConfigurationError, DhenaraError, NotFoundError, RateLimitError, StoreError
from dhenara_async.web.feeds import Feed
from dhenara_async.web.frames.failures import Failure
from dhenara_async.web.frames.sse import END_ID
from dhenara_async.web.sending import ClientLeft, Sending
from tests.virtual_time import Clock, run


class Source:
    """A feed without an end that counts what is read of it."""

    resumes = False
    media_type = "text/plain"
    headers: Mapping[str, str] = {}
    comment = b":"

    def __init__(self, fault: Exception | None = None) -> None:
        self.read_so_far = 0
        self.fault = fault
        self.left: BaseException | None = None

    def begin(self) -> bytes:
        return b"begin"

    async def read(self) -> bytes | None:
        await anyio.lowlevel.checkpoint()
        self.read_so_far += 1
        if self.fault is not None and self.read_so_far == 3:
            raise self.fault
        return b"data"

    def end(self) -> bytes:
        return b"end"

    def fail(self, error: BaseException) -> bytes | None:
        return b"cut"

    def refusal(self, failure: Failure) -> tuple[int, str, bytes]:
        return failure.status, "text/plain", b"refused"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.left = exc


class Client:
    """A wire whose client reads ``reads`` pieces and then no more, until it goes away."""

    def __init__(self, reads: int = 10**9, *, breaks: bool = False) -> None:
        self.reads = reads
        self.breaks = breaks
        self.written: list[bytes] = []
        self.waits = anyio.Event()
        self.away = anyio.Event()
        self.over = ""

    async def start(self, feed: Feed) -> None:
        self.over = "started"

    async def write(self, data: bytes) -> None:
        if len(self.written) == self.reads:
            if self.breaks:
                raise ClientLeft
            self.waits.set()
            await anyio.sleep_forever()
        self.written.append(data)

    async def finish(self) -> None:
        self.over = "finished"

    async def abort(self) -> None:
        self.over = "aborted"

    async def refuse(self, status: int, media_type: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.over = "refused"

    async def nothing(self) -> None:
        self.over = "nothing"

    async def gone(self) -> None:
        await self.away.wait()


async def test_nothing_is_read_while_the_client_does_not_take_what_it_has() -> None:
    source, client = Source(), Client(reads=5)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Sending(source, heartbeat=0.001).run, client)
        await client.waits.wait()
        read_so_far = source.read_so_far
        await anyio.sleep(0.02)  # many heartbeats
        assert source.read_so_far == read_so_far == 5
        assert client.written == [b"begin", *[b"data"] * 4]
        client.away.set()
    assert source.left is not None
    assert client.over == "started"


async def test_a_wire_that_breaks_ends_the_answer_without_a_word() -> None:
    source, client = Source(), Client(reads=2, breaks=True)
    await Sending(source).run(client)
    assert isinstance(source.left, ClientLeft)
    assert client.over == "started"


async def test_a_fault_of_the_app_is_told_and_raised() -> None:
    source, client = Source(KeyError("a secret")), Client()
    with pytest.raises(KeyError):
        await Sending(source).run(client)
    assert (client.written[-1], client.over) == (b"cut", "finished")


async def test_a_client_that_is_found_gone_by_a_comment_ends_the_answer_without_an_error() -> None:
    class Quiet(Source):
        async def read(self) -> bytes | None:
            await anyio.sleep_forever()

    source, client = Quiet(), Client(reads=1, breaks=True)
    await Sending(source, heartbeat=0.001).run(client)
    assert source.left is not None
    assert client.written == [b"begin"]


async def test_a_client_that_is_gone_before_it_is_told_that_nothing_follows_is_no_error() -> None:
    class Gone(Client):
        async def nothing(self) -> None:
            raise ClientLeft

    await Sending(Source(), last_event_id=END_ID).run(Gone())


class Words(Source):
    """A feed of some words with equal pauses."""

    def __init__(self, words: int, pause: float) -> None:
        super().__init__()
        self.words = words
        self.pause = pause

    async def read(self) -> bytes | None:
        await anyio.sleep(self.pause)
        self.words -= 1
        return b"data" if self.words >= 0 else None


class Slow(Client):
    """A wire on which each write takes its time, and that notices two at once."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.writing = False

    async def write(self, data: bytes) -> None:
        assert not self.writing
        self.writing = True
        await anyio.sleep(self.seconds)
        self.writing = False
        self.written.append(data)


@pytest.mark.parametrize(
    ("words", "pause", "write", "comments"),
    [
        (6, 14, 0, 0),  # never quiet for as long as a heartbeat
        (1, 50, 0, 6),  # at 15, 30 and 45 seconds, before the word and before the end
        (2, 0, 100, 0),  # the client reads slowly: it has enough to read
    ],
)
def test_only_a_quiet_connection_gets_comments(
    words: int, pause: float, write: float, comments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, client = Clock(), Slow(write)
    monkeypatch.setattr("dhenara_async.web.sending.monotonic", clock)
    run(clock, Sending(Words(words, pause), heartbeat=15).run(client))
    assert client.written.count(b":") == comments
    assert [data for data in client.written if data != b":"] == [b"begin", *[b"data"] * words, b"end"]
    assert client.over == "finished"


async def test_a_returning_reader_whose_answer_cannot_be_read_is_told_so_in_a_whole_response() -> None:
    class Returning(Source):
        resumes = True

        async def read(self) -> bytes | None:
            raise StoreError("the database is gone")

    client = Client()
    await Sending(Returning()).run(client)
    assert (client.written, client.over) == ([b"begin", b"cut"], "finished")


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (
            NotFoundError("no such model: hush", provider="acme", status=404, request_id="r1"),
            ["an answer failed with NotFoundError: acme answered 404 (request r1)"],
        ),
        (ConfigurationError("there is no key"), ["an answer failed with ConfigurationError: there is no key"]),
        (RateLimitError("slow down", provider="acme", status=429), []),
    ],
)
@pytest.mark.parametrize("begun", [True, False])
async def test_only_those_who_run_the_app_are_told_what_they_alone_can_mend(
    error: DhenaraError, logged: list[str], begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Refused(Source):
        async def __aenter__(self) -> Self:
            raise error

    client = Client()
    await Sending(Source(error) if begun else Refused()).run(client)
    assert client.over == ("finished" if begun else "refused")
    assert [record.getMessage() for record in caplog.records] == logged
