"""Downloads refuse unsafe URLs, addresses and responses, and each file of a request is downloaded or passed on."""

import base64
import gzip
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address

import anyio
import httpx
import orjson
import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    AiohttpTransport,
    Bounds,
    ConversationManager,
    Dialect,
    FetchPolicy,
    FilePart,
    Host,
    HttpxTransport,
    Message,
    ToolCallPart,
    ToolResultPart,
    register_host,
)
from dhenara_async.downloads.fetch import Fetcher, fetcher_for
from dhenara_async.downloads.file_urls import download_address
from dhenara_async.downloads.inlining import fetches, inlined, key_of, to_download
from dhenara_async.errors import (
    BoundsError,
    ConfigurationError,
    ConnectError,
    DeadlineError,
    ReadError,
    ServerError,
    TransportError,
    UnsupportedError,
)
from dhenara_async.hosts.addresses import class_of
from dhenara_async.testing import Answer, ProviderServer, ReplayTransport
from dhenara_async.transport import Downloads, FileRequest, Transport
from dhenara_async.transport.aiohttp_downloads import AiohttpDownloads
from tests.cases import cases
from tests.loopback import (
    NO_RETRIES,
    ONCE,
    PATIENCE,
    Connection,
    Play,
    chat_body,
    chat_endpoint,
    chunk,
    endpoint_at,
    head,
    once,
    replies,
    serve,
    stalling,
    whole,
)

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
WEBP = b"RIFF\x24\0\0\0WEBPVP8 " + b"\0" * 40
PUBLIC = "93.184.215.14"
SECRET = "signature=do-not-tell"
OURS = FetchPolicy(allow_http=True, allow_private=True)


class Scripted:
    """Downloads from nowhere: one answer a request, in order; remembers what was asked of which address."""

    def __init__(self, *answers: "ScriptedAnswer") -> None:
        self.left = list(answers)
        self.asked: list[FileRequest] = []

    async def get(self, request: FileRequest) -> "ScriptedAnswer":
        self.asked.append(request)
        return self.left.pop(0)


class ScriptedAnswer:
    def __init__(self, status: int = 200, *pieces: bytes, **headers: str) -> None:
        self.status: int = status
        self.headers: Mapping[str, str] = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pieces = list(pieces)
        self.closed = False

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def interrupt(self, error: Exception) -> None:
        raise AssertionError("a download is limited as a whole, never interrupted") from error

    def ended(self) -> bool:
        return not self.pieces

    async def close(self) -> None:
        self.closed = True


def moved(to: str, status: int = 302) -> ScriptedAnswer:
    return ScriptedAnswer(status, location=to)


def names(**known: str | Sequence[str]) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    """A resolver that knows ``name.test`` for each keyword; several texts are the answers of one lookup after another,
    several addresses in one text those of one."""
    answers = {f"{name}.test": [value] if isinstance(value, str) else list(value) for name, value in known.items()}

    async def resolve(host: str, port: int) -> Sequence[str]:
        left = answers.get(host)
        if not left:
            raise OSError(f"unexpected lookup of {host}")
        return (left.pop(0) if len(left) > 1 else left[0]).split()

    return resolve


def picture(url: str) -> FilePart:
    return FilePart(media_type="image/png", url=url)


# ----------------------------------------------------------------------------------------------------------- addresses

_CLASSES = {
    "public": "8.8.8.8 172.32.0.1 2606:4700::1111 ::ffff:8.8.8.8 64:ff9b::808:808",
    "private": "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.100.100.200 fd00:ec2::254 "
    "::ffff:10.0.0.1 64:ff9b::a00:1",
    "loopback": "127.0.0.1 127.255.0.1 ::1 ::ffff:127.0.0.1 ::ffff:7f00:1 64:ff9b::7f00:1",
    "link-local": "169.254.169.254 fe80::1 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe",
    "multicast": "224.0.0.1 239.255.255.250 ff02::1 ::ffff:224.0.0.1",
    "reserved": "0.0.0.0 0.1.2.3 240.0.0.1 255.255.255.255 192.0.0.8 192.0.2.1 198.18.0.1 203.0.113.1 192.88.99.1 :: "
    "::7f00:1 fec0::1 2002:7f00:1:: 2001::1 2001:db8::1 3fff::1 100::1 64:ff9b:1::1 ::ffff:0.0.0.0",
}


