"""Files attached to a question: strings are URLs and never paths, and paths must lead to regular files."""

import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dhenara_async import (
    AIModel,
    AIModelEndpoint,
    Conversation,
    ConversationManager,
    Dialect,
    PromptFormatter,
)
from dhenara_async.errors import ConfigurationError
from dhenara_async.messages import messages
from dhenara_async.messages.attachments import Attached, Attachment
from dhenara_async.messages.messages import FilePart
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.turns.turn import Turn
from tests.loopback import endpoint_at

_TEXTS = [
    "/etc/passwd",
    "notes.txt",
    "file:///etc/passwd",
    "~/.ssh/id_rsa",
    "..",
    "",
    " https://files.test/x.png",
    "ftp://files.test/x.png",
    "gs://a-bucket/x.png",
    "\\\\server\\share",
    "http:/etc/passwd",
]


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation with an endpoint that answers."""

    manager: ConversationManager
    conversation: Conversation
    endpoint: AIModelEndpoint

    def turn(self, *files: Attachment) -> Turn:
        return self.manager.turn(self.conversation, "What is it?", self.endpoint, files=files)


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    async with ProviderServer([Answer("Seen.")] * 4) as server, ConversationManager() as manager:
        yield Talk(manager, await manager.create(), endpoint_at(server, Dialect.GEMINI))


# ---------------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize("text", _TEXTS)
async def test_a_text_in_files_is_never_read_as_a_path(text: str, talk: Talk) -> None:
    manager, conversation, endpoint = talk.manager, talk.conversation, talk.endpoint
    with pytest.raises(ConfigurationError) as caught:
        talk.turn(text)
    assert "passwd" not in str(caught.value)
    with pytest.raises(ConfigurationError):
        await manager.ask(conversation, "?", endpoint, files=[text])
    with pytest.raises(ConfigurationError):
        manager.fan_out(conversation, "?", [endpoint], files=[text])
    with pytest.raises(ConfigurationError):
        manager.check(conversation, endpoint, files=[text])
    assert conversation.nodes == ()


def test_the_error_of_a_wrong_attachment_names_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("secret", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"pathlib\.Path.*FilePart\.from_bytes"):
        Attached.of([str(path)])
    for wrong in (7, None, bytearray(b"x"), object()):
        with pytest.raises(ConfigurationError, match=f"not {type(wrong).__name__}"):
            Attached.of([wrong])  # type: ignore[list-item]


def test_urls_bytes_and_file_parts_are_converted_without_reading_a_path() -> None:
    given = ["https://files.test/x.png", "data:text/plain;base64,aGk=", b"words", FilePart.from_bytes(b"more words")]
    found = Attached.of(given).at_hand()
    assert found is not None
    assert [part.url or part.get_text() for part in found] == [given[0], "hi", "words", "more words"]
    assert Attached.of([]).at_hand() == ()


# ---------------------------------------------------------------------------------------------------- paths


class _Named:
    """A path-like object that is not a ``Path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


async def test_each_path_is_read_once_in_a_thread_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notes.md"
    path.write_text("# Notes", encoding="utf-8")
    (tmp_path / "link.md").symlink_to(path)
    threads: list[int] = []
    read = messages.read_regular

    def told(source: Path, most: int) -> bytes:
        threads.append(threading.get_ident())
        return read(source, most)

    monkeypatch.setattr(messages, "read_regular", told)
    async with ProviderServer([Answer("Seen.")] * 4) as server, ConversationManager() as manager:
        endpoint = endpoint_at(server, Dialect.GEMINI)
        conversation = await manager.create()
        given = [b"before", path, _Named(path), tmp_path / "link.md", "data:text/plain;base64,aGk="]
        node = await manager.ask(conversation, "What is it?", endpoint, files=given)
        said = ["before", "# Notes", "# Notes", "# Notes", "hi"]
        assert [part.get_text() for part in node.attached_files] == said
        assert [part.filename for part in node.attached_files] == [None, "notes.md", "notes.md", "link.md", None]
        assert len(threads) == 3
        async with manager.turn(conversation, "And this?", endpoint, files=[path]) as turn:
            await turn.collect()
        assert [part.get_text() for part in turn.node.attached_files] == ["# Notes"]
        first, second = await manager.fan_out(conversation, "And this?", [endpoint, endpoint], files=[path])
        assert first.attached_files == second.attached_files == turn.node.attached_files
        assert (first.status, len(threads)) == ("complete", 5)
        assert threading.get_ident() not in threads


