"""A real Jupyter kernel runs the blocking client, although a loop runs on the thread of its cells."""

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from dhenara_async.testing import Answer, ProviderServer

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytestmark = pytest.mark.filterwarnings("default")  # those of Jupyter's own packages

ROOT = Path(__file__).parent.parent
START = """
import asyncio
from dhenara_async import *
asyncio.get_running_loop()  # raises without one
endpoint = AIModelEndpoint(api=AIModelAPI(provider="openai"), ai_model=AIModel(model_name="m"))
client = AIModelClient(endpoint, is_async=False)
"""
CELLS = (
    START,
    "client.generate('Hi.')",
    "with client, client.stream('Hi.') as stream:\n"
    "    print(*(e.text for e in stream if isinstance(e, TextDelta)), sep='')",
    "response = await AIModelClient(endpoint).generate('Hi.')\nresponse.text()",
    "async with ConversationManager() as manager:\n"
    "    conversation = await manager.create()\n"
    "    node = await manager.ask(conversation, 'Why?', endpoint)\n"
    "node",
    "conversation",
    "node.conversion",
    "manager",
)


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[list[dict[str, Any]]]:
    """The outputs of all cells, first output of each."""
    spec = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "python"}
    kernel = tmp_path / "kernels" / "here"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({**spec, "language": "python"}), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    answer = Answer(text="**Because.**")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(ProviderServer(lambda _seen: answer)) as server,
    ):
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
        nbclient.NotebookClient(made, kernel_name="here", timeout=60).execute()
        outputs: list[dict[str, Any]] = [(cell.outputs or [{}])[0] for cell in made.cells]
        yield outputs


def test_cells_call_both_clients_and_show_markdown(notebook: list[dict[str, Any]]) -> None:
    _, blocking, streamed, awaited, node, conversation, report, manager = notebook
    assert blocking["data"]["text/markdown"].startswith("**Because.**\n\n*m")
    assert len(blocking["data"]["text/plain"]) <= 200
    assert streamed["text"] == "**Because.**\n"
    assert awaited["data"]["text/plain"] == "'**Because.**'"
    assert node["data"]["text/markdown"].startswith("> Why?\n\n**Because.**")
    assert conversation["data"]["text/markdown"] == node["data"]["text/markdown"]
    assert report["data"]["text/markdown"]
    assert manager["data"]["text/plain"] == "ConversationManager(store=MemoryStore(conversations=1))"