@pytest.mark.parametrize(("kind", "address"), [(kind, one) for kind, all_ in _CLASSES.items() for one in all_.split()])
async def test_an_address_is_connected_to_only_if_the_policy_allows_its_class(kind: str, address: str) -> None:
    assert class_of(ip_address(address)) == kind
    allowed = {"public": (True, True), "private": (False, True), "loopback": (False, True)}.get(kind, (False, False))
    for policy, goes in zip((FetchPolicy(), FetchPolicy(allow_private=True)), allowed, strict=True):
        downloads = Scripted(ScriptedAnswer(200, PNG))
        fetcher = Fetcher(policy, downloads, names(a=address))
        written = f"[{address}]" if ":" in address else address
        if goes:
            assert (await fetcher.fetch(picture("https://a.test/x.png"))).data == PNG
            assert downloads.asked[0].addresses == (str(ip_address(address)),)
            assert download_address(f"https://{written}/x", policy).address == ip_address(address)
            continue
        for url in ("https://a.test/x.png", f"https://{written}/x.png"):
            with pytest.raises(ConfigurationError, match=f"{kind} address"):
                await fetcher.fetch(picture(url))
        assert downloads.asked == []


async def test_a_host_with_one_private_address_is_refused() -> None:
    downloads = Scripted()
    fetcher = Fetcher(FetchPolicy(), downloads, names(a=f"{PUBLIC} 10.0.0.1"))
    with pytest.raises(ConfigurationError, match=r"a\.test has a private address.*allow_private"):
        await fetcher.fetch(picture("https://a.test/x.png"))
    assert downloads.asked == []


async def test_a_host_is_resolved_once_and_the_checked_addresses_are_used() -> None:
    downloads = Scripted(ScriptedAnswer(200, PNG))
    fetcher = Fetcher(FetchPolicy(), downloads, names(a=[f"{PUBLIC} {PUBLIC} 2606:4700::1111", "127.0.0.1"]))
    await fetcher.fetch(picture("https://A.test./x.png"))
    (asked,) = downloads.asked
    assert (asked.host, asked.addresses) == ("a.test", (PUBLIC, "2606:4700::1111"))


@pytest.mark.parametrize("found", ["", "not-an-address"])
async def test_a_host_that_does_not_resolve_is_a_connect_error(found: str) -> None:
    for fetcher in (Fetcher(FetchPolicy(), Scripted(), names(a=found)), Fetcher(FetchPolicy(), Scripted(), names())):
        with pytest.raises(ConnectError, match=r"a\.test, was not found"):
            await fetcher.fetch(picture(f"https://a.test/x?{SECRET}"))


# ---------------------------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("url", "words"),
    [
        *((f"{scheme}://a.test/x", "https:// only") for scheme in ("http", "file", "ftp", "gopher", "HTTP")),
        ("file:///etc/passwd", "https:// only"),
        ("//a.test/x", "https:// only"),
        ("https://user:pass@a.test/x", "holds credentials"),
        ("https://a.test@127.0.0.1/x", "holds credentials"),
        ("https://@a.test/x", "holds credentials"),
        *(
            (f"https://{host}/x", "in disguise")
            for host in ("2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.01", "1.2.3.4.5", "0x")
        ),
        ("https://\uff12\uff11\uff13\uff10\uff17\uff10\uff16\uff14\uff13\uff13/x", "in disguise"),
        ("https://127\u30020\u30020\u30021/x", "loopback address"),
        ("https://127.0.0.1./x", "loopback address"),
        ("https://[::1]/x", "loopback address"),
        ("https://[::ffff:169.254.169.254]/x", "link-local address"),
        ("https://[fe80::1%25eth0]/x", "not an address"),
        ("https://[::1/x", "not a URL"),
        ("https://[v1.x]/x", "not an address"),
        ("https://a.test:port/x", "not a URL"),
        ("https://a.test:99999/x", "not a URL"),
        ("https:///x", "not a name"),
        ("https://a_b*.test/x", "not a name"),
        ("https://.../x", "not a name"),
        ("https://a%00.test/x", "not a name"),
        ("https://a.test\\@127.0.0.1/x", "backslashes"),
        ("https://a.test/x y", "spaces"),
        ("https://a.test/x\r\nhost: b", "control characters"),
        ("\thttps://a.test/x", "control characters"),
        ("https://a.test/\ud800", "half characters"),
    ],
)
def test_an_unsafe_url_is_refused_without_quoting_its_secrets(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        download_address(url + ("?" + SECRET if "\ud800" not in url else ""), FetchPolicy())
    assert "do-not-tell" not in str(caught.value)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host", "port", "rebuilt"),
    [
        ("https://A.Test", "a.test", 443, "https://a.test/"),
        ("https://a.test:8443/x%20y?q=%2F&r=/#part", "a.test", 8443, "https://a.test:8443/x%20y?q=%2F&r=/"),
        (
            "https://bücher.test/grün.png?ü",
            "xn--bcher-kva.test",
            443,
            "https://xn--bcher-kva.test/gr%C3%BCn.png?%C3%BC",
        ),
        ("https://[2606:4700::1111]:444/x", "2606:4700::1111", 444, "https://[2606:4700::1111]:444/x"),
        ("https://8.8.8.8/x", "8.8.8.8", 443, "https://8.8.8.8/x"),
    ],
)
def test_urls_are_normalised(url: str, host: str, port: int, rebuilt: str) -> None:
    place = download_address(url, FetchPolicy())
    assert (place.host, place.port, place.url) == (host, port, rebuilt)


