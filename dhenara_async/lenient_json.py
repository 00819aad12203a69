"""JSON that some providers send and strict parsers refuse.

Accepted beyond RFC 8259: a byte order mark, ``NaN`` and ``Infinity`` (read as null), and half of a surrogate pair
(``"\\ud83d"`` alone), which JavaScript hosts write when they cut a text by UTF-16 units. The other half is often at the
start of the next event, so ``repaired`` keeps halves as stand-ins, private code points, until ``whole`` joins them.
"""

import json
import re
from typing import Final

import orjson

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SURROGATES = re.compile("[\ud800-\udfff]")
_OFFSET = 0x10F000 - 0xD800  # stand-ins are the end of Unicode's last private plane, which no known text uses
_HIGH, _LOW = "[\U0010f000-\U0010f3ff]", "[\U0010f400-\U0010f7ff]"
_PAIRS: Final = re.compile(_HIGH + _LOW)
_STAND_INS: Final = re.compile("[\U0010f000-\U0010f7ff]")
_HIGH_AT_END: Final = re.compile(_HIGH + r"\Z")


def loads(data: bytes) -> object:
    """The value of strict or nearly strict JSON; a half of a surrogate pair becomes U+FFFD.

    Raises:
        ValueError: It is neither.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        strict = repaired(data)
        if strict is None:
            raise
    return orjson.loads(whole(strict.decode()))


def repaired(data: bytes) -> bytes | None:
    """``data`` as strict JSON, halves of surrogate pairs as stand-ins; None if it cannot be read even so."""
    try:
        text = data.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "surrogatepass")
        value: object = json.loads(text, parse_constant=_null)
        strict = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None
    return _SURROGATES.sub(_stand_in, strict).encode()


def whole(text: str) -> str:
    """``text`` with neighbouring stand-ins joined to the character they are halves of, and U+FFFD for single ones."""
    if not has_halves(text):
        return text
    return _STAND_INS.sub("\ufffd", _PAIRS.sub(_joined, text))


def has_halves(text: str) -> bool:
    """Whether ``text`` holds a stand-in."""
    return _STAND_INS.search(text) is not None


def without_open_half(text: str) -> tuple[str, str]:
    """``text`` apart from a first half at its end, which the next piece of the same text may complete."""
    if _HIGH_AT_END.search(text) is None:
        return text, ""
    return text[:-1], text[-1]


def _null(constant: str) -> None:
    del constant


def _stand_in(found: re.Match[str]) -> str:
    return chr(ord(found[0]) + _OFFSET)


def _joined(found: re.Match[str]) -> str:
    halves = "".join(chr(ord(half) - _OFFSET) for half in found[0])
    return halves.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
