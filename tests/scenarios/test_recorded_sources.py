"""Citations and generated files of recorded answers, as their expectation has them."""

from hashlib import sha256
from typing import cast

import pytest

from dhenara_async import AIModelCallConfig, AIModelClient, ChatResponse, Citation
from dhenara_async.testing import ReplayTransport
from tests import recordings
from tests.recordings import Recording

needs_recordings = pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)


def _with(field: str) -> list[str]:
    loaded = (recordings.load(recording_id) for recording_id in recordings.ids())
    return [recording.id for recording in loaded if recording.status == 200 and recording.expect.get(field)]


async def _answer(recording: Recording) -> ChatResponse:
    transport = ReplayTransport(recording.body, headers=recording.headers)
    client = AIModelClient(recording.endpoint("http://127.0.0.1"), transport=transport)
    config = AIModelCallConfig(streaming=recording.framing == "sse")
    return (await client.generate("Go on.", config=config)).chat_response


@needs_recordings
@pytest.mark.parametrize("recording_id", _with("citations"))
async def test_citations_are_the_expected_ones(recording_id: str) -> None:
    """The expectation names each source once, by address, file id or title; a source can be cited many times."""
    recording = recordings.load(recording_id)
    expected = set(cast("list[str | None]", recording.expect["citations"])) - {None}  # sources without any name
    found = [_names(citation) for citation in (await _answer(recording)).citations()]
    assert found
    assert all(any(name in names for names in found) for name in expected)
    assert not expected or all(names & expected for names in found if names)


def _names(citation: Citation) -> set[str | None]:
    return {citation.url, citation.file_id, citation.title} - {None}


@needs_recordings
@pytest.mark.parametrize("recording_id", _with("images"))
async def test_files_are_the_expected_ones(recording_id: str) -> None:
    recording = recordings.load(recording_id)
    files = (await _answer(recording)).files()
    told = [
        {"mime": file.media_type, "bytes": file.size, "sha256": sha256(file.data or b"").hexdigest()} for file in files
    ]
    assert told == recording.expect["images"]
