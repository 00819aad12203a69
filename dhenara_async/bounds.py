"""Size limits on whatever other people send: answers, headers and downloads."""

from pydantic import Field

from dhenara_async.value import Value

_MIB = 1024 * 1024


class Bounds(Value):
    """Size limits of one call. Going past one raises ``BoundsError``, which names the setting; it is not retried.

    Attributes:
        max_answer_bytes: Bytes of one answer's body, after decompression, all its events together. A single event, or
            a plain body, may hold half of them.
        max_parts: Parts of one answer; its citations count too.
        max_header_bytes: Bytes of an answer's header block.
        max_download_bytes_total: Bytes of all files that are downloaded for one call (``FetchPolicy.max_bytes`` limits
            each of them).
        max_downloads: Files that are downloaded for one call.
    """

    max_answer_bytes: int = Field(default=128 * _MIB, gt=0)
    max_parts: int = Field(default=10_000, gt=0)
    max_header_bytes: int = Field(default=64 * 1024, gt=0)
    max_download_bytes_total: int = Field(default=64 * _MIB, gt=0)
    max_downloads: int = Field(default=32, gt=0)
