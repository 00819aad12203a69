"""The SSE framer: the standard's own examples, every way to tear a stream, and its limits."""

import re
import sys
from itertools import pairwise

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dhenara_async.errors import BoundsError, ProtocolError
from dhenara_async.framing import name_of, sse
from dhenara_async.framing.sse import SSEFramer

BOM = b"\xef\xbb\xbf"


def frames(*chunks: bytes, limit: int = 1 << 20) -> list[tuple[bytes, bytes]]:
    """What the framer makes of a body, as (event, data)."""
    framer = SSEFramer(limit_bytes=limit)
    found = [frame for chunk in chunks for frame in framer.feed(chunk)]
    return [(name_of(frame), frame) for frame in (*found, *framer.finish())]


def reference(body: bytes) -> list[tuple[bytes, bytes]]:
    """The same by the letter of the standard and of the framer's two additions, one line at a time."""
    found: list[tuple[bytes, bytes]] = []
    data: list[bytes] = []
    document: list[bytes] = []
    name = b""
    lines = re.split(rb"\r\n|\r|\n", body[3:] if body[:3] == BOM else body)
    for line in [*lines, b""]:
        if line == b"":
            if document:
                found.append((b"", b"\n".join(document)))
            if data:
                found.append((name, b"\n".join(data)))
            data, document, name = [], [], b""
            continue
        if line.startswith(b"data: "):
            data.append(line[6:])
            continue
        if line.startswith(b"event: "):
            name = line[7:]
            continue
        if document or (not data and re.match(rb"\s*[{\[<]", line)):
            document.append(line)
            continue
        field, colon, value = line.partition(b":")
        if colon and value[:1] == b" ":
            value = value[1:]
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
        elif field == b"error" and value:
            failure = value.strip()
            if not failure.startswith(b"{"):
                failure = orjson.dumps({"error": {"message": failure.decode(errors="replace")}})
            found.append((b"error", failure))
    return found


# The examples of section 9.2.6 of the standard. Where it drops an event whose final blank line never comes, the framer
# hands it over: the last one of each example that ends without a blank line.
STANDARD: dict[str, tuple[bytes, list[tuple[bytes, bytes]]]] = {
    "three lines of one event": (
        b"data: YHOO\ndata: +2\ndata: 10\n\n",
        [(b"", b"YHOO\n+2\n10")],
    ),
    "a comment, ids, and a space that counts": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [(b"", b"first event"), (b"", b"second event"), (b"", b" third event")],
    ),
    "data without a colon": (b"data\n\ndata\ndata\n\ndata:", [(b"", b""), (b"", b"\n"), (b"", b"")]),
    "with and without a space": (b"data:test\n\ndata: test\n\n", [(b"", b"test"), (b"", b"test")]),
    "named events": (
        b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n",
        [(b"add", b"73857293"), (b"remove", b"2153"), (b"add", b"113411")],
    ),
}