@pytest.fixture
def strange(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Paths that are not regular files or cannot be read, each with a pattern of its error."""
    pipe, folder, link = tmp_path / "pipe.txt", tmp_path / "folder.txt", tmp_path / "link.txt"
    os.mkfifo(pipe)
    folder.mkdir()
    link.symlink_to("/dev/zero")
    return {
        "a pipe that nobody writes to": (pipe, "pipe or a socket"),
        "a device without end": (Path("/dev/zero"), "device"),
        "a link to one": (link, "device"),
        "a directory": (folder, "directory"),
        "nothing": (tmp_path / "none.txt", "No such file"),
        "no name": (tmp_path / "a\0b", "not a valid path"),
        "a broken link": (Path(tmp_path / "x"), "No such file"),
    }


async def test_a_path_that_is_no_regular_file_is_refused(strange: dict[str, tuple[Path, str]], talk: Talk) -> None:
    for path, words in strange.values():
        with pytest.raises(ConfigurationError, match=words):
            FilePart.from_path(path)
        with pytest.raises(ConfigurationError, match=words):
            talk.turn(path)
    assert talk.conversation.nodes == ()


async def test_a_file_replaced_by_a_pipe_before_it_is_read_is_refused(tmp_path: Path, talk: Talk) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("words", encoding="utf-8")
    begun = talk.turn(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigurationError, match="pipe"):
        async with begun:
            raise AssertionError("nothing was asked")
    assert talk.conversation.nodes == ()


def test_a_file_above_max_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"x" * 100)
    assert FilePart.from_path(path, max_bytes=100).size == 100
    with pytest.raises(ConfigurationError, match="max_bytes=99"):
        FilePart.from_path(path, max_bytes=99)
    # one that says it is smaller than it is, as those of /proc do
    monkeypatch.setattr(messages, "check_status", _accept)
    with pytest.raises(ConfigurationError, match="max_bytes=99"):
        FilePart.from_path(path, max_bytes=99)


def _accept(path: Path, status: os.stat_result, max_bytes: int) -> None:
    """Accept every file."""


async def test_a_file_above_the_default_limit_is_refused_before_it_is_read(tmp_path: Path, talk: Talk) -> None:
    path = tmp_path / "film.bin"
    with path.open("wb") as file:
        file.truncate(messages.MAX_FILE_BYTES + 1)
    with pytest.raises(ConfigurationError, match=r"FilePart\.from_path\(path, max_bytes=…\)"):
        talk.turn(path)


async def test_invalid_utf8_in_a_text_file_is_reported_when_the_turn_starts(tmp_path: Path, talk: Talk) -> None:
    path = tmp_path / "page.txt"
    path.write_bytes(b"Gr\xfc\xdfe")
    with pytest.raises(ConfigurationError, match=r"page\.txt.*UTF-8"):
        async with talk.turn(b"before", path):
            raise AssertionError("nothing was asked")
    with pytest.raises(ConfigurationError, match=r"page\.txt.*UTF-8"):
        await talk.manager.fan_out(talk.conversation, "?", [talk.endpoint], files=[path])
    assert talk.conversation.nodes == ()


async def test_check_reads_files_to_count_their_tokens(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("word " * 1000, encoding="utf-8")
    async with ProviderServer([]) as server, ConversationManager() as manager:
        conversation = await manager.create()
        checked = manager.check(conversation, endpoint_at(server, Dialect.GEMINI), query="?", files=[path])
        assert checked.input_tokens > 1000


@pytest.mark.parametrize("given", [["/etc/passwd"], "/etc/passwd", [b"bytes"], [Path("/etc/passwd")]])
@pytest.mark.parametrize("most", [None, 3])
def test_prompt_formatting_refuses_files_that_are_not_file_parts(given: object, most: int | None) -> None:
    model = AIModel(model_name="any-1")
    with pytest.raises(ConfigurationError, match="sequence of FilePart"):
        PromptFormatter.format_conversion_node_as_prompts(
            model,
            "What is it?",
            given,  # type: ignore[arg-type] - that is the point
            max_words_files=most,
        )
