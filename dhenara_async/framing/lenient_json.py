r"""Reads and writes JSON that strict parsers and writers refuse, from providers, models and callers.

Accepted beyond RFC 8259: a byte order mark, ``NaN`` and ``Infinity`` (read as null), and an unpaired half of a
surrogate pair (``"\ud83d"`` alone). JavaScript hosts send such halves when they cut a text by UTF-16 units; the other
half is often at the start of the next event. So ``repaired`` maps halves to private code points ("stand-ins"), until
``whole`` joins them.

Integers have any size in JSON and in Python, but 64 bits in orjson, which reads longer ones as floats and cannot write
them: ``read``, ``exact`` and ``dumps`` keep every digit.
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
_MOST_DIGITS = 4_000  # Python refuses longer ones by default, because parsing takes quadratic time


def loads(data: bytes) -> object:
    """Parse strict or nearly strict JSON; an unpaired surrogate becomes U+FFFD.

    Raises:
        ValueError: The text is not JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        strict = repaired(data)
        if strict is None:
            raise
    return orjson.loads(whole(strict.decode()))


def repaired(data: bytes) -> bytes | None:
    """Return ``data`` as strict JSON with stand-ins for unpaired surrogates; None if it cannot be parsed even so."""
    try:
        text = data.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "surrogatepass")
        value: object = json.loads(text, parse_constant=_null)
        strict = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None
    return _SURROGATES.sub(_stand_in, strict).encode()


def whole(text: str) -> str:
    """Join neighbouring stand-ins in ``text`` to the character they are halves of; single ones become U+FFFD."""
    if not has_halves(text):
        return text
    return _STAND_INS.sub("\ufffd", _PAIRS.sub(_joined, text))


def has_halves(text: str) -> bool:
    """Whether ``text`` contains a stand-in."""
    return _STAND_INS.search(text) is not None


def without_open_half(text: str) -> tuple[str, str]:
    """Split off a first half at the end of ``text``, which the next piece of the same text may complete."""
    if _HIGH_AT_END.search(text) is None:
        return text, ""
    return text[:-1], text[-1]


def read(text: str) -> object:
    """Parse JSON written by a model; integers keep every digit.

    Nearly strict JSON is accepted as in ``loads``. An integer of more than 4 000 digits becomes a float.

    Raises:
        ValueError: The text is not JSON.
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
    """Return ``value`` with the exact integers of its source ``written``: orjson has read those beyond 64 bits as
    floats."""
    data = written.encode(errors="surrogatepass") if isinstance(written, str) else written
    if _LONG_NUMBER not in data.translate(_DIGITS_AS_ZEROS):
        return value
    try:
        return _python_value(written)
    except (ValueError, RecursionError):  # orjson parses deeper values than Python does
        return value


def strict(text: str) -> str:
    """Return ``text`` unchanged if strict parsers accept it, else serialized anew from what ``read`` returns.

    Raises:
        ValueError: The text is not JSON.
    """
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return dumps(read(text)).decode()
    return text


def sound(text: str) -> str:
    """Return JSON text with its unpaired surrogates, literal or escaped, joined or replaced by U+FFFD."""
    return _ESCAPES.sub(lambda found: "\\ufffd" if found[1] else found[0], well_formed(text))


def well_formed(text: str) -> str:
    """Return ``text`` with neighbouring surrogate halves joined, and single ones replaced by U+FFFD."""
    if text.isascii() or _SURROGATES.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def dumps(value: object) -> bytes:
    """Serialize ``value`` as compact JSON: integers of any size, unpaired surrogates as U+FFFD, ``NaN`` as null.

    Raises:
        TypeError: The value is not JSON, or nested more than 254 deep.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(writable(value))


def text_of(value: object) -> str:
    """Serialize ``value`` like ``dumps``, but keep unpaired surrogates: the sender reports what it replaces.

    Raises:
        TypeError: As for ``dumps``.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        pass
    try:
        return _STAND_INS.sub(_half, orjson.dumps(writable(value, _with_stand_ins)).decode())
    except TypeError:  # nested deeper than orjson can write
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def writable(value: object, text: Callable[[str], str] = well_formed) -> object:
    """Convert ``value`` for orjson: apply ``text`` to its strings, and write long integers digit by digit.

    Keys that become equal are made different by appending U+FFFD.

    Raises:
        TypeError: The value is nested too deeply.
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
        return orjson.Fragment(f"{Decimal(int(value)):f}")  # Decimal writes integers of any length
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
