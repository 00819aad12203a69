"""Where calls go: names of hosts as browsers spell them, and base URLs and model names that stay where they belong."""

import pytest

from dhenara_async import AIModel, AIModelAPI, AIModelClient, AIModelEndpoint, FetchPolicy
from dhenara_async.downloads.file_urls import download_address
from dhenara_async.errors import ConfigurationError, ServerError
from dhenara_async.hosts.addresses import ascii_host
from dhenara_async.hosts.registry import expected_origin, resolve
from dhenara_async.testing import ReplayTransport
from tests.loopback import ONCE

LABEL = "k" * 63


def api(base_url: str, *, key: str | None = "some-key", provider: str = "openai_compatible") -> AIModelEndpoint:
    made = AIModelAPI(provider=provider, api_key=key, base_url=base_url)
    return AIModelEndpoint(api=made, ai_model=AIModel(model_name="m"))


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("api.example", "api.example"),
        ("API.Example.", "api.example."),
        ("my_host-1", "my_host-1"),
        ("größe.example", "xn--gre-6ka8i.example"),
        ("GRÖSSE.example", "xn--grsse-kua.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("☂.example", "xn--m3h.example"),
        ("xn--m3h.example", "xn--m3h.example"),
        ("\uff110.0.0.\uff11", "10.0.0.1"),
        ("soft\u00adhyphen.example", "softhyphen.example"),
        (f"{LABEL}.example", f"{LABEL}.example"),
        ("2001:DB8::1", "2001:db8::1"),
    ],
)
def test_host_names_are_converted_to_ascii(name: str, spelled: str) -> None:
    assert ascii_host(name) == spelled


NAMES_THAT_ARE_NONE = {
    "": "empty label",
    ".example": "empty label",
    "a..example": "empty label",
    "a。。example": "empty label",
    f"{LABEL}k.example": "more than 63",
    f"{'ö' * 60}.example": "more than 63",
    ".".join(["k" * 60] * 5): "more than 253",
    "xn--ö.example": "no host name has",
    "xn--99999999.example": "not punycode",
    "xn--.example": "not punycode",
    "xn--abc-.example": "not punycode",
    "xn--a.example": "not punycode",
    "a b.example": "no host name has",
    "a%41.example": "no host name has",
    "\u0301a.example": "no host name has",
    "a\ud800.example": "no host name has",
    "a\u200d.example": "no host name has",
    "1::2::3": "IPv6",
}


@pytest.mark.parametrize(("name", "why"), NAMES_THAT_ARE_NONE.items(), ids=repr)
def test_invalid_host_names_are_refused(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        ascii_host(name)
    assert type(caught.value) is ValueError  # not one of a library's own


@pytest.mark.parametrize("name", [name for name in NAMES_THAT_ARE_NONE if name and ":" not in name], ids=repr)
async def test_errors_about_a_host_name_the_base_url_or_the_file(name: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url of openai_compatible"):
        await AIModelClient(api(f"https://{name}/v1")).generate("Hi.")
    with pytest.raises(ConfigurationError, match="file URL"):
        download_address(f"https://{name}/x.png", FetchPolicy())


def test_a_base_url_is_encoded_in_requests_and_in_stored_origins() -> None:
    endpoint = api("https://größe.example:8443/straße/v1/")
    assert resolve(endpoint).base_url == "https://xn--gre-6ka8i.example:8443/stra%C3%9Fe/v1"
    assert resolve(endpoint).origin == expected_origin(endpoint)
    assert expected_origin(endpoint).endpoint == "xn--gre-6ka8i.example:8443"


@pytest.mark.parametrize("path", ["/v1/../admin", "/..", "/./v1", "/%2e%2E/v1", "/v1/.%2e/x", "/a\\..\\v1"])
async def test_a_base_url_with_dot_segments_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        await AIModelClient(api(f"https://host.example{path}")).generate("Hi.")


def test_errors_about_a_base_url_do_not_quote_its_password() -> None:
    for url in ("https://me:hunter22@host:port/v1", "me:hunter22@host/v1", "https://me:hunter22@ho..st/v1"):
        endpoint = api(url)
        with pytest.raises(ConfigurationError) as caught:
            resolve(endpoint)
        assert "hunter22" not in f"{caught.value!r} {caught.value.__cause__!r} {endpoint!r} {endpoint}"


# ---------------------------------------------------------------------------------------------------------- model names


async def path_of(model: str) -> str:
    """Where a Gemini call of ``model`` goes."""
    made = AIModelAPI(provider="google_ai", api_key="some-key", base_url="https://g.example")
    replay = ReplayTransport(b"{}", status=500)
    with pytest.raises(ServerError):
        endpoint = AIModelEndpoint(api=made, ai_model=AIModel(model_name=model))
        await AIModelClient(endpoint, ONCE, transport=replay).generate("?")
    return replay.requests[0].url.removeprefix("https://g.example/v1beta/").partition(":")[0]


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-9", "models/gemini-9"),
        ("models/gemini-9", "models/gemini-9"),
        ("tunedModels/mine", "tunedModels/mine"),
        ("publishers/google/models/gemini-9", "publishers/google/models/gemini-9"),
        ("projects/p/locations/l/endpoints/7", "projects/p/locations/l/endpoints/7"),
        ("projects/p/locations/l/publishers/g/models/m", "projects/p/locations/l/publishers/g/models/m"),
        ("files/secret", "models/files%2Fsecret"),
        ("models/a/b", "models/models%2Fa%2Fb"),
        ("a//b", "models/a%2F%2Fb"),
        ("m?key=x#y", "models/m%3Fkey%3Dx%23y"),
        ("%2e%2e", "models/%252e%252e"),
        ("a\\..\\b", "models/a%5C..%5Cb"),
        ("m:generateContent", "models/m%3AgenerateContent"),
        ("a\r\nhost: b", "models/a%0D%0Ahost%3A%20b"),
    ],
)
async def test_a_model_name_is_encoded_in_the_path(model: str, path: str) -> None:
    assert await path_of(model) == path


@pytest.mark.parametrize("model", ["..", ".", "models/..", "models/../../files/x", "tunedModels/.", "../x"])
async def test_a_model_name_with_dot_segments_is_refused(model: str) -> None:
    with pytest.raises(ConfigurationError, match="leave the API's path"):
        await path_of(model)


def test_valid_base_urls_are_unchanged() -> None:
    assert resolve(api("http://10.0.0.1:8000/v1")).base_url == "http://10.0.0.1:8000/v1"
    assert resolve(api("http://[::1]:8000/v1")).base_url == "http://[::1]:8000/v1"
    assert expected_origin(api("https://API.Example/v1")).endpoint == "API.Example"
