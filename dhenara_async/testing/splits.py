"""Cuts a body into reads, as a network may do. A decoder must produce the same events for every cut.

Every function returns non-empty pieces that join to the body.
"""

from collections.abc import Iterator
from random import Random


def split_everywhere(body: bytes) -> Iterator[tuple[bytes, ...]]:
    """Yield the body in one piece, byte by byte, and cut in two at every position.

    Args:
        body: The bytes to cut, in ``len(body) + 1`` ways, so choose a small body.
    """
    if not body:
        return
    yield (body,)
    yield split_bytes(body)
    for position in range(1, len(body)):
        yield body[:position], body[position:]


def split_bytes(body: bytes) -> tuple[bytes, ...]:
    """Return the body as single bytes."""
    return tuple(body[position : position + 1] for position in range(len(body)))


def split_randomly(body: bytes, *, seed: int, longest: int = 64) -> tuple[bytes, ...]:
    """Return the body in pieces of random length, the same pieces for the same seed.

    Args:
        body: The bytes to cut.
        seed: Seed of the random lengths.
        longest: The most bytes of a piece, at least 1.
    """
    random = Random(seed)
    pieces: list[bytes] = []
    position = 0
    while position < len(body):
        length = random.randint(1, longest)
        pieces.append(body[position : position + length])
        position += length
    return tuple(pieces)
