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
    "encode.total": "every history that PromptFormatter accepts is encoded, whichever model produced it",
    "encode.pure": "the same request gives the same bytes, and encoding does not change it",
    "encode.json": "the body is a JSON object and the path begins with a slash",
    "encode.secrets": "the encoded request has no credential",
    "encode.whole": "no text, file, call or result of the messages is left out silently",
    "encode.foreign": "opaque state of other models, accounts and providers is not sent",
    "encode.append_only": "a longer conversation begins with the same messages",
    "encode.stream": "a streamed and a plain request differ only in their stream flags",
    "encode.knobs": "a setting of the call is in the request, or a warning names it",
    "rules.stable": "the rules of an endpoint are always the same",
    "rules.files": "a file that the rules accept is encoded, and any other is an UnsupportedError",
    "rules.call_ids": "a legal call id is unchanged, and a converted id is legal",
    "decode.grammar": "the events of an answer obey check_grammar",
    "decode.expected": "an answer has the content that its recording states",
    "decode.origin": "every part has the origin that the decoder was given",
    "decode.usage": "token counts that the body does not report are None, never zero",
    "decode.apart": "a decoder holds the state of one answer, and reading its usage changes nothing",
    "decode.splits": "a body gives the same events, however the network cuts it",
    "decode.truncation": "a body that ends early is a TruncatedStreamError, never a shorter answer",
    "decode.unknown": "unknown frames and fields change nothing",
    "decode.both_ways": "a stream and a plain body of one answer fold to the same response",
    "decode.repaired": "empty events, a byte order mark, NaN and an end mark of another dialect change nothing",
    "decode.bounds": "an answer of more parts than Bounds.max_parts is a BoundsError",
    "decode.calls": "a clean end is tool_calls exactly if there are calls",
    "replay.json": "an answer is unchanged after a round trip through JSON",
    "replay.state": "opaque state is sent back to its model verbatim",
    "replay.others": "opaque state is sent to no other model and no other account",
    "error.total": "no body of an HTTP error makes error() raise",
    "error.kind": "every HTTP status has its error class and its retryable flag",
    "error.secrets": "a key that the provider quotes is only in fields that the client masks",
}
"""Every promise that ``check_driver`` tests, and its meaning."""


class Findings(BrokenPromises[Promise]):
    """Collects the promises that a driver breaks.

    Args:
        except_for: Promises that are not tested.

    Raises:
        ValueError: ``except_for`` names a promise that does not exist.
    """

    def __init__(self, except_for: Collection[Promise]) -> None:
        super().__init__(PROMISES, except_for, table="testing.PROMISES")