def test_no_policy_allows_link_local_addresses() -> None:
    assert download_address("http://127.0.0.1:9/x", OURS).port == 9
    with pytest.raises(ConfigurationError, match="link-local"):
        download_address("http://169.254.169.254/latest/meta-data", OURS)


# ----------------------------------------------------------------------------------------------------------- redirects


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("https://127.0.0.1/x", "loopback"),
        ("https://[::ffff:10.0.0.1]/x", "private"),
        ("https://inside.test/x", "private"),
        ("https://2130706433/x", "disguise"),
        ("//127.0.0.1/x", "loopback"),
        ("http://b.test/x", "away from https"),
        ("file:///etc/passwd", "away from https"),
        ("ftp://b.test/x", "away from https"),
        ("data:image/png;base64,AAAA", "away from https"),
        ("https://me:word@b.test/x", "credentials"),
        ("https://b.test/x y", "spaces"),
    ],
)
async def test_a_redirect_to_an_unsafe_url_is_refused(to: str, words: str) -> None:
    answer = moved(f"{to}?{SECRET}")
    downloads = Scripted(answer)
    fetcher = Fetcher(FetchPolicy(), downloads, names(a=PUBLIC, b=PUBLIC, inside="10.0.0.1"))
    with pytest.raises(ConfigurationError, match=words) as caught:
        await fetcher.fetch(picture(f"https://a.test/x?{SECRET}"))
    assert "do-not-tell" not in str(caught.value)
    assert (len(downloads.asked), answer.closed) == (1, True)


@pytest.mark.parametrize(("first", "then"), [(PUBLIC, "127.0.0.1"), (PUBLIC, "10.0.0.1"), ("10.0.0.1", "127.0.0.1")])
async def test_a_redirect_to_a_less_public_address_is_refused(first: str, then: str) -> None:
    downloads = Scripted(moved("https://b.test/x"))
    fetcher = Fetcher(FetchPolicy(allow_private=True), downloads, names(a=first, b=then))
    with pytest.raises(ConfigurationError, match=r"redirects from \w+ addresses to \w+ ones"):
        await fetcher.fetch(picture("https://a.test/x"))
    assert len(downloads.asked) == 1


async def test_redirects_are_followed_up_to_the_limit() -> None:
    hops = [moved("/y", 301), moved("z?q#part", 303), moved("//b.test/w", 307), moved("https://a.test/v", 308)]
    downloads = Scripted(*hops, ScriptedAnswer(200, PNG))
    fetcher = Fetcher(FetchPolicy(redirects=4), downloads, names(a=PUBLIC, b=PUBLIC))
    part = await fetcher.fetch(picture("https://a.test/x.png"))
    assert (part.data, part.url, part.filename) == (PNG, None, "x.png")
    paths = ["a.test/x.png", "a.test/y", "a.test/z?q", "b.test/w", "a.test/v"]
    assert [request.url for request in downloads.asked] == [f"https://{path}" for path in paths]
    with pytest.raises(ConfigurationError, match="more than 2 times"):
        await Fetcher(FetchPolicy(redirects=2), Scripted(*hops), names(a=PUBLIC, b=PUBLIC)).fetch(
            picture("https://a.test/x")
        )


async def test_each_redirect_resolves_its_host_again() -> None:
    downloads = Scripted(moved("/y"))
    with pytest.raises(ConfigurationError, match="loopback"):
        await Fetcher(FetchPolicy(), downloads, names(a=[PUBLIC, "127.0.0.1"])).fetch(picture("https://a.test/x"))


# ------------------------------------------------------------------------------------------------------------- answers


async def answered(answer: ScriptedAnswer, part: FilePart | None = None, policy: FetchPolicy | None = None) -> FilePart:
    fetcher = Fetcher(policy or FetchPolicy(), Scripted(answer), names(a=PUBLIC))
    try:
        return await fetcher.fetch(part or picture(f"https://a.test/x?{SECRET}"))
    finally:
        assert answer.closed


@pytest.mark.parametrize(
    ("answer", "retryable"),
    [
        (ScriptedAnswer(404, b"no"), False),
        (ScriptedAnswer(206, PNG), False),
        (ScriptedAnswer(204), False),
        (ScriptedAnswer(304), False),
        (ScriptedAnswer(429), True),
        (ScriptedAnswer(503), True),
        (ScriptedAnswer(302), False),
        (moved("https://[::1"), False),
        (ScriptedAnswer(200, gzip.compress(PNG), content_encoding="gzip"), False),
    ],
)
async def test_a_response_without_a_file_is_a_transport_error(answer: ScriptedAnswer, retryable: bool) -> None:
    with pytest.raises(TransportError, match=r"a\.test, which has the file") as caught:
        await answered(answer)
    assert caught.value.retryable is retryable
    assert "do-not-tell" not in str(caught.value)


