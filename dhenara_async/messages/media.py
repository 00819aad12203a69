"""Detects the media type of a file: from its bytes if possible, else from its declared type and its name.

`filetype` (the extra ``files``) reads the signatures; without it, only the types that every provider accepts are
detected. A text has no signature: bytes that decode as UTF-8 without a NUL are a text, whatever they begin with.

Source: https://www.iana.org/assignments/media-types (read 2026-11-22)
"""

from collections.abc import Callable
from importlib import import_module
from typing import Literal, cast

from dhenara_async.errors import ConfigurationError

FileKind = Literal["image", "pdf", "text", "audio", "video", "other"]

ANY_IMAGE = "image/*"
"""The media type of an image of unknown format."""

_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
    "application/pdf": (b"%PDF-",),
}
_WEBP = slice(8, 12), b"WEBP"  # a RIFF file has its format after its length

# Other names of the same types.
_ALIASES = {
    "application/x-pdf": "application/pdf",
    "audio/mp3": "audio/mpeg",
    "audio/vnd.wave": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4",
    "audio/x-wav": "audio/wav",
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "video/x-m4v": "video/mp4",
}
# Container formats: the signature identifies the family, the extension the member.
_FAMILIES = (
    frozenset({"audio/mp4", "audio/aac", "video/mp4", "video/quicktime", "video/3gpp", "audio/3gpp"}),
    frozenset({"audio/ogg", "audio/opus", "video/ogg", "application/ogg"}),
    frozenset({"audio/webm", "video/webm", "video/x-matroska", "audio/x-matroska"}),
    frozenset({"image/heic", "image/heif", "image/avif"}),
    frozenset({"application/rtf", "text/rtf"}),
)
_ZIP = "application/zip"
_IN_ZIP = ("application/vnd.openxmlformats-", "application/vnd.oasis.", "application/epub+zip", "application/java")
_OFFICE = "application/vnd.openxmlformats-officedocument."
# Extensions that are missing in some Python versions.
_EXTENSIONS = {
    "aac": "audio/aac",
    "avif": "image/avif",
    "docx": f"{_OFFICE}wordprocessingml.document",
    "flac": "audio/flac",
    "heic": "image/heic",
    "m4a": "audio/mp4",
    "markdown": "text/markdown",
    "md": "text/markdown",
    "ogg": "audio/ogg",
    "opus": "audio/opus",
    "pptx": f"{_OFFICE}presentationml.presentation",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webp": "image/webp",
    "xlsx": f"{_OFFICE}spreadsheetml.sheet",
}
_TEXTS = ("/json", "+json", "/xml", "+xml", "/javascript", "/yaml", "/x-yaml", "/toml", "/sql", "/x-sh")


def normalized(media_type: str) -> str:
    """Return ``media_type`` by its usual name, in lower case and without parameters."""
    bare = media_type.partition(";")[0].strip().lower()
    return _ALIASES.get(bare, bare)


def kind_of(media_type: str) -> FileKind:
    """Return the kind of a media type."""
    bare = normalized(media_type)
    if bare == "application/pdf":
        return "pdf"
    match bare.partition("/")[0]:
        case "image":
            return "image"
        case "audio":
            return "audio"
        case "video":
            return "video"
        case "text":
            return "text"
        case _:
            return "text" if bare.endswith(_TEXTS) else "other"


def check_signature(data: bytes, media_type: str) -> None:
    """Check a file for errors that every provider rejects.

    Raises:
        ValueError: It is empty, has another signature than its type, or is a text but not UTF-8.
    """
    if not data:
        raise ValueError("the file is empty")
    signatures = _SIGNATURES.get(media_type)
    if signatures and not _begins(data, media_type, signatures):
        raise ValueError(f"the bytes are not {media_type}")
    if media_type.startswith("text/"):
        try:
            data.decode()
        except UnicodeDecodeError as exc:
            raise ValueError(f"a text file must be UTF-8; byte {exc.start} is not") from exc


def sniffed(data: bytes) -> str | None:
    """Detect the media type by the signature; None if there is no signature, as for a text."""
    guess = _sniffer()
    found = _known(data) if guess is None else guess(data)
    if found is None:
        return None
    found = normalized(found)
    # a text can begin with the signature of a bitmap (BM), a program (MZ) or a song (ID3)
    return None if found not in _SIGNATURES and _is_text(data) else found


