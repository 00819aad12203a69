"""Nearly strict JSON, as hosts send it, is read as its author meant it."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhenara_async.framing.lenient_json import (
    dumps,
    has_halves,
    loads,
    read,
    repaired,
    strict,
    text_of,
    well_formed,
    whole,
    without_open_half,
)

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
def test_invalid_json_is_refused(sent: bytes) -> None:
    assert repaired(sent) is None
    with pytest.raises(orjson.JSONDecodeError):
        loads(sent)


@given(st.text(st.characters(codec="utf-8", max_codepoint=0x10EFFF)), st.integers(0, 40))  # behind are the stand-ins
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


# ------------------------------------------------------------------------------------------------ exact numbers

BIG = 12345678901234567890123456789


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (f'{{"a": {BIG}, "b": [-{BIG}]}}', {"a": BIG, "b": [-BIG]}),
        ('{"a": 18446744073709551616}', {"a": 1 << 64}),
        ('{"a": -9223372036854775809}', {"a": -(1 << 63) - 1}),
        (f'{{"a": "{BIG}", "b": 1.{BIG}, "c": {BIG}.5}}', {"a": str(BIG), "b": 1.1234567890123457, "c": float(BIG)}),
        ('{"a": NaN, "b": [Infinity, -Infinity], "c": "NaN"}', {"a": None, "b": [None, None], "c": "NaN"}),
        (f'{{"a": "{HIGH}", "b": {BIG}}}', {"a": "\ufffd", "b": BIG}),
        (f'{{"a": "{HIGH}{LOW}", "b": "{LOW}{HIGH}x"}}', {"a": ROBOT, "b": "\ufffd\ufffdx"}),
        (f'{{"a": "\\{HIGH}", "{LOW}": 1, "c": "\\n"}}', {"a": HIGH, "\ufffd": 1, "c": "\n"}),
        (f'{{"a": "{HIGH}{HIGH}{LOW}"}}', {"a": f"\ufffd{ROBOT}"}),
        ('{"a": "\ud83e\udd16", "b": "\udd16x"}', {"a": ROBOT, "b": "\ufffdx"}),
        ('\ufeff{"a": 1}', {"a": 1}),
        ("9" * 5_000, float("inf")),
    ],
)
def test_json_of_a_model_is_read_exactly(written: str, value: object) -> None:
    assert read(written) == value


@pytest.mark.parametrize("written", ["", "{", "nan", '{"a": 1}x', '{"a": +1}', "[" * 100_000, f'{{"a": {BIG}', "'a'"])
def test_invalid_json_has_no_value(written: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(written)


def test_texts_that_strict_parsers_take_stay_as_they_are() -> None:
    for text in (f'{{ "a": {BIG}.0e0 }}', f'{{"a" : "{HIGH}{LOW}\\u0000"}}', "[1 ,2]"):
        assert strict(text) is text
    assert strict(f'{{"a" : NaN, "b": "{HIGH}", "c": {BIG}}}') == f'{{"a":null,"b":"\ufffd","c":{BIG}}}'


def test_every_json_value_can_be_written() -> None:
    value = {
        "a\ud83e": BIG,
        "b": ["\ud83e\udd16x\udd16", float("nan"), -BIG, True, (1 << 64) - 1, 1 << 64, (1, "\udd16")],
    }
    numbers = f"-{BIG},true,18446744073709551615,18446744073709551616"
    told = f'{{"a\ufffd":{BIG},"b":["{ROBOT}x\ufffd",null,{numbers},[1,"\ufffd"]]}}'
    assert dumps(value).decode() == told
    assert text_of({"a\ud83e": BIG, "b": float("inf")}) == f'{{"a\ud83e":{BIG},"b":null}}'
    assert dumps({"a": 10**5_000}).decode() == f'{{"a":1{"0" * 5_000}}}'


def test_keys_that_become_alike_keep_their_values() -> None:
    halves = {f"a{half}": number for number, half in enumerate(("\ud83e", "\udd16", "\ufffd"))}
    assert orjson.loads(dumps(halves)) == {"a\ufffd": 0, "a\ufffd\ufffd": 1, "a\ufffd\ufffd\ufffd": 2}


@pytest.mark.parametrize("value", [object(), {1: "\ud83e"}, {"a": {2}}])
def test_a_value_outside_json_cannot_be_written(value: object) -> None:
    with pytest.raises(TypeError):
        dumps(value)


def test_values_nested_too_deep_cannot_be_written() -> None:
    value: object = "\ud83e"
    for _level in range(5_000):
        value = [value]
    with pytest.raises(TypeError):
        dumps(value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(), inside, max_size=4),
    max_leaves=12,
)


@given(_JSON)
def test_values_survive_a_round_trip(value: object) -> None:
    assert read(dumps(value).decode()) == value
    assert read(json.dumps(value)) == value
    assert read(json.dumps(value, ensure_ascii=False)) == value
    assert json.loads(dumps(value)) == value


@given(st.text(alphabet=st.characters(categories=("Cs", "Ll", "So"))))
def test_texts_become_well_formed(text: str) -> None:
    formed = well_formed(text)
    formed.encode()
    assert formed == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert read(json.dumps({"a": text})) == {"a": formed}
