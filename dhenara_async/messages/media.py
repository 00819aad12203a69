"""What a file is: told from its bytes where they tell, else from what it is said to be.

Signatures are read by `filetype` (the extra ``files``); without it, the few that every provider takes are known here.
A text has no signature, so what decodes as UTF-8 without a NUL is a text whatever its first letters look like.

Source: https://www.iana.org/assignments/media-types (read 2026-11-22)
"""

from collections.abc import Callable
from importlib import import_module
from typing import Literal, cast

from dhenara_async.errors import ConfigurationError

Kind = Literal["image", "pdf", "text", "audio", "video", "other"]

ANY_IMAGE = "image/*"
"""The type of a picture whose format is not known yet."""

_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
    "application/pdf": (b"%PDF-",),
}
_WEBP = slice(8, 12), b"WEBP"  # a RIFF file says behind its length what it holds

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
# Containers: the signature tells the family, the name which of them it is.
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
# Extensions that Python does not know in every version of it.
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
    """``media_type`` under its usual name, parameters and upper case gone."""
    bare = media_type.partition(";")[0].strip().lower()
    return _ALIASES.get(bare, bare)


def kind_of(media_type: str) -> Kind:
    """What sort of thing a media type is."""
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
    """Refuse what every provider would refuse, while nothing is sent yet.

    Raises:
        ValueError: It is empty, does not begin as its type does, or is a text that is not UTF-8.
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
    """What the first bytes say the file is; None where they say nothing, as those of a text."""
    guess = _sniffer()
    found = _known(data) if guess is None else guess(data)
    if found is None:
        return None
    found = normalized(found)
    # words can begin like a bitmap (BM), a program (MZ) or a song (ID3)
    return None if found not in _SIGNATURES and _is_text(data) else found


def settled(data: bytes, *, declared: str | None = None, filename: str | None = None) -> str:
    """The media type of ``data``.

    Args:
        data: The file.
        declared: What somebody says it is. It decides among formats that begin alike; None = nobody said anything.
        filename: Its name, whose extension is the weakest witness.

    Raises:
        ConfigurationError: The bytes are something else than they are declared to be, or nobody can tell what.
    """
    found = sniffed(data)
    claimed = None if declared is None else normalized(declared)
    if claimed is not None and claimed != "application/octet-stream":  # which says only that nobody has looked
        if not _agree(claimed, found):
            raise ConfigurationError(f"the bytes are {found}, not {claimed} as declared")
        return found if found is not None and "*" in claimed else claimed
    claimed = by_extension(filename)
    if claimed is not None and kind_of(claimed) in ("audio", "video") and _is_text(data):
        claimed = None  # .ts is a kind of film to some and TypeScript to others
    if claimed is not None and _agree(claimed, found):
        return claimed
    if found is not None:
        return found
    if _is_text(data):
        return "text/plain"
    raise ConfigurationError("cannot tell the media type from the bytes; pass media_type=")


def downloaded(data: bytes, *, declared: str, told: str) -> str:
    """The media type of a file that came from a URL.

    Hosts serve one picture in whatever format they like and label files carelessly, so among formats of one kind the
    bytes decide, and the host's word counts only against a type that bytes cannot prove.

    Args:
        data: The file.
        declared: What the caller, or the URL's extension, says it is; ``image/*`` for any picture.
        told: What the host's ``content-type`` says.

    Raises:
        ConfigurationError: It is another kind of file.
    """
    found, claimed, told = sniffed(data), normalized(declared), normalized(told)
    if found is None and kind_of(claimed) != "text" and _is_text(data) and not claimed.endswith(("+xml", "+json")):
        found = told if kind_of(told) == "text" else "text/plain"  # an error page, or a login
    if found is None and "*" in claimed:
        found = told or "application/octet-stream"
    if found is None or (_agree(claimed, found) and "*" not in claimed):
        return claimed
    if kind_of(found) != kind_of(claimed):
        raise ConfigurationError(f"it is {found}, not {claimed} as declared")
    return found


def _agree(claimed: str, found: str | None) -> bool:
    """Whether bytes that say ``found`` of themselves may be ``claimed``; both are usual names."""
    if found is None or found == claimed or (claimed.endswith("/*") and found.startswith(claimed[:-1])):
        return True
    if found == _ZIP and claimed.startswith(_IN_ZIP):
        return True
    return any(claimed in family and found in family for family in _FAMILIES)


def placeholder(media_type: str) -> bytes:
    """A few bytes that pass for a file of this type: to try out a request whose files are not here yet."""
    signatures = _SIGNATURES.get(normalized(media_type))
    if signatures is None:
        return b"?"
    return signatures[0] + (b"\0\0\0\0WEBP" if media_type == "image/webp" else b"")


def _begins(data: bytes, media_type: str, signatures: tuple[bytes, ...]) -> bool:
    where, word = _WEBP
    return data.startswith(signatures) and (media_type != "image/webp" or data[where] == word)


def _known(data: bytes) -> str | None:
    """What can be told without a library."""
    return next((kind for kind, starts in _SIGNATURES.items() if _begins(data, kind, starts)), None)


def _sniffer() -> Callable[[bytes], str | None] | None:
    """The library's eye; None where the extra ``files`` is not installed."""
    try:
        library = import_module("filetype")
    except ImportError:
        return None
    return cast("Callable[[bytes], str | None]", library.guess_mime)


def by_extension(name: str | None) -> str | None:
    """What a file's name, or the path of a URL, says it is; None where it says nothing.

    The same on every machine: tables of the system, where ``.ts`` is anything but TypeScript, are not asked.
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