def settled(data: bytes, *, declared: str | None = None, filename: str | None = None) -> str:
    """Determine the media type of ``data``.

    Args:
        data: The file.
        declared: The declared type, which decides among formats with the same signature; None = not declared.
        filename: The file's name; its extension is used only if bytes and ``declared`` do not decide.

    Raises:
        ConfigurationError: The bytes contradict the declared type, or the type cannot be detected.
    """
    found = sniffed(data)
    claimed = None if declared is None else normalized(declared)
    if claimed is not None and claimed != "application/octet-stream":  # which means "unknown"
        if not _agree(claimed, found):
            raise ConfigurationError(f"the bytes are {found}, not {claimed} as declared")
        return found if found is not None and "*" in claimed else claimed
    claimed = by_extension(filename)
    if claimed is not None and kind_of(claimed) in ("audio", "video") and _is_text(data):
        claimed = None  # .ts is both a video format and TypeScript
    if claimed is not None and _agree(claimed, found):
        return claimed
    if found is not None:
        return found
    if _is_text(data):
        return "text/plain"
    raise ConfigurationError("cannot tell the media type from the bytes; pass media_type=")


def downloaded(data: bytes, *, declared: str, reported: str) -> str:
    """Determine the media type of a downloaded file.

    Hosts choose image formats freely and often send wrong types. So the bytes decide among formats of one kind, and
    the host's type matters only for types without a signature.

    Args:
        data: The file.
        declared: The type declared by the caller or by the URL's extension; ``image/*`` for any image.
        reported: The host's ``content-type``.

    Raises:
        ConfigurationError: It is another kind of file than declared.
    """
    found, claimed, reported = sniffed(data), normalized(declared), normalized(reported)
    if found is None and kind_of(claimed) != "text" and _is_text(data) and not claimed.endswith(("+xml", "+json")):
        found = reported if kind_of(reported) == "text" else "text/plain"  # an error page, or a login
    if found is None and "*" in claimed:
        found = reported or "application/octet-stream"
    if found is None or (_agree(claimed, found) and "*" not in claimed):
        return claimed
    if kind_of(found) != kind_of(claimed):
        raise ConfigurationError(f"it is {found}, not {claimed} as declared")
    return found


def _agree(claimed: str, found: str | None) -> bool:
    """Whether bytes detected as ``found`` may have the type ``claimed``; both normalized."""
    if found is None or found == claimed or (claimed.endswith("/*") and found.startswith(claimed[:-1])):
        return True
    if found == _ZIP and claimed.startswith(_IN_ZIP):
        return True
    return any(claimed in family and found in family for family in _FAMILIES)


def placeholder(media_type: str) -> bytes:
    """Return a few bytes with this type's signature, to encode a request whose files are not downloaded yet."""
    signatures = _SIGNATURES.get(normalized(media_type))
    if signatures is None:
        return b"?"
    return signatures[0] + (b"\0\0\0\0WEBP" if media_type == "image/webp" else b"")


def _begins(data: bytes, media_type: str, signatures: tuple[bytes, ...]) -> bool:
    where, word = _WEBP
    return data.startswith(signatures) and (media_type != "image/webp" or data[where] == word)


def _known(data: bytes) -> str | None:
    """Detect the media type without the library."""
    return next((kind for kind, starts in _SIGNATURES.items() if _begins(data, kind, starts)), None)


def _sniffer() -> Callable[[bytes], str | None] | None:
    """Return the library's detection function; None if the extra ``files`` is not installed."""
    try:
        library = import_module("filetype")
    except ImportError:
        return None
    return cast("Callable[[bytes], str | None]", library.guess_mime)


def by_extension(name: str | None) -> str | None:
    """Return the media type for the extension of a file name or URL path; None if unknown.

    The system's own tables are not used, so that the result is the same on every machine.
    """
    from mimetypes import MimeTypes

    if not name:
        return None
    last = name.rpartition("/")[2]
    own = _EXTENSIONS.get(last.rpartition(".")[2].lower()) if "." in last else None
    guessed = own or MimeTypes().guess_type(last)[0]
    return None if guessed is None else normalized(guessed)


def _is_text(data: bytes) -> bool:
    if b"\0" in data[:1024]:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
