"""Files both ways: what they are, told by their bytes; how they are kept; and who fetches those behind a URL."""

import io
import sys
import zipfile
from pathlib import Path

import pytest
from pydantic import SecretStr

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    ConversationManager,
    ConversationNode,
    ConversionPolicy,
    Dialect,
    FilePart,
    Message,
    Origin,
    PromptFormatter,
    ToolResultPart,
)
from dhenara_async.downloads.inlining import INLINED, fetches, inlined, key_of, stand_in, to_download
from dhenara_async.errors import ConfigurationError, UnsupportedError
from dhenara_async.hosts.registry import driver_for
from dhenara_async.messages.media import kind_of, settled, sniffed
from dhenara_async.request import ChatRequest
from tests.cases import cases
from tests.loopback import chat_body, chat_endpoint, replies, serve, whole

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF" + b"\0" * 40
GIF = b"GIF89a" + b"\0" * 40
WEBP = b"RIFF\x24\0\0\0WEBPVP8 " + b"\0" * 40
PDF = b"%PDF-1.7\n" + b"\0" * 40
WAV = b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 40
MP3 = b"ID3\x03\0\0\0\0\0\0" + b"\0" * 40
MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0" * 40
WEBM = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm"


def docx() -> bytes:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as archive:
        archive.writestr("[Content_Types].xml", "x")
        archive.writestr("word/document.xml", "x")
    return kept.getvalue()


DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra ``files`` were not installed."""
    monkeypatch.setitem(sys.modules, "filetype", None)


# --------------------------------------------------------------------------------------------------------- what it is


@pytest.mark.parametrize(
    ("data", "filename", "told"),
    [
        (PNG, None, "image/png"),
        (JPEG, None, "image/jpeg"),
        (GIF, None, "image/gif"),
        (WEBP, None, "image/webp"),
        (PDF, None, "application/pdf"),
        (WAV, None, "audio/wav"),
        (MP3, None, "audio/mpeg"),
        (MP4, None, "video/mp4"),
        (WEBM, None, "video/webm"),
        (docx(), None, DOCX),
        # the bytes win over the name
        (JPEG, "cat.png", "image/jpeg"),
        (PNG, "paper.pdf", "image/png"),
        (PDF, "notes.txt", "application/pdf"),
        # the name decides among what begins alike
        (MP4, "song.m4a", "audio/mp4"),
        (docx(), "report.docx", DOCX),
        # words have no signature, whatever they begin with
        (b"Hello.", None, "text/plain"),
        (b"BMW is a maker of cars.", None, "text/plain"),
        (b"MZ and ID3", "a.txt", "text/plain"),
        (b"ID3 tags, explained", "tags.md", "text/markdown"),
        (b"a,b\n1,2\n", "t.csv", "text/csv"),
        (b"let x: number", "main.ts", "text/plain"),
        ("Zürich".encode(), "Makefile", "text/plain"),
        (b'{"a": 1}', "x.json", "application/json"),
        # nothing but the name tells
        (b"\x01\x02\xff", "x.docx", DOCX),
    ],
)
def test_the_media_type_is_detected_from_the_bytes(data: bytes, filename: str | None, told: str) -> None:
    part = FilePart.from_bytes(data, filename=filename)
    assert (part.media_type, part.data, part.size, part.filename) == (told, data, len(data), filename)


@pytest.mark.parametrize(
    ("data", "declared", "kept"),
    [
        (PNG, "image/png", "image/png"),
        (PNG, "IMAGE/PNG; q=1", "image/png"),
        (JPEG, "image/jpg", "image/jpeg"),
        (WEBP, "image/*", "image/webp"),
        (PNG, "application/octet-stream", "image/png"),
        (MP4, "audio/mp4", "audio/mp4"),
        (WAV, "audio/x-wav", "audio/wav"),
        (docx(), DOCX, DOCX),
        (b"BM, of all words", "text/markdown", "text/markdown"),
        (b"\x01\x02\xff", "audio/pcm", "audio/pcm"),
        (b"?", "application/x-unheard-of", "application/x-unheard-of"),
    ],
)
def test_a_declared_media_type_is_kept_if_the_bytes_agree(data: bytes, declared: str, kept: str) -> None:
    assert FilePart.from_bytes(data, media_type=declared).media_type == kept


@pytest.mark.parametrize(
    ("data", "declared", "words"),
    [
        (PNG, "image/jpeg", "cannot use the file: the bytes are image/png, not image/jpeg as declared"),
        (PNG, "text/plain", "are image/png, not text/plain"),
        (PDF, "image/png", "are application/pdf, not image/png"),
        (PDF, "image/*", r"are application/pdf, not image/\*"),
        (WAV, "image/webp", "are audio/wav, not image/webp"),
        (MP4, "audio/mpeg", "are video/mp4, not audio/mpeg"),
        (docx(), "application/pdf", "not application/pdf"),
        (b"<html>", "image/png", "the bytes are not image/png"),
        (b"<html>", "application/pdf", "the bytes are not application/pdf"),
        (b"", "image/png", "as image/png: the file is empty"),
        (b"", None, "is empty"),
        ("Grüße".encode("latin-1"), "text/plain", "must be UTF-8; byte 2"),
        (b"\x01\x02\xff", None, "cannot tell the media type"),
        (b"\x01\x02\xff", "nonsense", "pattern"),
    ],
)
def test_bytes_that_contradict_the_declared_media_type_are_refused(
    data: bytes, declared: str | None, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        FilePart.from_bytes(data, media_type=declared)


def test_the_media_type_of_a_path_is_detected_from_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(JPEG)
    part = FilePart.from_path(path)
    assert (part.media_type, part.data, part.filename) == ("image/jpeg", JPEG, "cat.png")
    with pytest.raises(ConfigurationError, match=r"cannot use .*cat\.png.* are image/jpeg, not image/png"):
        FilePart.from_path(path, media_type="image/png")


def test_the_media_type_of_a_data_url_is_checked_against_its_bytes() -> None:
    url = "data:application/octet-stream;base64," + FilePart.from_bytes(PNG).get_base64()
    assert FilePart.from_url(url).media_type == "image/png"
    assert FilePart.from_url(url, media_type="image/png").data == PNG
    with pytest.raises(ConfigurationError, match="not image/gif"):
        FilePart.from_url(url, media_type="image/gif")
    with pytest.raises(ConfigurationError, match="base64 is broken"):
        FilePart.from_url("data:text/plain;base64,ä")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "javascript:1", "data:image/png;base64,AA", ""])
def test_a_url_with_an_unsupported_scheme_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="starts with https"):
        FilePart(media_type="image/png", url=url)


@pytest.mark.parametrize("scheme", ["https", "http", "gs", "HTTPS"])
def test_a_file_part_keeps_a_url_with_a_supported_scheme(scheme: str) -> None:
    url = f"{scheme}://host.test/x.png"
    part = FilePart(media_type="image/png", url=url)
    assert (part.url, part.size, part.kind, part.get_base64(), part.get_text()) == (url, None, "image", "", "")


@pytest.mark.parametrize(
    ("media_type", "kind"),
    [
        *(("image/png", "image"), ("image/*", "image"), ("application/pdf", "pdf"), ("text/html", "text")),
        *(("application/json", "text"), ("application/atom+xml", "text"), ("audio/L16;rate=24000", "audio")),
        *(("video/mp4", "video"), ("application/zip", "other"), ("model/gltf", "other"), ("image/svg+xml", "image")),
    ],
)
def test_each_media_type_has_its_kind(media_type: str, kind: str) -> None:
    assert kind_of(media_type) == kind


# --------------------------------------------------------------------------------------------------- without the extra


@pytest.mark.usefixtures("without_library")
def test_common_signatures_are_detected_without_the_filetype_library() -> None:
    for data, told in ((PNG, "image/png"), (JPEG, "image/jpeg"), (GIF, "image/gif"), (WEBP, "image/webp")):
        assert FilePart.from_bytes(data).media_type == told
    assert FilePart.from_bytes(PDF, filename="x.txt").media_type == "application/pdf"
    with pytest.raises(ConfigurationError, match="not image/jpeg"):
        FilePart.from_bytes(PNG, media_type="image/jpeg")
    # the rest is believed
    assert sniffed(MP4) is None
    assert FilePart.from_bytes(MP4, filename="film.mp4").media_type == "video/mp4"
    assert FilePart.from_bytes(WAV, media_type="audio/wav").media_type == "audio/wav"
    with pytest.raises(ConfigurationError, match="cannot tell"):
        settled(MP4)


def test_the_filetype_library_is_imported_at_the_first_detection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "filetype", raising=False)
    FilePart(media_type="image/png", data=PNG)
    FilePart.from_url("https://host.test/x.png")
    assert "filetype" not in sys.modules
    FilePart.from_bytes(PNG)
    assert "filetype" in sys.modules


# ------------------------------------------------------------------------------------------------------------ keeping


@pytest.mark.parametrize("data", [PNG, bytes(range(256)) * 3, b"x", b"\xff\xfe\xfd"])
def test_file_parts_round_trip_through_json_byte_for_byte(data: bytes) -> None:
    part = FilePart(media_type="application/x-any", data=data, filename="ü")
    text = part.model_dump_json()
    again = FilePart.model_validate_json(text)
    assert (again, again.data, again.model_dump_json()) == (part, data, text)
    node = ConversationNode(user_query="?", attached_files=[part])
    assert ConversationNode.model_validate_json(node.model_dump_json()) == node


def test_invalid_files_of_a_provider_round_trip_unchanged() -> None:
    """A stored conversation opens again even if a file contradicts its media type."""
    origin = Origin(provider="google_ai", dialect="gemini", endpoint="h", account=None, model="m")
    for made in (
        {"media_type": "image/png", "data": b"not a png"},
        {"media_type": "audio/L16;codec=pcm;rate=24000", "data": b""},
        {"media_type": "text/plain", "data": b"\xff"},
        {"media_type": "", "url": "blob:x"},
    ):
        part = FilePart.model_construct(None, type="file", origin=origin, **made)
        again = FilePart.model_validate_json(part.model_dump_json())
        assert (again.data, again.url, again.media_type) == (made.get("data"), made.get("url"), made["media_type"])
        assert isinstance(again.get_text(), str)


def test_a_file_is_saved_only_at_the_given_path(tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    assert FilePart.from_bytes(PNG, filename="../../elsewhere.png").save(target) == target
    assert target.read_bytes() == PNG
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    with pytest.raises(ConfigurationError, match="cannot save a file that is only a URL"):
        FilePart.from_url("https://host.test/x.png").save(target)
    with pytest.raises(ConfigurationError, match="cannot write"):
        FilePart.from_bytes(PNG).save(tmp_path)


async def test_a_turn_accepts_file_parts_bytes_paths_and_data_urls(tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text("# Notes", encoding="utf-8")
    given = [
        FilePart.from_bytes(PNG),
        JPEG,
        path,
        "data:image/png;base64," + FilePart.from_bytes(PNG).get_base64(),
    ]
    async with serve(replies(whole(chat_body("Yes.")))) as provider, ConversationManager() as manager:
        conversation = await manager.create()
        node = await manager.ask(conversation, "Same?", chat_endpoint(provider.url), files=given)
        kinds = [part.media_type for part in node.attached_files]
        assert kinds == ["image/png", "image/jpeg", "text/markdown", "image/png"]
        for wrong in ("x.png", b"x", path, FilePart.from_bytes(PNG)):
            with pytest.raises(ConfigurationError, match="files is a sequence"):
                manager.turn(conversation, "?", chat_endpoint(provider.url), files=wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------- who fetches

_P = AIModelAPIProviderEnum
_D = Dialect


def endpoint(
    provider: AIModelAPIProviderEnum, model: str, dialect: Dialect | None = None, base_url: str | None = None
) -> AIModelEndpoint:
    api = AIModelAPI(provider=provider, api_key=SecretStr("key"), base_url=base_url, dialect=dialect)
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))


_TARGETS = {
    "responses": endpoint(_P.OPEN_AI, "gpt-6-sol"),
    "chat": endpoint(_P.OPEN_AI, "gpt-4o-mini", _D.OPENAI_CHAT),
    "messages": endpoint(_P.ANTHROPIC, "claude-opus-5-5"),
    "gemini 3": endpoint(_P.GOOGLE_AI, "gemini-3.8-flash"),
    "gemini 2.5": endpoint(_P.GOOGLE_AI, "gemini-2.5-flash"),
    "gemini 2": endpoint(_P.GOOGLE_AI, "models/gemini-2.0-flash"),
    "mistral": endpoint(_P.MISTRAL, "mistral-large-latest"),
    "openrouter": endpoint(_P.OPENROUTER, "openai/gpt-6"),
    "ollama": endpoint(_P.OLLAMA, "llava"),
    "ollama's cloud": endpoint(_P.OLLAMA, "llava", base_url="https://ollama.com/v1"),
    "loopback": endpoint(_P.OPENAI_COMPATIBLE, "m", base_url="http://127.0.0.1:8000/v1"),
    "at home": endpoint(_P.OPENAI_COMPATIBLE, "m", base_url="http://nas.local/v1"),
    "in a cluster": endpoint(_P.OPENAI_COMPATIBLE, "m", base_url="http://vllm:8000/v1"),
    "next door": endpoint(_P.OPENAI_COMPATIBLE, "m", base_url="http://[fd00::1]:8000/v1"),
    "elsewhere": endpoint(_P.OPENAI_COMPATIBLE, "m", base_url="https://llm.example.com/v1"),
}
_LINKS = {
    "image": FilePart(media_type="image/png", url="https://host.test/x.png"),
    "any image": FilePart(media_type="image/*", url="https://host.test/x"),
    "pdf": FilePart(media_type="application/pdf", url="https://host.test/x.pdf"),
    "text": FilePart(media_type="text/plain", url="https://host.test/x.txt"),
    "audio": FilePart(media_type="audio/mpeg", url="https://host.test/x.mp3"),
    "video": FilePart(media_type="video/mp4", url="https://host.test/x.mp4"),
    "http image": FilePart(media_type="image/png", url="http://host.test/x.png"),
    "bucket": FilePart(media_type="image/png", url="gs://bucket/x.png"),
    "youtube": FilePart(media_type="video/mp4", url="https://www.youtube.com/watch?v=x"),
    "google's store": FilePart(media_type="image/png", url="https://generativelanguage.googleapis.com/v1beta/files/x"),
}
_IMAGES = {"image", "any image", "http image", "google's store"}
_GOOGLES = {"bucket", "youtube", "google's store"}
_FETCHED: dict[str, set[str]] = {
    "responses": {*_IMAGES, "pdf", "text"},
    "chat": _IMAGES,
    "messages": {"image", "any image", "pdf", "google's store"},
    "gemini 3": {"image", "any image", "pdf", "text", "audio", "video", *_GOOGLES},
    "gemini 2.5": _GOOGLES,
    "gemini 2": _GOOGLES,
    "mistral": {*_IMAGES, "pdf"},
    "openrouter": {*_IMAGES, "pdf"},
    "elsewhere": _IMAGES,
}


@pytest.mark.parametrize("target", _TARGETS)
def test_each_target_fetches_the_urls_of_its_row(target: str) -> None:
    told = {name for name, part in _LINKS.items() if fetches(_TARGETS[target], part)}
    assert told == _FETCHED.get(target, set())
    assert fetches(_TARGETS[target], FilePart.from_bytes(PNG))
    assert fetches(_TARGETS[target], FilePart(media_type="image/png", file_id="file-1"))


@pytest.mark.parametrize("target", _FETCHED)
def test_a_url_that_a_target_fetches_is_in_its_request(target: str) -> None:
    """Drivers encode each URL that the table says the target fetches."""
    where = _TARGETS[target]
    with cases() as case:
        for link in sorted(_FETCHED[target]):
            with case(link):
                part = _LINKS[link]
                spelled = FilePart.model_construct(**part.model_dump())
                wire = driver_for(where).encode(_asked(spelled), where)
                assert part.url is not None
                assert part.url.encode() in wire.body


def _asked(part: FilePart) -> ChatRequest:
    return ChatRequest.of([Message.user("?", part)], instructions=(), config=AIModelCallConfig(), stream=False)


def test_the_conversion_report_lists_the_files_to_download() -> None:
    messages = [
        Message.user("First.", _LINKS["image"]),
        Message.assistant("Yes."),
        Message.user("Then.", _LINKS["pdf"], FilePart.from_bytes(PNG), _LINKS["image"]),
    ]
    where = _TARGETS["gemini 2.5"]
    formatted = PromptFormatter.format_messages(messages, where, policy=ConversionPolicy(strict=True))
    told = [(entry.code, entry.severity, entry.message, entry.part) for entry in formatted.report.entries]
    assert told == [(INLINED, "degraded", 0, 1), (INLINED, "degraded", 2, 1), (INLINED, "degraded", 2, 3)]
    assert PromptFormatter.format_messages(messages, _TARGETS["gemini 3"]).report.entries == ()
    assert to_download(formatted.messages, where) == (_LINKS["image"], _LINKS["pdf"])


def test_inlining_returns_messages_without_urls_unchanged() -> None:
    plain = (Message.user("Hi.", FilePart.from_bytes(PNG)), Message.assistant("Hello."))
    assert all(new is old for new, old in zip(inlined(plain, {}), plain, strict=True))
    part = _LINKS["image"]
    result = ToolResultPart(call_id="1", content=(part,))
    (message,) = inlined([Message.user("a", result, part)], {key_of(part): FilePart.from_bytes(PNG)})
    assert message.parts[2] == FilePart.from_bytes(PNG)


def test_the_media_type_of_a_url_is_guessed_from_its_path() -> None:
    for path, told in {
        "x.png?type=.pdf": "image/png",
        "a.b/x.WEBP": "image/webp",
        "notes%2Emd": "text/markdown",
        "x.docx": DOCX,
        "a.png/x": "image/*",
        "": "image/*",
        "x.unheard-of": "image/*",
    }.items():
        assert FilePart.from_url(f"https://host.test/{path}").media_type == told
    assert FilePart.from_url("https://host.test/x.png", media_type="Image/JPG").media_type == "image/jpeg"
    with pytest.raises(ConfigurationError, match="pattern"):
        FilePart.from_url("https://host.test/x.png", media_type="picture")


@pytest.mark.parametrize("link", _LINKS)
def test_a_stand_in_has_the_kind_of_the_file_it_replaces(link: str) -> None:
    part = stand_in(_LINKS[link])
    assert (part.url, part.kind) == (None, _LINKS[link].kind)
    assert FilePart.model_validate_json(part.model_dump_json()) == part


async def test_a_file_that_the_model_does_not_support_is_refused_before_its_download() -> None:
    film = FilePart.from_url("https://host.test/film.mp4")
    with pytest.raises(UnsupportedError, match="claude-opus-5-5"):
        AIModelClient(_TARGETS["messages"]).stream(Message.user("What happens?", film))
