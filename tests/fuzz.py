"""Breaks recorded answers on purpose and watches what the public client makes of them.

Whatever a host sends, a call ends in one of two ways: an answer, or an error of ours. ``python -m tests.fuzz`` goes on
for as long as it is told; ``test_fuzz.py`` runs a short, seeded piece of it.
"""

import argparse
import asyncio
import random
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from time import monotonic
from typing import cast

import orjson

from dhenara_async import AIModelCallConfig, AIModelClient, RetryPolicy
from dhenara_async.errors import DhenaraError
from dhenara_async.testing import ReplayTransport
from tests import recordings
from tests.recordings import Recording

_LARGEST = 40_000
_STRANGE_VALUES: tuple[object, ...] = tuple(
    orjson.loads(text)
    for text in ("null", "true", "-1", "1e300", '""', '"\u2028"', "[]", "{}", '[1, "x"]', '{"type": "?"}')
)


def flip_bytes(body: bytes, chance: random.Random) -> bytes:
    flipped = bytearray(body)
    for _ in range(chance.randint(1, 8)):
        flipped[chance.randrange(len(flipped))] = chance.randrange(256)
    return bytes(flipped)


def cut(body: bytes, chance: random.Random) -> bytes:
    return body[: chance.randrange(len(body))]


def lines_changed(body: bytes, chance: random.Random) -> bytes:
    """Lines dropped, doubled or swapped."""
    lines = body.splitlines(keepends=True)
    for _ in range(chance.randint(1, 4)):
        first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
        match chance.randrange(3):
            case 0:
                lines[first] = b""
            case 1:
                lines.insert(second, lines[first])
            case _:
                lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


def values_changed(body: bytes, chance: random.Random) -> bytes:
    """JSON that is still JSON, with values of the wrong kind at random places."""

    def change(document: bytes) -> bytes:
        value: object = orjson.loads(document)
        for _ in range(chance.randint(1, 3)):
            _replace_somewhere(value, chance)
        return orjson.dumps(value)

    return on_documents(body, change, chance)


def nested(body: bytes, chance: random.Random) -> bytes:
    """One document with a value 10 000 levels deep."""
    deep = b"[" * 10_000 + b"]" * 10_000
    return on_documents(body, lambda document: document[:-1] + b',"deep":' + deep + b"}", chance)


MUTATIONS = (flip_bytes, cut, lines_changed, values_changed, nested)


def on_documents(body: bytes, change: Callable[[bytes], bytes], chance: random.Random) -> bytes:
    """``body`` with ``change`` applied to one of its JSON objects, as a stream or as a plain body has them."""
    if not body.lstrip().startswith((b"data:", b"event:", b":")):
        return change(body) if body.lstrip().startswith(b"{") else body
    lines = body.split(b"\n")
    places = [at for at, line in enumerate(lines) if line.startswith(b"data: {")]
    if places:
        at = chance.choice(places)
        lines[at] = b"data: " + change(lines[at].removeprefix(b"data: ").rstrip(b"\r"))
    return b"\n".join(lines)


def _replace_somewhere(value: object, chance: random.Random) -> None:
    """Walk down into a JSON value for a while, and put something strange where the walk ends."""
    while isinstance(value, dict | list) and value:
        box = cast("dict[object, object]", value if isinstance(value, dict) else _Indexed(cast("list[object]", value)))
        key = chance.choice(list(box))
        child = box[key]
        if not isinstance(child, dict | list) or not child or chance.random() < 0.3:
            box[key] = deepcopy(chance.choice(_STRANGE_VALUES))
            return
        value = cast("object", child)


class _Indexed:
    """A list with the manners of a dict."""

    def __init__(self, items: list[object]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._items)))

    def __getitem__(self, key: int) -> object:
        return self._items[key]

    def __setitem__(self, key: int, value: object) -> None:
        self._items[key] = value


def cases(seed: int) -> Iterator[tuple[str, Recording, bytes]]:
    """Recordings with something broken, without end: a name to repeat it by, the recording, the broken body."""
    chance = random.Random(seed)
    ids = recordings.ids()
    for number in range(sys.maxsize):
        recording = recordings.load(chance.choice(ids))
        if recording.status != 200 or not 0 < len(recording.body) <= _LARGEST:
            continue
        mutation = chance.choice(MUTATIONS)
        try:
            body = mutation(recording.body, chance)
        except orjson.JSONDecodeError:
            continue  # not a body this mutation can work on
        yield f"seed {seed}, case {number}: {mutation.__name__} of {recording.id}", recording, body


async def outcome(recording: Recording, body: bytes) -> DhenaraError | None:
    """What a call makes of ``body``: None for an answer, or our error; anything else escapes."""
    transport = ReplayTransport(body, headers=recording.headers)
    config = AIModelCallConfig(retries=RetryPolicy(first_delay=0.001))
    client = AIModelClient(recording.endpoint("http://127.0.0.1"), config, transport=transport)
    try:
        if recording.framing == "sse":
            async with client.stream("Go on.") as stream:
                try:
                    async for _ in stream:
                        pass
                finally:
                    stream.partial.model_dump_json()  # what came can be kept whatever happened
        else:
            await client.generate("Go on.")
    except DhenaraError as exc:
        return exc
    return None


async def fuzz(seed: int, *, seconds: float) -> tuple[int, int]:
    """Run for that long; how many calls were made, and how many of them failed in an orderly way."""
    until, calls, errors = monotonic() + seconds, 0, 0
    for name, recording, body in cases(seed):
        if monotonic() >= until:
            break
        calls += 1
        try:
            errors += await outcome(recording, body) is not None
        except BaseException:
            print(f"\n{name}", file=sys.stderr)
            raise
        if calls % 1000 == 0 and sys.stderr.isatty():
            print(f"\r{calls} calls, {errors} typed errors", end="", file=sys.stderr, flush=True)
    return calls, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    calls, errors = asyncio.run(fuzz(options.seed, seconds=options.seconds))
    print(f"\n{calls} broken answers: {calls - errors} answers, {errors} typed errors, nothing else")


if __name__ == "__main__":
    main()