async def test_a_file_above_max_bytes_is_refused_without_reading_on() -> None:
    policy = FetchPolicy(max_bytes=len(PNG))
    assert (await answered(ScriptedAnswer(200, PNG[:9], PNG[9:], content_length="48"), policy=policy)).size == 48
    announced = ScriptedAnswer(200, PNG, content_length="49")
    endless = ScriptedAnswer(200, *[b"x" * 40] * 10)
    lying = ScriptedAnswer(200, *[b"x" * 40] * 10, content_length="1")
    odd = ScriptedAnswer(200, *[b"x" * 40] * 10, content_length="9" * 5000)
    for answer, left in ((announced, 1), (endless, 8), (lying, 8), (odd, 10)):
        with pytest.raises(ConfigurationError, match=r"more than 48 bytes.*max_bytes"):
            await answered(answer, policy=policy)
        assert len(answer.pieces) == left  # nothing was read beyond the limit


_HTML = b"<!doctype html><title>Log in</title>"


@pytest.mark.parametrize(
    ("declared", "told", "data", "words"),
    [
        ("image/png", "image/png", _HTML, "it is text/plain, not image/png"),
        ("image/*", "text/html; charset=utf-8", _HTML, r"it is text/html, not image/\*"),
        ("image/*", "", b"\x01\x02\xff", r"it is application/octet-stream, not image/\*"),
        ("application/pdf", "application/pdf", PNG, "it is image/png, not application/pdf"),
        ("image/png", "image/png", b"%PDF-1.7\n\0", "it is application/pdf, not image/png"),
        ("image/png", "image/png", b"\0\xff\0", "the bytes are not image/png"),
        ("image/png", "image/png", b"", "it is|empty"),
        ("audio/wav", "text/html", _HTML, "it is text/html, not audio/wav"),
        ("text/plain", "text/plain", PNG, "it is image/png, not text/plain"),
        ("text/plain", "text/plain", b"Gr\xfc\xdfe", "a text file must be UTF-8"),
    ],
)
async def test_bytes_that_contradict_the_media_type_are_refused(
    declared: str, told: str, data: bytes, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"cannot use the file from a\.test.*{words}"):
        part = FilePart(media_type=declared, url=f"https://a.test/x?{SECRET}")
        await answered(ScriptedAnswer(200, data, content_type=told), part)


