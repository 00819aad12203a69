"""Sources of an answer as ``useChat`` shows them, the same live and after a reload. Pure."""

from collections.abc import Iterable, Iterator
from hashlib import sha256

from dhenara_async.messages.messages import Citation


class UISources:
    """The sources of one message. Each is shown once, under an id that is made of the source itself."""

    def __init__(self) -> None:
        self._shown: set[str] = set()
        self._kept: frozenset[str] = frozenset()

    def new(self, citations: Iterable[Citation]) -> Iterator[dict[str, object]]:
        """Iterate over the sources that the message does not show yet, as chunks of the stream and as parts."""
        for citation in citations:
            key = citation.url or citation.file_id or citation.title
            if key is None or key in self._shown:
                continue
            self._shown.add(key)
            yield _source(citation, f"s-{sha256(key.encode(errors='replace')).hexdigest()[:16]}")

    def next_step(self) -> None:
        """Begin a step, to which ``take_back`` returns."""
        self._kept = frozenset(self._shown)

    def take_back(self) -> None:
        """Forget the sources of the current step, because the page removes them."""
        self._shown = set(self._kept)


def _source(citation: Citation, name: str) -> dict[str, object]:
    if citation.url is not None and citation.url.lower().startswith(("http://", "https://")):
        title = {} if citation.title is None else {"title": citation.title}
        return {"type": "source-url", "sourceId": name, "url": citation.url, **title}
    title = citation.title or "source"
    return {"type": "source-document", "sourceId": name, "mediaType": "text/plain", "title": title}
