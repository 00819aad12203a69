"""JSON that strict parsers and writers refuse: of providers, of models, and of callers.

Accepted beyond RFC 8259: a byte order mark, ``NaN`` and ``Infinity`` (read as null), and half of a surrogate pair
(``"\\ud83d"`` alone), which JavaScript hosts write when they cut a text by UTF-16 units. The other half is often at the
start of the next event, so ``repaired`` keeps halves as stand-ins, private code points, until ``whole`` joins them.

Integers have any size in JSON and in Python, but 64 bits in orjson, which reads longer ones as floats and writes none:
``read``, ``exact`` and ``dumps`` keep every digit.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, cast

import orjson

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SURROGATES = re.compile("[\ud800-\udfff]")
_OFFSET = 0x10F000 - 0xD800  # stand-ins are the end of Unicode's last private plane, which no known text uses
_HIGH, _LOW = "[\U0010f000-\U0010f3ff]", "[\U0010f400-\U0010f7ff]"
_PAIRS: Final = re.compile(_HIGH + _LOW)
_STAND_INS: Final = re.compile("[\U0010f000-\U0010f7ff]")
_HIGH_AT_END: Final = re.compile(_HIGH + r"\Z")
_ESCAPES: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_DIGITS_AS_ZEROS: Final = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else byte for byte in range(256))
_LONG_NUMBER: Final = b"0" * 19  # 64 bits hold every integer of fewer digits
_MOST_DIGITS = 4_000  # more of them Python reads only if it is told to, because that takes a time of their square


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


def read(text: str) -> object:
    """The value of JSON that a model wrote, every digit of its integers kept.

    Nearly strict JSON is read as by ``loads``. An integer of more than 4 000 digits is a float.

    Raises:
        ValueError: It is no JSON.
    """
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return _python_value(sound(text).removeprefix("\ufeff"))
        except RecursionError as exc:
            raise ValueError("the JSON is nested too deeply") from exc
    return exact(value, text)


def exact(value: object, written: str | bytes) -> object:
    """``value`` as ``written`` has it: orjson, which made it of that, reads integers beyond 64 bits as floats."""
    data = written.encode(errors="surrogatepass") if isinstance(written, str) else written
    if _LONG_NUMBER not in data.translate(_DIGITS_AS_ZEROS):
        return value
    try:
        return _python_value(written)
    except (ValueError, RecursionError):  # it reads deeper values than Python does
        return value


def strict(text: str) -> str:
    """``text``, or what ``read`` makes of it written anew where strict parsers refuse it.

    Raises:
        ValueError: It is no JSON.
    """
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return dumps(read(text)).decode()
    return text


def sound(text: str) -> str:
    """JSON text without halves of surrogate pairs, as characters or escaped: joined, or U+FFFD."""
    return _ESCAPES.sub(lambda found: "\\ufffd" if found[1] else found[0], well_formed(text))


def well_formed(text: str) -> str:
    """``text`` without halves of surrogate pairs: neighbours are joined, single ones become U+FFFD."""
    if text.isascii() or _SURROGATES.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def dumps(value: object) -> bytes:
    """``value`` as compact JSON: integers of any size, halves of surrogate pairs as U+FFFD, ``NaN`` as null.

    Raises:
        TypeError: It is no JSON value, or nested more than 254 deep.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(writable(value))


def text_of(value: object) -> str:
    """``value`` as ``dumps`` writes it, but with the halves that it holds: who sends the text says what became of them.

    Raises:
        TypeError: As for ``dumps``.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        pass
    try:
        return _STAND_INS.sub(_half, orjson.dumps(writable(value, _with_stand_ins)).decode())
    except TypeError:  # nested deeper than orjson writes
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def writable(value: object, text: Callable[[str], str] = well_formed) -> object:
    """``value`` as orjson writes it: its texts through ``text``, long integers digit by digit.

    Keys that are alike afterwards are told apart by one more U+FFFD.

    Raises:
        TypeError: It is nested too deeply.
    """
    try:
        return _writable(value, text)
    except RecursionError as exc:
        raise TypeError("the value is nested too deeply") from exc


def _writable(value: object, text: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        written: dict[object, object] = {}
        for key, item in cast("Mapping[object, object]", value).items():
            name = text(key) if isinstance(key, str) else key
            while name in written:
                name = f"{name}\ufffd"
            written[name] = _writable(item, text)
        return written
    if isinstance(value, list | tuple):
        return [_writable(item, text) for item in cast("Sequence[object]", value)]
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return orjson.Fragment(f"{Decimal(int(value)):f}")  # a Decimal has no limit to the digits that it tells
    return value


def _python_value(written: str | bytes) -> object:
    return json.loads(written, parse_int=_integer, parse_constant=_null)


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _with_stand_ins(text: str) -> str:
    return _SURROGATES.sub(_stand_in, text)


def _half(found: re.Match[str]) -> str:
    return chr(ord(found[0]) - _OFFSET)


def _null(constant: str) -> None:
    del constant


def _stand_in(found: re.Match[str]) -> str:
    return chr(ord(found[0]) + _OFFSET)


def _joined(found: re.Match[str]) -> str:
    halves = "".join(chr(ord(half) - _OFFSET) for half in found[0])
    return halves.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
