"""Large files are kept outside the rows of their nodes and turns: once for each owner, in pieces."""

from collections.abc import AsyncGenerator
from hashlib import sha256
from pathlib import Path
from random import Random
from threading import get_ident

import anyio
import pytest
from sqlalchemy import URL, create_engine, make_url, text

from dhenara_async import ChatResponse, Choice, ConversationNode, FilePart, FinishReason, ReasoningPart
from dhenara_async.events import ToolEnd
from dhenara_async.messages.messages import Origin, TextPart, ToolResultPart
from dhenara_async.stores import NewTurn, SQLStore, TurnBatch, TurnWriter
from dhenara_async.stores.sql.files import PIECE_BYTES

WRITER = TurnWriter(id="writer", pid=1, host="another machine", started="1")
LARGE = Random(7).randbytes(3 * PIECE_BYTES + 1)
PDF = FilePart.from_bytes(b"%PDF-1.4\n" + LARGE, media_type="application/pdf")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """The URL of a database without anything in it."""
    return (
        make_url(f"sqlite:///{tmp_path}/chat.db") if request.param == "sqlite" else request.getfixturevalue("migrated")
    )


@pytest.fixture
async def store(url: URL) -> AsyncGenerator[SQLStore]:
    """An open store of one owner."""
    async with SQLStore(url.render_as_string(hide_password=False), owner="user-7") as opened:
        yield opened


def _with_file(data: bytes, parent: ConversationNode | None = None) -> ConversationNode:
    file = FilePart.from_bytes(data, media_type="application/x-test")
    return ConversationNode(parent_id=None if parent is None else parent.id, attached_files=(file, file))


@pytest.mark.parametrize("size", [512_000, len(LARGE)])
async def test_a_large_file_is_stored_once_for_its_owner_and_goes_with_its_last_conversation(
    store: SQLStore, url: URL, tmp_path: Path, size: int
) -> None:
    data = LARGE[:size]
    first = _with_file(data)
    second = _with_file(data, first)
    await store.append("a", first)
    await store.append("a", second)
    await store.append("a", first)  # again: nothing changes
    await store.append("b", first)
    await store.scoped("other").append("a", first)
    loaded = await store.load("a")
    assert loaded.nodes == (first, second)
    assert [node.model_dump_json() for node in loaded.nodes] == [first.model_dump_json(), second.model_dump_json()]
    assert await _owners(url) == {"user-7": 1, "other": 1}
    await store.delete("a")
    assert (await store.load("b")).nodes == (first,)
    assert await _owners(url) == {"user-7": 1, "other": 1}
    await store.delete("b")
    assert (await store.scoped("other").load("a")).nodes == (first,)
    await store.scoped("other").delete("a")
    assert await _owners(url) == {}
    assert await _rows(url, "SELECT count(*) FROM file_pieces") == [(0,)]
    if url.get_backend_name() == "sqlite":
        assert data[:4096] not in _bytes_of(tmp_path)


async def test_a_text_that_looks_like_our_mark_of_a_file_stays_a_text(store: SQLStore) -> None:
    data = b"x" * 100_000
    mark = f"\0file:{sha256(data).hexdigest()}"
    forged = ReasoningPart(text="", provider_state={"data": mark})
    response = ChatResponse(
        model="m", provider="p", choices=(Choice(parts=(forged,), finish_reason=FinishReason.STOP),)
    )
    first = _with_file(data)
    node = first.changed(id="forged", response=response)
    real = _with_file(data)
    fake = ConversationNode(parent_id=real.id, response=response)
    for kept in (real, fake, node):
        await store.append("a", kept)
    assert (await store.load("a")).nodes == (real, fake, node)


async def test_files_of_questions_results_and_answers_come_back_to_the_byte(store: SQLStore) -> None:
    drawn = FilePart(
        media_type="image/png",
        data=LARGE,
        origin=Origin(provider="p", dialect="d", endpoint="e", account=None, model="m"),
    )
    choice = Choice(parts=(TextPart(text="Here."), drawn, drawn), finish_reason=FinishReason.STOP)
    asked = ConversationNode(
        attached_files=(PDF, FilePart.from_bytes(b"small", media_type="application/x-test"), PDF),
        tool_results=(ToolResultPart(call_id="c", content=(TextPart(text="A page."), PDF)),),
        response=ChatResponse(model="m", provider="p", choices=(choice,)),
    )
    await store.append("a", asked)
    (node,) = (await store.load("a")).nodes
    assert (node, node.model_dump_json()) == (asked, asked.model_dump_json())
    assert await store.find_node(asked.id) == ("a", asked)


