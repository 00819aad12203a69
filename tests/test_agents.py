"""The guide for code agents: each of its blocks runs as it stands against the local server, and the wheel has it."""

import re
from collections.abc import Generator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

import dhenara_async
from dhenara_async import AIModelCallResponse
from dhenara_async.testing import ProviderServer
from tests.readme.blocks import README, Block, blocks, paste

GUIDE = Path(dhenara_async.__file__).with_name("AGENTS.md")
TEXT = GUIDE.read_text(encoding="utf-8")
BLOCKS = blocks("python", TEXT)


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """The stand-in of every provider, in another thread, as the blocking client needs it."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(ProviderServer()) as server,
    ):
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.heading)
async def test_a_block_runs_as_it_stands(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    await paste(block.code, {})
    shown = capsys.readouterr().out
    assert shown.strip() or "print(" not in block.code
    assert "fix it:" not in shown and "failed:" not in shown


async def test_the_blocks_do_what_their_headings_promise() -> None:
    names: dict[str, dict[str, object]] = {}
    for block in BLOCKS:
        number = block.heading.partition(".")[0]
        if number in {"8", "9", "10", "20"}:
            names[number] = {}
            await paste(block.code, names[number])
    assert names["9"]["person"].__class__.__name__ == "Person"
    assert isinstance(names["10"]["response"], AIModelCallResponse)
    assert names["10"]["response"].chat_response.tools() == ()
    assert getattr(names["20"]["response"], "attempts", 0) == 2


def test_it_has_the_twenty_commonest_things_numbered() -> None:
    headings = re.findall(r"^## (\d+)\. ", TEXT, re.MULTILINE)
    assert headings == [str(number) for number in range(1, 21)]
    assert [block.heading.partition(".")[0] for block in BLOCKS] == headings


def test_the_readme_leads_to_it() -> None:
    targets = re.findall(r"\]\(((?:dhenara_async|CHANGELOG)[^)]*)\)", README)
    assert "dhenara_async/AGENTS.md" in targets
    assert [target for target in targets if not (GUIDE.parent.parent / target).exists()] == []
