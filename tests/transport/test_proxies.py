"""Proxies of the environment: read as curl reads them, refused in words that name the variable, once."""

import traceback
from base64 import b64encode
from collections.abc import Mapping

import httpx
import pytest
from yarl import URL

from dhenara_async import AIModelClient, AiohttpTransport, HttpxTransport, Timeouts
from dhenara_async.errors import ConfigurationError, ConnectError
from dhenara_async.transport.proxies import proxy_for
from tests.loopback import ONCE, chat_body, chat_endpoint, replies, serve, whole

PASSWORD = "wicket-27-marmot"
HOST = "http://provider.invalid"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def set_to(monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("settings", "proxy"),
    [
        ({"HTTP_PROXY": "proxy.example:3128"}, "http://proxy.example:3128"),
        ({"http_proxy": "proxy.example"}, "http://proxy.example"),
        ({"HTTP_PROXY": "//proxy.example:1"}, "http://proxy.example:1"),
        ({"HTTP_PROXY": " HTTP://Proxy.Example:3128/ "}, "http://proxy.example:3128"),
        ({"HTTP_PROXY": "https://proxy.example:3129"}, "https://proxy.example:3129"),
        ({"HTTP_PROXY": "[::1]:3128"}, "http://[::1]:3128"),
        ({"HTTP_PROXY": "größe.example:3128"}, "http://xn--gre-6ka8i.example:3128"),
        ({"ALL_PROXY": "all.example:3128"}, "http://all.example:3128"),
        ({"ALL_PROXY": "socks5://all.example", "HTTP_PROXY": "http.example:1"}, "http://http.example:1"),
        ({"HTTPS_PROXY": "socks5://tls.example"}, None),
        ({"HTTP_PROXY": ""}, None),
        ({}, None),
    ],
)
def test_proxy_addresses_are_parsed(
    settings: Mapping[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to(monkeypatch, settings)
    found = proxy_for(URL(HOST))
    assert (None if found is None else str(found.address).removesuffix("/")) == proxy
    assert found is None or found.authorization is None


def test_a_proxys_user_and_password_become_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "me:pass%40word@proxy.example:3128")
    found = proxy_for(URL(HOST))
    assert found is not None
    assert str(found.address) == "http://proxy.example:3128"
    assert found.authorization == f"Basic {b64encode(b'me:pass@word').decode()}"
    assert "Basic" not in repr(found)


@pytest.mark.parametrize(
    ("no_proxy", "straight"),
    [
        ("*", True),
        ("provider.invalid", True),
        ("invalid", True),
        (".invalid", True),
        ("*.invalid", True),
        ("a.example, PROVIDER.invalid ", True),
        ("provider.invalid:80", True),
        ("provider.invalid:8080", False),
        ("vider.invalid", False),
        ("10.0.0.0/8", False),
        ("nonsense/99", False),
        (",,", False),
    ],
)
def test_no_proxy_matches_hosts(no_proxy: str, straight: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    set_to(monkeypatch, {"HTTP_PROXY": "socks5://all.example", "no_proxy": no_proxy})
    if straight:
        assert proxy_for(URL(HOST)) is None
    else:
        with pytest.raises(ConfigurationError):
            proxy_for(URL(HOST))


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [("10.1.2.3", "10.0.0.0/8"), ("[fd00::7]", "fd00::/8"), ("[::1]:8000", "[::1]:8000"), ("[::1]", "::1")],
)
def test_no_proxy_matches_addresses(host: str, no_proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_to(monkeypatch, {"ALL_PROXY": "socks5://all.example", "NO_PROXY": no_proxy})
    assert proxy_for(URL(f"http://{host}")) is None


WRONG: dict[str, tuple[Mapping[str, str], str]] = {
    "socks": ({"ALL_PROXY": f"socks5://me:{PASSWORD}@s.example:1080"}, "ALL_PROXY names a SOCKS proxy"),
    "socks in small letters": ({"all_proxy": f"socks5h://me:{PASSWORD}@s.example"}, "all_proxy names a SOCKS proxy"),
    "socks for http": ({"HTTP_PROXY": f"SOCKS4://{PASSWORD}"}, "HTTP_PROXY names a SOCKS proxy"),
    "another scheme": ({"HTTP_PROXY": f"ftp://me:{PASSWORD}@p.example"}, "HTTP_PROXY names a proxy of a scheme"),
    "no scheme": ({"HTTP_PROXY": "://p.example"}, "HTTP_PROXY names a proxy of a scheme"),
    "no host": ({"HTTP_PROXY": f"http://me:{PASSWORD}@"}, "HTTP_PROXY is not the address"),
    "no port": ({"HTTP_PROXY": f"http://me:{PASSWORD}@p.example:many"}, "HTTP_PROXY is not the address"),
    "a large port": ({"HTTP_PROXY": "p.example:99999"}, "HTTP_PROXY is not the address"),
    "a sharp password": ({"HTTP_PROXY": f"http://me:{PASSWORD}#1@p.example:3128"}, "HTTP_PROXY is not the address"),
    "brackets": ({"HTTP_PROXY": "http://[::1"}, "HTTP_PROXY is not the address"),
    "labels": ({"HTTP_PROXY": "http://p..example"}, "HTTP_PROXY is not the address"),
    "blanks": ({"HTTP_PROXY": "http://p q.example"}, "HTTP_PROXY is not the address"),
}


@pytest.mark.parametrize(("settings", "words"), WRONG.values(), ids=WRONG)
async def test_an_unusable_proxy_is_a_configuration_error(
    settings: Mapping[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to(monkeypatch, settings)
    for ask in (AIModelClient(chat_endpoint(HOST)).generate("Hi."), _warm_up()):
        with pytest.raises(ConfigurationError, match=words) as caught:
            await ask
        assert caught.value.attempts == 1
        assert PASSWORD not in "".join(traceback.format_exception(caught.value))
        frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__) if "/tests/" not in str(frame)]
        assert [frame for frame in frames if PASSWORD in repr(frame.f_locals)] == []


async def _warm_up() -> None:
    sender = AiohttpTransport()
    try:
        await sender.warm_up(HOST, Timeouts())
    finally:
        await sender.aclose()


async def test_a_proxy_without_a_scheme_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(replies(whole(chat_body("By proxy.")))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removeprefix("http://"))
        assert (await AIModelClient(chat_endpoint(HOST)).generate("Hi.")).text() == "By proxy."


@pytest.mark.parametrize("over", ["aiohttp", "httpx"])
async def test_a_refusal_of_a_proxy_is_not_retried(over: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(replies(whole(b"", 407))) as proxy:
        url = proxy.url.replace("http://", f"http://me:{PASSWORD}@")
        monkeypatch.setenv("HTTPS_PROXY", url)
        async with httpx.AsyncClient() as client:
            sender = HttpxTransport(client) if over == "httpx" else AiohttpTransport()
            with pytest.raises(ConnectError, match=r"proxy.*407") as caught:
                await AIModelClient(chat_endpoint("https://provider.invalid"), transport=sender).generate("Hi.")
            await sender.aclose()
        assert (caught.value.attempts, len(proxy.requests)) == (1, 1)
        assert proxy.requests[0].header("proxy-authorization")[0].startswith("Basic ")
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__cause__)
    assert proxy.requests[0].header("proxy-authorization")[0].removeprefix("Basic ") not in told
    assert PASSWORD not in told


async def test_an_unreachable_proxys_password_is_not_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{PASSWORD}@127.0.0.1:1")
    with pytest.raises(ConnectError, match="proxy") as caught:
        await AIModelClient(chat_endpoint(HOST), ONCE).generate("Hi.")
    assert (
        PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r} {vars(caught.value.__cause__ or caught.value)!r}"
    )
