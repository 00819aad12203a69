"""The promises of a driver, and the collection of those that a driver under test breaks."""

from collections.abc import Collection, Mapping
from typing import Literal

from dhenara_async.testing.promises import BrokenPromises, demand

__all__ = ["PROMISES", "Findings", "Promise", "demand"]

Promise = Literal[
    "encode.total",
    "encode.pure",
    "encode.json",
    "encode.secrets",
    "encode.whole",
    "encode.foreign",
    "encode.append_only",
    "encode.stream",
    "encode.knobs",
    "rules.stable",
    "rules.files",
    "rules.call_ids",
    "decode.grammar",
    "decode.expected",
    "decode.origin",
    "decode.usage",
    "decode.apart",
    "decode.splits",
    "decode.truncation",
    "decode.unknown",
    "decode.both_ways",
    "decode.repaired",
    "decode.bounds",
    "decode.calls",
    "replay.json",
    "replay.state",
    "replay.others",
    "error.total",
    "error.kind",
    "error.secrets",
]

PROMISES: Mapping[Promise, str] = {
    "encode.total": "what PromptFormatter lets through is encoded, whoever said it",
    "encode.pure": "the same request gives the same bytes, and is not changed by it",
    "encode.json": "the body is a JSON object and the path begins with a slash",
    "encode.secrets": "no credential is in what encode makes",
    "encode.whole": "nothing that is said, asked, attached or answered is left out in silence",
    "encode.foreign": "opaque state of other models, accounts and providers is not sent",
    "encode.append_only": "a longer conversation begins with the same messages",
    "encode.stream": "whether the answer is streamed changes nothing of the question",
    "encode.knobs": "a knob of the call is in the request, or a warning says that it is not",
    "rules.stable": "the rules of an endpoint are always the same",
    "rules.files": "a file that the rules take is encoded, and one that they do not is an UnsupportedError",
    "rules.call_ids": "an id that the rules call legal stays as it is, and one made legal is legal",
    "decode.grammar": "the events of an answer obey check_grammar",
    "decode.expected": "an answer says what its recording says",
    "decode.origin": "every part carries the origin that the decoder was handed",
    "decode.usage": "tokens that the body does not tell of are None, never zero",
    "decode.apart": "a decoder holds the state of one answer, and being asked for usage changes nothing",
    "decode.splits": "however the network cuts a body, its events are the same",
    "decode.truncation": "a body that ends before its time is a TruncatedStreamError, never a shorter answer",
    "decode.unknown": "frames and fields that nobody knows yet change nothing",
    "decode.both_ways": "a stream and a plain body of one answer fold to the same response",
    "decode.repaired": "empty events, a byte order mark, NaN and an end mark of another dialect change nothing",
    "decode.bounds": "an answer of more parts than Bounds.max_parts is a BoundsError",
    "decode.calls": "a clean end is tool_calls exactly if there are calls",
    "replay.json": "an answer comes back from JSON as it was",
    "replay.state": "opaque state goes back to its model verbatim",
    "replay.others": "opaque state goes to no other model and no other account",
    "error.total": "no body of an HTTP error makes error() raise",
    "error.kind": "an HTTP status has its class, and says whether another try makes sense",
    "error.secrets": "a key that the provider quotes is only where the client blots it out",
}
"""Every promise that ``check_driver`` tests, and its meaning."""


class Findings(BrokenPromises[Promise]):
    """Collects the promises that a driver breaks.

    Args:
        except_for: Promises that are not tested.

    Raises:
        ValueError: There is no promise of that name.
    """

    def __init__(self, except_for: Collection[Promise]) -> None:
        super().__init__(PROMISES, except_for, table="testing.PROMISES")
