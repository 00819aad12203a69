"""Everything that aiohttp has received of a body, in one go.

Its ``readany`` does the same chunk by chunk, and tells its protocol at each that reading may go on, although nothing
has stopped it: that is a third of what a token costs until it is ours. There is no public way around it, so this looks
inside, in versions that it was tried with; in all others it is ``readany``.

Source: ``aiohttp/streams.py`` and ``client_proto.py`` of 3.14.5 (read 2026-11-22)
"""

# pyright: reportPrivateUsage=false

import asyncio

import aiohttp
from aiohttp.streams import StreamReader

_TRIED = ("3.14.",)


def taken(content: StreamReader) -> bytes | None:
    """What was received and not read yet; empty at the end, None if there is nothing to take yet.

    Raises:
        Exception: What ended the body before its time.
    """
    if content._exception is not None:
        raise content._exception
    buffer = content._buffer
    if not buffer:
        return b"" if content._eof else None
    if content._buffer_offset:  # somebody has read a part of it
        return content._read_nowait(-1)
    data = buffer[0] if len(buffer) == 1 else b"".join(buffer)
    buffer.clear()
    content._size = 0
    content._cursor += len(data)
    splits = content._http_chunk_splits
    if splits:
        last = splits[-1]
        splits.clear()
        if last >= content._cursor:
            splits.append(last)
    protocol = content._protocol
    if protocol._reading_paused:
        protocol.resume_reading()
    return data


def more(content: StreamReader) -> asyncio.Future[None]:
    """Done when there is something to take. Nobody else may be waiting; who stops to may ask again.

    Raises:
        RuntimeError: The connection is gone, and everything was taken.
    """
    if not content._protocol.connected:
        raise RuntimeError("the connection is closed")
    waiter = content._waiter = content._loop.create_future()
    return waiter


AT_ONCE: bool = aiohttp.__version__.startswith(_TRIED)
"""Whether this may be used here."""
