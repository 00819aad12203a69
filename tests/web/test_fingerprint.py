"""A conversation keeps its hash through what clients change on the way, and through nothing else."""

import json

from hypothesis import given
from hypothesis import strategies as st

from dhenara_async.messages.messages import (
    FilePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.web.openai.fingerprint import Fingerprint

_WORDS = st.sampled_from(("Hi", "Four.", "a  b", "“ß”\n1", ""))
_ARGUMENTS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3)
_EXCHANGES = st.lists(st.tuples(_WORDS, _WORDS, st.lists(_ARGUMENTS, max_size=3)), min_size=1, max_size=4)
_SPACES = st.sampled_from(("", " ", "\n\n"))


def _talk(exchanges: list[tuple[str, str, list[dict[str, int]]]], ids: str = "call") -> list[Message]:
    """Questions, answers with calls, and their results, with call ids that begin with ``ids``."""
    talk: list[Message] = []
    for asked, answered, calls in exchanges:
        made = [ToolCallPart(call_id=f"{ids}{at}", name="f", arguments=json.dumps(c)) for at, c in enumerate(calls)]
        talk += [Message.user(asked), Message.assistant(answered, *made)]
        results: list[Part] = [ToolResultPart.of(call, str(at)) for at, call in enumerate(made)]
        if results:
            talk.append(Message.user(*results))
    return talk


def _id(messages: list[Message], owner: str = "ann") -> str:
    fingerprint = Fingerprint(owner)
    for message in messages:
        fingerprint.add(message)
    return fingerprint.id_of("answer")


def _changed(message: Message, spaces: str) -> Message:
    """The message as a client sends it back: other spaces, arguments written anew, no reasoning and no made files."""
    parts = [
        part.changed(arguments=json.dumps(dict(reversed(part.parsed().items())), indent=1))
        if isinstance(part, ToolCallPart)
        else part
        for part in message.parts
    ]
    if message.role is Role.ASSISTANT:
        parts = [ReasoningPart(text="Hm"), *parts, FilePart.from_bytes(b"\x89PNG\r\n\x1a\n", media_type="image/png")]
    return message.changed(parts=(TextPart(text=spaces), *parts, TextPart(text=spaces)))


@given(_EXCHANGES, _SPACES, st.integers(0, 8))
def test_it_stays_through_what_clients_change(
    exchanges: list[tuple[str, str, list[dict[str, int]]]], spaces: str, place: int
) -> None:
    sent = [_changed(message, spaces) for message in _talk(exchanges, "toolu_")]
    sent.insert(place, Message.system("It is 9:00."))
    assert _id(sent) == _id(_talk(exchanges))


@given(_EXCHANGES, _EXCHANGES)
def test_it_differs_where_anything_that_is_shown_differs(
    one: list[tuple[str, str, list[dict[str, int]]]], other: list[tuple[str, str, list[dict[str, int]]]]
) -> None:
    assert (_id(_talk(one)) == _id(_talk(other))) == (one == other)
    assert _id(_talk(one)) != _id(_talk(one), "bob")


def test_results_that_change_places_and_files_of_a_question_make_a_difference() -> None:
    asked, answered, results = _talk([("Hi", "", [{}, {}])])
    first, second = results.parts
    ids = {
        _id([asked, answered, results]),
        _id(
            [asked, answered, results.changed(parts=(first.changed(call_id="call1"), second.changed(call_id="call0")))]
        ),
        _id([Message.user("Hi", FilePart.from_url("https://a.example/b.png")), answered, results]),
        _id([Message.assistant("Hi"), answered, results]),
    }
    assert len(ids) == 4
    fingerprint = Fingerprint("ann")
    assert fingerprint.then(asked).id_of("answer") == _id([asked])
    assert fingerprint.id_of("answer") != fingerprint.id_of("conversation")
