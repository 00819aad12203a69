"""Log probabilities in the words of OpenAI's APIs, which are the same in both. Pure."""

from collections.abc import Iterable

from dhenara_async.drivers.base import JsonObject
from dhenara_async.messages.messages import TokenLogprob


def told_logprobs(entries: Iterable[TokenLogprob]) -> list[JsonObject]:
    """Return the log probabilities of tokens, each with its alternatives.

    Args:
        entries: One for each token.
    """
    return [
        {**_token(entry.token, entry.logprob), "top_logprobs": [_token(*other) for other in entry.top]}
        for entry in entries
    ]


def _token(token: str, logprob: float) -> JsonObject:
    return {"token": token, "bytes": list(token.encode(errors="surrogatepass")), "logprob": logprob}