@pytest.mark.parametrize(
    ("declared", "told", "data", "settled"),
    [
        ("image/*", "application/octet-stream", PNG, "image/png"),
        ("image/jpeg", "image/jpeg", WEBP, "image/webp"),
        ("image/png", "text/plain", PNG, "image/png"),
        ("image/svg+xml", "text/plain", b"<svg/>", "image/svg+xml"),
        ("text/markdown", "text/plain", b"# BM", "text/markdown"),
        ("audio/pcm", "audio/pcm", b"\x01\x02\xff", "audio/pcm"),
        ("audio/mp4", "", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0" * 40, "audio/mp4"),
    ],
)
async def test_the_media_type_of_a_download_is_detected_from_its_bytes(
    declared: str, told: str, data: bytes, settled: str
) -> None:
    part = FilePart(media_type=declared, url="https://a.test/x", filename="mine")
    came = await answered(ScriptedAnswer(200, data, content_type=told), part)
    assert (came.media_type, came.data, came.filename, came.url) == (settled, data, "mine", None)


async def test_the_first_failed_download_cancels_the_others() -> None:
    stuck = anyio.Event()

    class Half(Scripted):
        async def get(self, request: FileRequest) -> ScriptedAnswer:
            if request.url.endswith("slow"):
                stuck.set()
                await anyio.sleep_forever()
            await stuck.wait()
            return ScriptedAnswer(404)

    parts = [picture("https://a.test/slow"), picture("https://a.test/gone")]
    with anyio.fail_after(PATIENCE), pytest.raises(TransportError, match="answered 404"):
        await Fetcher(FetchPolicy(), Half(), names(a=PUBLIC)).fetch_all(parts)


# ----------------------------------------------------------------------------------------------------- on real sockets


@pytest.fixture(params=["aiohttp", "httpx"])
async def downloads(request: pytest.FixtureRequest) -> AsyncGenerator[Downloads]:
    if request.param == "aiohttp":
        yield AiohttpDownloads()
        return
    credentials = httpx.BasicAuth("me", "word")
    async with httpx.AsyncClient(auth=credentials, headers={"x-mine": "1"}, cookies={"c": "1"}) as client:
        yield HttpxTransport(client)


async def test_the_request_to_a_checked_address_names_its_host(downloads: Downloads) -> None:
    async with serve(once(whole(PNG, content_type="image/png"))) as server:
        fetcher = Fetcher(OURS, downloads, names(a="127.0.0.1"))
        part = await fetcher.fetch(picture(f"http://a.test:{server.port}/x.png?{SECRET}"))
    (seen,) = server.requests
    assert (part.data, seen.target, seen.header("host")) == (PNG, f"/x.png?{SECRET}", [f"a.test:{server.port}"])
    assert {name for name, _ in seen.headers} - {"connection"} == {"host", "accept", "accept-encoding", "user-agent"}
    assert seen.header("accept-encoding") == ["identity"]


async def test_hosts_at_the_same_address_share_no_connection(downloads: Downloads) -> None:
    """The certificate of a connection is verified for one host only."""
    async with serve(replies(whole(PNG))) as server:
        fetcher = Fetcher(OURS, downloads, names(a="127.0.0.1", b="127.0.0.1"))
        for name in ("a", "b"):
            await fetcher.fetch(picture(f"http://{name}.test:{server.port}/x.png"))
        assert server.connections == 2


async def test_neither_proxies_nor_netrc_are_used(
    downloads: Downloads, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine a.test login me password word\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with serve(once(whole(PNG))) as server:
        await Fetcher(OURS, downloads, names(a="127.0.0.1")).fetch(picture(f"http://a.test:{server.port}/x"))
    assert server.requests[0].header("authorization") == []


async def test_a_stalled_download_hits_the_time_limit_and_is_closed(downloads: Downloads) -> None:
    policy = OURS.model_copy(update={"seconds": 0.2})
    async with serve(stalling(head(200, "image/png", content_length="100"), PNG)) as server:
        with pytest.raises(DeadlineError) as caught:
            await Fetcher(policy, downloads, names()).fetch(picture(f"{server.url}/x.png"))
        assert (caught.value.limit, caught.value.seconds) == ("fetch", 0.2)
        await server.wait_hung_up()


async def test_a_slow_resolution_hits_the_time_limit() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await anyio.sleep_forever()
        return ()

    with anyio.fail_after(PATIENCE), pytest.raises(DeadlineError):
        await Fetcher(FetchPolicy(seconds=0.01), Scripted(), resolve).fetch(picture("https://a.test/x"))


async def test_an_endless_download_is_closed_at_max_bytes(downloads: Downloads) -> None:
    async def endless(connection: Connection) -> None:
        await connection.request()
        await connection.send(head(200, "image/png", transfer_encoding="chunked"))
        while not server.hung_up.is_set():
            await connection.send(chunk(b"x" * 1000))

    async with serve(endless) as server:
        policy = OURS.model_copy(update={"max_bytes": 10_000})
        with pytest.raises(ConfigurationError, match="more than 10000 bytes"):
            await Fetcher(policy, downloads, names()).fetch(picture(f"{server.url}/x.png"))
        await server.wait_hung_up()


async def test_a_truncated_download_is_a_read_error(downloads: Downloads) -> None:
    async with serve(once(head(200, "image/png", content_length="100"), PNG)) as server:
        with pytest.raises(ReadError) as caught:
            await Fetcher(OURS, downloads, names()).fetch(picture(f"{server.url}/x.png"))
    assert caught.value.retryable


async def test_a_refused_connection_is_a_connect_error(downloads: Downloads) -> None:
    async with serve(once(b"")) as server:
        port = server.port
    with pytest.raises(ConnectError, match=r"127\.0\.0\.1"):
        await Fetcher(OURS, downloads, names()).fetch(picture(f"http://127.0.0.1:{port}/x.png?{SECRET}"))


# ------------------------------------------------------------------------------------------------------ from the client


def asking(endpoint: AIModelEndpoint, transport: Transport | None = None, **policy: object) -> AIModelClient:
    rules = OURS.model_copy(update=policy)
    return AIModelClient(endpoint, AIModelCallConfig(fetch=rules), transport=transport)


def images(body: bytes) -> list[str]:
    """Return the image URLs of a Chat Completions request."""
    messages = orjson.loads(body)["messages"]
    return [part["image_url"]["url"] for part in messages[-1]["content"] if part["type"] == "image_url"]


ANSWER: Play = replies(whole(chat_body("A cat.")))
DATA_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


@pytest.mark.parametrize("wire", ["plain", "stream"])
async def test_a_file_is_downloaded_once_and_sent_inline(wire: str) -> None:
    async with serve(replies(whole(PNG, content_type="image/png"))) as files, serve(ANSWER) as provider:
        cat = FilePart.from_url(f"{files.url}/cat.png")
        question = Message.user("Which?", cat, FilePart.from_url(f"{files.url}/cat.png"))
        client = asking(chat_endpoint(provider.url))
        if wire == "plain":
            response = await client.generate(question)
        else:
            async with client.stream(question) as stream:
                response = await stream.collect()
    assert (response.text(), files.connections, len(files.requests)) == ("A cat.", 1, 1)
    assert images(provider.requests[0].body) == [DATA_URL, DATA_URL]
    told = [
        (entry.code, entry.severity, entry.message, entry.part, entry.kind) for entry in response.conversion.entries
    ]
    assert told == [("media_inlined", "degraded", 0, 1, "file"), ("media_inlined", "degraded", 0, 2, "file")]


async def test_a_failed_download_sends_nothing_to_the_provider() -> None:
    async with serve(replies(whole(b"gone", status=404))) as files, serve(ANSWER) as provider:
        client = asking(chat_endpoint(provider.url))
        question = Message.user("Which?", picture(f"{files.url}/cat.png"))
        with pytest.raises(TransportError, match="answered 404"):
            await client.generate(question)
        async with client.stream(question) as stream:
            with pytest.raises(TransportError, match="answered 404"):
                await anext(stream)
            with pytest.raises(TransportError, match="answered 404"):
                await anext(stream)
            assert isinstance(stream.failure, TransportError)
        assert (len(files.requests), provider.connections) == (2, 0)


async def test_leaving_the_block_during_a_download_closes_its_socket() -> None:
    async with serve(stalling(head(200, "image/png"), PNG)) as files, serve(ANSWER) as provider:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_when, files.asked, scope)
                async with asking(chat_endpoint(provider.url)).stream(
                    Message.user("?", picture(f"{files.url}/cat.png"))
                ) as stream:
                    await anext(stream)
        assert scope.cancelled_caught
        await files.wait_hung_up()
        assert provider.connections == 0


async def _cancel_when(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def test_invalid_urls_and_media_types_are_refused_before_any_download() -> None:
    async with serve(ANSWER) as provider:
        client = asking(chat_endpoint(provider.url), allow_http=False)
        for url, words in {
            f"{provider.url}/cat.png": "allow_http",
            "https://user:word@host.test/cat.png": "credentials",
            "https://169.254.169.254/cat.png": "link-local",
        }.items():
            with pytest.raises(ConfigurationError, match=words):
                client.stream(Message.user("?", picture(url)))
        with pytest.raises(UnsupportedError):
            client.stream(Message.user("?", FilePart(media_type="video/mp4", url="https://host.test/film.mp4")))
    assert provider.connections == 0


async def test_the_default_policy_refuses_loopback_urls() -> None:
    async with serve(replies(whole(PNG))) as files, serve(ANSWER) as provider:
        for url in (f"{files.url}/x.png", f"https://127.0.0.1:{files.port}/x.png", f"https://localhost:{files.port}/x"):
            with pytest.raises(ConfigurationError, match=r"allow_http|loopback"):
                await AIModelClient(chat_endpoint(provider.url)).generate(Message.user("?", picture(url)))
    assert (files.connections, provider.connections) == (0, 0)


async def test_test_mode_downloads_nothing() -> None:
    config = AIModelCallConfig(test_mode=True)
    client = AIModelClient(chat_endpoint("http://127.0.0.1:9"), config)
    response = await client.generate(Message.user("Which?", picture("https://host.test/cat.png")))
    assert "was not called" in response.text()
    assert [entry.code for entry in response.conversion.entries] == ["media_inlined"]


async def test_a_transport_with_downloads_is_used_for_them() -> None:
    downloads = Scripted(ScriptedAnswer(200, PNG))

    class Both(AiohttpTransport):
        get = downloads.get

    async with serve(ANSWER) as provider:
        transport = Both()
        await asking(chat_endpoint(provider.url), transport).generate(
            Message.user("?", picture("https://127.0.0.1/cat.png"))
        )
        await transport.aclose()
    assert [request.host for request in downloads.asked] == ["127.0.0.1"]
    assert isinstance(HttpxTransport(httpx.AsyncClient()), Downloads)
    assert not isinstance(AiohttpTransport(), Downloads)
    assert fetcher_for(AiohttpTransport(), OURS) is not None


async def test_files_in_tool_results_are_downloaded() -> None:
    endpoint = chat_endpoint("http://127.0.0.1:9")
    part = picture("https://host.test/cat.png")
    result = Message.user(ToolResultPart(call_id="1", name="look", content=(part,)))
    assert not fetches(endpoint, part)
    assert to_download([result, result], endpoint) == (part,)
    (replaced,) = inlined([result], {key_of(part): FilePart.from_bytes(PNG)})
    (only,) = replaced.parts
    assert isinstance(only, ToolResultPart)
    assert [item.data for item in only.content if isinstance(item, FilePart)] == [PNG]


async def test_a_node_keeps_the_url() -> None:
    config = AIModelCallConfig(fetch=OURS)
    async with serve(replies(whole(PNG))) as files, serve(ANSWER) as provider, ConversationManager() as manager:
        conversation = await manager.create()
        endpoint = chat_endpoint(provider.url)
        node = await manager.ask(conversation, "Which?", endpoint, files=[f"{files.url}/cat.png"], config=config)
    assert [part.url for part in node.attached_files] == [f"{files.url}/cat.png"]
    assert [entry.code for entry in node.conversion.entries] == ["media_inlined"]
    assert images(provider.requests[0].body) == [DATA_URL]


@pytest.mark.parametrize(
    ("dialect", "name", "data"),
    [
        (Dialect.ANTHROPIC_MESSAGES, "notes.txt", b"Feed the cat."),
        (Dialect.OPENAI_CHAT, "notes.txt", b"Feed the cat."),
        (Dialect.ANTHROPIC_MESSAGES, "cat.png", PNG),
        (Dialect.GEMINI, "cat.png", PNG),
    ],
)
async def test_every_dialect_sends_downloaded_bytes(dialect: Dialect, name: str, data: bytes) -> None:
    """Among them are files whose URLs their driver cannot encode."""
    async with serve(replies(whole(data))) as files, ProviderServer([Answer(text="A cat.")]) as server:
        client = asking(endpoint_at(server, dialect))
        response = await client.generate(Message.user("?", FilePart.from_url(f"{files.url}/{name}")))
        (seen,) = server.requests
    assert (response.text(), len(files.requests)) == ("A cat.", 1)
    assert data in seen.body or base64.b64encode(data) in seen.body
    assert files.url.encode() not in seen.body


async def test_a_target_that_fetches_urls_receives_the_url() -> None:
    url = "https://host.test/cat.png"
    async with ProviderServer([Answer(text="A cat.")]) as server:
        endpoint = endpoint_at(server, Dialect.OPENAI_RESPONSES)
        response = await AIModelClient(endpoint).generate(Message.user("?", picture(url)))
        (seen,) = server.requests
    assert response.conversion.entries == ()
    assert url.encode() in seen.body


# ------------------------------------------------------------------------------------------- URLs that are handed on

INSIDE = (
    *("http://169.254.169.254/latest/meta-data", "https://169.254.169.254/x.png", "http://127.0.0.1/x.png"),
    *("https://10.1.2.3/x.png", "https://[::1]/x.png", "https://[::ffff:169.254.169.254]/x.png", "https://0.0.0.0/x"),
    *("https://2852039166/x.png", "https://0xa9.254.169.254/x", "https://127.1/x", "https://0177.0.0.1/x"),
    *("https://\uff11\uff12\uff17.0.0.1/x", "https://169.254.169.254./x", "https://[fe80::1%25eth0]/x"),
    *("https://me@169.254.169.254/x", "https://good.test\\@169.254.169.254/x", "https://good.test:80@10.0.0.1/x"),
    *("https://localhost/x.png", "https://LOCALHOST./x", "https://api.localhost/x", "https://metadata/x"),
    *(
        "https://metadata.google.internal/x",
        "https://nas.local/x",
        "https://printer.lan/x",
        "https://100.100.100.200/x",
    ),
)
_P = AIModelAPIProviderEnum


def endpoint_of(provider: AIModelAPIProviderEnum, base_url: str | None = None, model: str = "m") -> AIModelEndpoint:
    api = AIModelAPI(provider=provider, api_key="some-key", base_url=base_url)
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))


