"""Nearly strict JSON, as hosts send it, is read as its author meant it."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhenara_async.lenient_json import has_halves, loads, repaired, whole, without_open_half

ROBOT = "\N{ROBOT FACE}"
HIGH, LOW = r"\ud83e", r"\udd16"  # the halves of ROBOT in UTF-16


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b'{"a":NaN,"b":-Infinity,"c":[Infinity]}', {"a": None, "b": None, "c": [None]}),
        (rb'{"a":"x\ud83e"}', {"a": "x\ufffd"}),
        (rb'{"a":"\udd16x","b":"NaN"}', {"a": "\ufffdx", "b": "NaN"}),
        (rb'{"a":"\ud83e\udd16","b":NaN}', {"a": ROBOT, "b": None}),
        (rb'{"\ud83e":1}', {"\ufffd": 1}),
        (b'{"a":"\xed\xa0\xbe\xed\xb4\x96"}', {"a": ROBOT}),  # the halves, each encoded for itself (CESU-8)
    ],
)
def test_nearly_strict_json_is_read(sent: bytes, meant: object) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(sent)
    assert loads(sent) == meant


@pytest.mark.parametrize("sent", [b"", b"{", b"nan", b'{"a":1}x', b'{"a":"\xff"}', b"[" * 100_000, b"9" * 5000 + b"x"])
def test_what_is_no_json_stays_refused(sent: bytes) -> None:
    assert repaired(sent) is None
    with pytest.raises(orjson.JSONDecodeError):
        loads(sent)


@given(st.text(st.characters(codec="utf-8")), st.integers(0, 40))
def test_a_text_cut_anywhere_between_its_halves_is_whole_again(text: str, cut: int) -> None:
    units = text.encode("utf-16-le")
    pieces = units[: 2 * cut], units[2 * cut :]
    read: list[str] = []
    for piece in pieces:
        sent = json.dumps(piece.decode("utf-16-le", "surrogatepass")).encode()
        strict = repaired(b"[" + sent + b",NaN]")
        assert strict is not None
        read.append(orjson.loads(strict)[0])
    first, half = without_open_half(read[0])
    assert whole(first) + whole(half + read[1]) == text
    assert not has_halves(whole("".join(read)))
