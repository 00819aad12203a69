"""Ways for a network to cut a body into reads. A decoder must give the same events for every one of them.

Every function returns non-empty pieces that join to the body.
"""

from collections.abc import Iterator
from random import Random


def split_everywhere(body: bytes) -> Iterator[tuple[bytes, ...]]:
    """The body whole, byte by byte, and cut in two at every place there is.

    Args:
        body: The bytes to cut; there are ``len(body) + 1`` ways, so choose a small body.
    """
    if not body:
        return
    yield (body,)
    yield split_bytes(body)
    for place in range(1, len(body)):
        yield body[:place], body[place:]


def split_bytes(body: bytes) -> tuple[bytes, ...]:
    """The body as single bytes."""
    return tuple(body[place : place + 1] for place in range(len(body)))


def split_randomly(body: bytes, *, seed: int, longest: int = 64) -> tuple[bytes, ...]:
    """The body in pieces of random length, the same ones for the same seed.

    Args:
        body: The bytes to cut.
        seed: Which cut.
        longest: The most bytes a piece may have, at least 1.
    """
    random = Random(seed)
    pieces: list[bytes] = []
    place = 0
    while place < len(body):
        length = random.randint(1, longest)
        pieces.append(body[place : place + length])
        place += length
    return tuple(pieces)