HANDED = {
    "a maker's own service": endpoint_of(_P.OPEN_AI, model="gpt-6-sol"),
    "another maker's": endpoint_of(_P.ANTHROPIC, model="claude-opus-5-5"),
    "Google's": endpoint_of(_P.GOOGLE_AI, model="gemini-3.8-flash"),
    "a gateway": endpoint_of(_P.OPEN_AI, "https://gateway.test/v1", "gpt-6-sol"),
    "a compatible host": endpoint_of(_P.OPENAI_COMPATIBLE, "https://llm.test/v1"),
    "a server of one's own": endpoint_of(_P.VLLM, "https://gpu.test/v1"),
}


@pytest.mark.parametrize("target", HANDED)
async def test_urls_of_private_addresses_are_sent_to_no_target(target: str) -> None:
    with cases() as case:
        for url in INSIDE:
            with case(url):
                part = picture(url)
                assert not fetches(HANDED[target], part)
                replay = ReplayTransport(chat_body("A cat."))
                with pytest.raises((ConfigurationError, ConnectError)):
                    await AIModelClient(HANDED[target], ONCE, transport=replay).generate(Message.user("?", part))
                assert replay.requests == []


def test_self_hosted_servers_receive_no_urls() -> None:
    for provider in (_P.VLLM, _P.OLLAMA, _P.LM_STUDIO, _P.LLAMA_CPP):
        for base_url in (None, "https://gpu.test/v1"):
            assert not fetches(endpoint_of(provider, base_url), picture("https://host.test/x.png"))