async def test_a_file_that_an_earlier_version_kept_in_one_piece_is_read_and_shared(store: SQLStore, url: URL) -> None:
    assert PDF.data is not None
    key = sha256(PDF.data).hexdigest()
    await store.create("a")
    await _rows(url, "INSERT INTO files VALUES ('user-7', :key, :content)", key=key, content=PDF.data)
    node = ConversationNode(attached_files=(PDF,))
    await store.append("a", node)
    assert (await store.load("a")).nodes == (node,)
    assert await _rows(url, "SELECT count(*) FROM file_pieces") == [(0,)]


async def test_sums_of_an_old_conversation_are_counted_without_its_files(store: SQLStore, url: URL) -> None:
    node = ConversationNode(attached_files=(PDF,))
    await store.append("a", node)
    await _rows(url, "UPDATE conversations SET turns = NULL, tokens = NULL, money = NULL")  # as of schema 0002
    assert (await store.load_path("a")).turns == 1


async def test_the_files_of_a_running_turn_are_kept_with_it_and_go_with_it(store: SQLStore, url: URL) -> None:
    draft = ConversationNode(user_query="Read this.", attached_files=(PDF,))
    await store.create("a")
    begun = await store.begin_turn(NewTurn(conversation_id="a", draft=draft), WRITER, lease=60)
    assert begun is not None
    async with SQLStore(url.render_as_string(hide_password=False), owner="user-7") as other:
        (turn,) = await other.open_turns("a")
        assert turn.draft == draft
        page = await other.read_turn(draft.id)
        assert page is not None
        assert page.turn.draft is turn.draft  # it is read once
    assert await _rows(url, "SELECT count(*) FROM turns WHERE length(draft) > 2000") == [(0,)]
    await store.end_turn(begun, WRITER, (), draft, keep=-1)
    assert await _owners(url) == {"user-7": 1}
    await store.expire_turns()
    assert await store.read_turn(draft.id) is None
    assert (await store.load("a")).nodes == (draft,)  # the node has the file now
    await store.delete("a")
    assert await _owners(url) == {}
    await store.create("b")
    await store.begin_turn(NewTurn(conversation_id="b", draft=draft), WRITER, lease=60)
    await store.delete("b")
    assert await _owners(url) == {}


async def test_the_large_result_of_a_tool_is_written_and_read_in_a_thread(
    store: SQLStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, small = (ToolResultPart(call_id="c", content=(part,)) for part in (PDF, TextPart(text="Small.")))
    draft = ConversationNode()
    await store.create("a")
    begun = await store.begin_turn(NewTurn(conversation_id="a", draft=draft), WRITER, lease=60)
    assert begun is not None
    on_loop: list[ToolResultPart] = []
    dump, validate, loop = ToolResultPart.model_dump_json, ToolResultPart.model_validate_json, get_ident()

    def dumped(part: ToolResultPart) -> str:
        if get_ident() == loop:
            on_loop.append(part)
        return dump(part)

    def validated(body: str) -> ToolResultPart:
        part = validate(body)
        if get_ident() == loop:
            on_loop.append(part)
        return part

    monkeypatch.setattr(ToolResultPart, "model_dump_json", dumped)
    monkeypatch.setattr(ToolResultPart, "model_validate_json", validated)
    await store.flush_turns(WRITER, [TurnBatch(begun.number, 0, (ToolEnd(result),))], lease=60)
    await store.keep_tool_result("a", draft.id, 0, result)
    assert await store.tool_results("a", draft.id) == {0: result}
    assert on_loop == []
    await store.keep_tool_result("a", draft.id, 1, small)
    assert on_loop == [small]
    page = await store.read_turn(draft.id)
    assert page is not None
    assert page.events == [ToolEnd(result)]


def _bytes_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def _owners(url: URL) -> dict[object, object]:
    """Return how many large files each owner has in a database."""
    return {row[0]: row[1] for row in await _rows(url, "SELECT owner, count(*) FROM files GROUP BY owner")}


async def _rows(url: URL, statement: str, **values: object) -> list[tuple[object, ...]]:
    def run() -> list[tuple[object, ...]]:
        engine = create_engine(url)
        with engine.begin() as connection:
            result = connection.execute(text(statement), values)
            rows = [tuple(row) for row in result] if result.returns_rows else []
        engine.dispose()
        return rows

    return await anyio.to_thread.run_sync(run)
