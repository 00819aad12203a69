"""The peers: the libraries that are measured, with one adapter each.

A peer is opened once for each dialect and server mode, outside the measurement, and keeps its connections between
calls, as a program would. It is imported when it is opened; peers that are not installed are skipped.
"""

from collections.abc import Sequence

from benchmarks.peers import floor, frameworks, ours, vendors
from benchmarks.peers.calls import Calls, Peer, Take
from benchmarks.wire import DIALECTS

__all__ = ["FLOOR", "OURS", "PEERS", "PEER_NAMES", "Calls", "Peer", "Take", "choose", "find"]

FLOOR = "floor"
OURS = "dhenara_async"

PEERS = (
    Peer(FLOOR, "aiohttp", DIALECTS, floor.open_floor, folds=True),
    Peer(OURS, "dhenara_async", DIALECTS, ours.open_dhenara_async, folds=True),
    Peer("openai", "openai", ("openai_chat",), vendors.open_openai_chat),
    Peer("openai", "openai", ("openai_responses",), vendors.open_openai_responses),
    Peer("anthropic", "anthropic", ("anthropic_messages",), vendors.open_anthropic),
    Peer(
        "anthropic-stream",
        "anthropic",
        ("anthropic_messages",),
        vendors.open_anthropic_helper,
        streams_only=True,
        folds=True,
    ),
    Peer("google-genai", "google.genai", ("gemini",), vendors.open_google_genai),
    Peer("litellm", "litellm", DIALECTS, frameworks.open_litellm, slow=True),
    Peer("pydantic-ai", "pydantic_ai", DIALECTS, frameworks.open_pydantic_ai, slow=True),
    Peer("langchain", "langchain_openai", ("openai_chat",), frameworks.open_langchain, slow=True),
    Peer("langchain", "langchain_openai", ("openai_responses",), frameworks.open_langchain, slow=True),
    Peer("langchain", "langchain_anthropic", ("anthropic_messages",), frameworks.open_langchain, slow=True),
    Peer(
        "langchain",
        "langchain_google_genai",
        ("gemini",),
        frameworks.open_langchain,
        oldest=("langchain-google-genai", 4),  # earlier versions use gRPC
        slow=True,
    ),
)

PEER_NAMES = tuple(dict.fromkeys(peer.name for peer in PEERS))


def choose(names: Sequence[str] | None, dialects: Sequence[str] | None) -> tuple[list[Peer], list[Peer]]:
    """Return the named peers for these dialects (None = all): the installed ones, and the missing ones."""
    wanted = [
        peer
        for peer in PEERS
        if (not names or peer.name in names) and (not dialects or not set(dialects).isdisjoint(peer.dialects))
    ]
    return [peer for peer in wanted if peer.installed], [peer for peer in wanted if not peer.installed]


def find(name: str, dialect: str) -> Peer:
    """Return the peer of this name that supports ``dialect``.

    Raises:
        LookupError: There is no such peer.
    """
    for peer in PEERS:
        if peer.name == name and dialect in peer.dialects:
            return peer
    raise LookupError(f"{name} does not speak {dialect}")