def test_a_registered_host_receives_no_urls_of_private_addresses() -> None:
    register_host("greedy", Host("https://greedy.test/v1", fetches=lambda part: True))
    api = AIModelAPI(provider="greedy", api_key="some-key")
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name="m"))
    assert fetches(endpoint, picture("https://host.test/x.png"))
    assert fetches(endpoint, FilePart(media_type="image/png", url="gs://bucket/x.png"))
    assert not fetches(endpoint, picture("https://169.254.169.254/x.png"))


@pytest.mark.parametrize("moved", [False, True], ids=["a maker's own service", "elsewhere"])
async def test_hosts_of_urls_are_resolved_before_a_gateway_receives_them(
    moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        looked_up.append(host)
        known = {"inside.test": [PUBLIC, "10.0.0.7"], "metadata.test": ["169.254.169.254"], "host.test": [PUBLIC]}
        if host not in known:
            raise OSError("no such host")
        return known[host]

    monkeypatch.setattr("dhenara_async.downloads.fetch.addresses_of", resolve)
    endpoint = HANDED["a gateway" if moved else "a maker's own service"]
    private = AIModelCallConfig(fetch=FetchPolicy(allow_private=True), retries=NO_RETRIES)
    for name, config, refused in (
        ("host.test", ONCE, False),
        ("unknown.test", ONCE, False),
        ("inside.test", ONCE, moved),
        ("inside.test", private, False),
        ("metadata.test", ONCE, moved),
        ("metadata.test", private, moved),
    ):
        replay, part = ReplayTransport(b"{}", status=500), picture(f"http://{name}/x.png")
        client = AIModelClient(endpoint, config, transport=replay)
        with pytest.raises(ConfigurationError if refused else ServerError):
            await client.generate(Message.user("?", part))
        assert len(replay.requests) == (0 if refused else 1)
        if not refused:
            assert f"http://{name}/x.png".encode() in replay.requests[0].body
    assert bool(looked_up) == moved


async def test_hosts_of_urls_in_tool_results_are_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dhenara_async.downloads.fetch.addresses_of", names(inside="10.0.0.7"))
    call = Message.assistant(ToolCallPart(call_id="c", name="look", arguments="{}"))
    result = Message.user(ToolResultPart(call_id="c", name="look", content=(picture("https://inside.test/x.png"),)))
    replay = ReplayTransport(b"{}")
    with pytest.raises(ConfigurationError, match="private address"):
        await AIModelClient(HANDED["a gateway"], transport=replay).generate(messages=[Message.user("?"), call, result])
    assert replay.requests == []


# --------------------------------------------------------------------------------------- all files of a call together


def files_of(*sizes: int, told: bool = True) -> tuple[list[FilePart], Scripted]:
    data = [PNG + b"\0" * (size - len(PNG)) for size in sizes]
    answers = [ScriptedAnswer(200, each, **({"content_length": str(len(each))} if told else {})) for each in data]
    return [picture(f"https://a.test/{number}.png") for number in range(len(sizes))], Scripted(*answers)


@pytest.mark.parametrize("told", [True, False])
async def test_the_files_of_a_call_share_a_size_limit(told: bool) -> None:
    parts, downloads = files_of(400, 400, 400, told=told)
    fetcher = Fetcher(FetchPolicy(), downloads, names(a=PUBLIC), Bounds(max_download_bytes_total=1200))
    assert len(await fetcher.fetch_all(parts)) == 3
    parts, downloads = files_of(400, 400, 401, told=told)
    fetcher = Fetcher(FetchPolicy(), downloads, names(a=PUBLIC), Bounds(max_download_bytes_total=1200))
    with pytest.raises(BoundsError, match="max_download_bytes_total") as caught:
        await fetcher.fetch_all(parts)
    assert (caught.value.setting, caught.value.limit) == ("max_download_bytes_total", 1200)
    assert not caught.value.retryable


async def test_a_call_with_too_many_downloads_is_refused() -> None:
    parts, downloads = files_of(*[100] * 3)
    fetcher = Fetcher(FetchPolicy(), downloads, names(a=PUBLIC), Bounds(max_downloads=2))
    with pytest.raises(BoundsError, match="max_downloads") as caught:
        await fetcher.fetch_all(parts)
    assert (caught.value.setting, caught.value.limit, downloads.asked) == ("max_downloads", 2, [])


@pytest.mark.parametrize("setting", ["max_downloads", "max_download_bytes_total"])
async def test_the_bounds_of_a_config_limit_downloads(setting: str) -> None:
    bounds = Bounds(max_downloads=1) if setting == "max_downloads" else Bounds(max_download_bytes_total=90)
    async with serve(replies(whole(PNG))) as files, serve(ANSWER) as provider:
        config = AIModelCallConfig(fetch=OURS, bounds=bounds)
        urls = [picture(f"{files.url}/{number}.png") for number in range(2)]
        with pytest.raises(BoundsError, match=setting):
            await AIModelClient(chat_endpoint(provider.url), config).generate(Message.user("?", *urls))
        assert provider.requests == []