@pytest.mark.parametrize(("body", "expected"), STANDARD.values(), ids=STANDARD)
def test_examples_of_the_standard(body: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    assert frames(body) == expected
    assert reference(body) == expected


TABLE: dict[str, tuple[bytes, list[tuple[bytes, bytes]]]] = {
    "nothing": (b"", []),
    "blank lines": (b"\n\r\n\r", []),
    "lf": (b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")]),
    "cr": (b"data: a\r\rdata: b\r\r", [(b"", b"a"), (b"", b"b")]),
    "mixed line ends": (b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\r", [(b"", b"a\nb\nc"), (b"", b"d")]),
    "byte order mark": (BOM + b"data: a\n\n", [(b"", b"a")]),
    "byte order mark alone": (BOM, []),
    "byte order mark before a torn event": (BOM + b"data: a", [(b"", b"a")]),
    "only the first mark is one": (b"data: a\n\n" + BOM + b"data: b\n\n", [(b"", b"a")]),
    "comments": (b": hi\n:\ndata: a\n: in between\n\n: bye\n\n", [(b"", b"a")]),
    "event named without a space": (b"event:ping\ndata:{}\n\n", [(b"ping", b"{}")]),
    "the last name counts": (b"event: x\nevent: y\ndata: a\n\n", [(b"y", b"a")]),
    "a name without data is forgotten": (b"event: ping\n\ndata: a\n\n", [(b"", b"a")]),
    "id, retry and unknown fields": (b"id: 7\nretry: 10\nfoo: bar\ndata: a\nnonsense\n\n", [(b"", b"a")]),
    "names are compared as they are": (b"Data: a\n data: b\ndata : c\n\n", []),
    "empty data": (b"data\n\ndata:\n\ndata: \n\n", [(b"", b"")] * 3),
    "a colon in the data": (b"data: a: b\n\ndata::\n\n", [(b"", b"a: b"), (b"", b":")]),
    "no final blank line": (b"data: a\n\nevent: x\ndata: b\n", [(b"", b"a"), (b"x", b"b")]),
    "no final newline": (b"data: a\n\ndata: b", [(b"", b"a"), (b"", b"b")]),
    "other line ends of Unicode": (
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\n\n".encode(),
        [(b"", "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg".encode())],
    ),
    "bytes that are not UTF-8": (b"data: \xff\xfe\n\n", [(b"", b"\xff\xfe")]),
    "bare JSON error": (b'{"error": {"message": "no"}}', [(b"", b'{"error": {"message": "no"}}')]),
    "bare JSON error over many lines": (
        b'data: a\n\n{\n  "error": {\n    "code": 503\n  }\n}\n',
        [(b"", b"a"), (b"", b'{\n  "error": {\n    "code": 503\n  }\n}')],
    ),
    "bare JSON error right before an event": (
        b'{"error": "no"}\ndata: [DONE]\n\n',
        [(b"", b'{"error": "no"}'), (b"", b"[DONE]")],
    ),
    "array": (b'[{"error": 1}\n,\n{}]\n\n', [(b"", b'[{"error": 1}\n,\n{}]')]),
    "HTML": (b"<html>\r\n<body>No</body>\r\n</html>", [(b"", b"<html>\n<body>No</body>\n</html>")]),
    "indented HTML": (b"  <p>", [(b"", b"  <p>")]),
    "no document inside an event": (b"data: a\n{}\n\n", [(b"", b"a")]),
}


@pytest.mark.parametrize(("body", "expected"), TABLE.values(), ids=TABLE)
def test_table(body: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    assert frames(body) == expected
    assert reference(body) == expected


@pytest.mark.parametrize("body", [body for body, _ in (*STANDARD.values(), *TABLE.values())])
def test_any_cut_in_two_and_byte_by_byte(body: bytes) -> None:
    expected = frames(body)
    assert frames(*(body[at : at + 1] for at in range(len(body)))) == expected
    for at in range(len(body)):
        assert frames(body[:at], b"", body[at:]) == expected


def test_an_event_is_handed_over_with_its_last_byte() -> None:
    framer = SSEFramer()
    assert framer.feed(b"data: a\r") == []
    assert framer.feed(b"\n\r") == [b"a"]  # a lone CR ends a line: nobody waits for an LF that may not come
    assert framer.feed(b"\n") == []
    assert framer.feed(b"data: b\n\ndata: c\n") == [b"b"]
    assert framer.feed(b"\n") == [b"c"]


_PIECES = st.sampled_from(
    [
        *(b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b":", b" ", BOM),
        *(b"data: ", b"data:", b"data", b"event: ", b"event:", b"event", b"id: 1", b"retry: 5", b": comment"),
        *(b"a", b"{", b'{"error": 1}', b"[", b"<html>", b"[DONE]", b"\xff", "\u2028\u0085é🙂".encode()),
    ]
)
_BODIES = st.lists(_PIECES, max_size=40).map(b"".join)


@settings(max_examples=1000)
@given(body=_BODIES, cuts=st.lists(st.integers(0, 200), max_size=12))
@example(body=b"\r\n", cuts=[1])
@example(body=BOM + b"data: a", cuts=[1, 2])
def test_any_split_of_any_stream(body: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    chunks = [body[start:end] for start, end in pairwise(places)]
    assert frames(*chunks) == frames(body) == reference(body)


# Names as providers give them, with data that begins by saying the same, spelled in several ways, or something else.
_NAMED = [
    b"event: %b\ndata: %b\n\n" % (name, data)
    for name in (b"a", b"b", b"a.b", b"x" * 200)
    for data in (b'{"type":"%b"}' % name, b'{"type": "%b"}' % name, b'{ "type":"%b"}' % name, b'{"type":"c"}', b"1")
]


@settings(max_examples=300)
@given(events=st.lists(st.sampled_from([*_NAMED, b"data: 1\n\n", b": ping\n\n"]), max_size=12))
@example(events=[_NAMED[0], _NAMED[1], _NAMED[3], _NAMED[0]])
def test_event_names_are_kept_unless_the_data_repeats_them(events: list[bytes]) -> None:
    expected = [(b"" if b'"%b"' % name in data else name, data) for name, data in reference(b"".join(events))]
    assert frames(*events) == frames(b"".join(events)) == expected


def test_little_is_remembered_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: dict[bytes, bytes] = {}
    monkeypatch.setattr(sse, "_beginnings", remembered)
    monkeypatch.setattr(sse, "_MOST_NAMES", 5)
    for number in range(20):
        said = b'{"type":"%d"}' % number
        assert frames(b"event: %d\ndata: %b\n\n" % (number, said) * 2) == [(b"", said)] * 2
        assert 0 < len(remembered) <= 5
    long = b"x" * 200
    assert frames(b'event: %b\ndata: {"type":"%b"}\n\n' % (long, long)) == [(b"", b'{"type":"%b"}' % long)]
    assert all(len(name) < 200 for name in remembered)


_LIMIT = 1000


@pytest.mark.parametrize(
    "piece",
    [b"x" * 100, b"data: " + b"x" * 90, b"data: xxxx\n", b"data:xxxx\n", b"data\n", b"data: \n", b"{\n", b"<p>xxxx\n"],
)
def test_an_event_past_the_limit_is_refused(piece: bytes) -> None:
    framer = SSEFramer(limit_bytes=_LIMIT)
    fed = 0
    with pytest.raises(ProtocolError, match="larger than 1000 bytes") as caught:
        while fed < 20 * _LIMIT:  # an endless event: it must be refused soon after the limit, not much later
            framer.feed(piece)
            fed += len(piece)
    assert not caught.value.retryable  # another try would bring as much again
    assert fed <= 8 * _LIMIT


@pytest.mark.parametrize("piece", [b": comment\n", b":\n", b"x\n", b"da"])
def test_bytes_at_the_limit_are_not_looked_at_again_for_each_read(
    piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comments are removed for each quarter of the limit that came, so that the work is linear in what comes."""
    searched: list[int] = []
    comment = sse._COMMENT  # pyright: ignore[reportPrivateUsage] - counts what it is given

    class Counted:
        def sub(self, new: bytes, text: bytearray) -> bytes:
            searched.append(len(text))
            return comment.sub(new, text)

    monkeypatch.setattr(sse, "_COMMENT", Counted())
    limit = 10_000
    framer = SSEFramer(limit_bytes=limit)
    framer.feed(b"data: " + b"y" * (limit - 100) + b"\n")
    fed = 0
    try:
        while fed < 10 * limit:
            framer.feed(piece)
            fed += len(piece)
    except BoundsError:
        assert not piece.startswith(b":")
    assert sum(searched) <= 6 * (fed + limit)


def test_a_body_in_tiny_reads_is_held_in_about_its_size() -> None:
    framer = SSEFramer(limit_bytes=1 << 20)
    for _ in range(100_000):
        framer.feed(b"ab")
    held = framer._held  # pyright: ignore[reportPrivateUsage] - its size is the point
    assert len(held) == 200_000
    assert sys.getsizeof(held) < 300_000


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        (b'error: {"code":400,"message":"no"}', b'{"code":400,"message":"no"}'),
        (b'error:{"code":400}', b'{"code":400}'),
        (b"error: gone away", b'{"error":{"message":"gone away"}}'),
    ],
)
def test_a_line_that_says_error_is_an_event_of_that_name(line: bytes, failure: bytes) -> None:
    assert frames(b'data: {"a":1}\n\n' + line + b"\n\n") == [(b"", b'{"a":1}'), (b"error", failure)]
    assert frames(line) == [(b"error", failure)]
    assert frames(b"error:\n\nerror\n\n") == []


def test_the_limit_is_of_one_event_not_of_the_stream() -> None:
    event = b"data: " + b"x" * 300 + b"\ndata: " + b"y" * 300 + b"\n\n"
    assert len(frames(*[event] * 20, limit=_LIMIT)) == 20
    assert len(frames(event * 20, limit=_LIMIT)) == 20
    assert len(frames(*[event + b": comment\n" * 200] * 20, limit=_LIMIT)) == 20
    assert len(frames(b"{" + b"x" * 600 + b"}\n\n", b"data: a\ndata: " + b"x" * 600 + b"\n\n", limit=_LIMIT)) == 2


_LARGE = 32 * 1024 * 1024


def test_a_large_event_of_one_line() -> None:
    read = b"x" * 65536
    framer = SSEFramer()
    framer.feed(b"data: ")
    for _ in range(_LARGE // len(read)):
        assert framer.feed(read) == []
    (frame,) = framer.feed(b"\n\n")
    assert len(frame) == _LARGE


def test_a_large_event_of_many_lines() -> None:
    line = b"data: " + b"x" * 58 + b"\n"
    reads = _LARGE // (64 * len(line))
    framer = SSEFramer()
    for _ in range(reads):  # half a million lines: work that grows with their square would not end in this suite
        assert framer.feed(line * 64) == []
    (frame,) = framer.feed(b"\n")
    assert frame == b"\n".join([b"x" * 58] * (reads * 64))
