"""The command line in a pseudo-terminal: keys, Ctrl-C, Markdown and wrapped words."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyte
import pytest
from anyio.from_thread import start_blocking_portal

from dhenara_async.testing import Answer, ProviderServer
from tests.commands import GUARD_SECONDS, ROOT, environment_of

pexpect = pytest.importorskip("pexpect", reason="there are no pseudo-terminals here")
fdpexpect = pytest.importorskip("pexpect.fdpexpect")
termios = pytest.importorskip("termios")

_UP = "\x1b[A"
_SIZE = 24, 40
_CTRL_C, _CTRL_D = "\x03", "\x04"
_OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches the command
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[@-_=>])")


class Terminal:
    """A command at a terminal of 40 columns."""

    def __init__(self, arguments: Iterable[str], environment: Mapping[str, str]) -> None:
        extra = {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **environment}
        master, terminal = os.openpty()
        termios.tcsetwinsize(terminal, _SIZE)
        # pexpect would fork this process, which has threads
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OWN_TERMINAL, "-m", "dhenara_async", *arguments],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=ROOT,
            env=environment_of(extra),
            start_new_session=True,
        )
        os.close(terminal)
        self.child = fdpexpect.fdspawn(master, encoding="utf-8", timeout=GUARD_SECONDS)
        self.seen = ""

    def wait(self, text: str) -> str:
        """Read on to ``text``; returns what was shown before it, without colours and moves of the cursor."""
        self.child.expect_exact(text)
        self.seen += f"{self.child.before}{text}"
        return _ESCAPES.sub("", self.child.before)

    def type(self, keys: str) -> None:
        self.child.send(keys)

    def end(self) -> tuple[int, str]:
        """Wait until the command ends; returns its exit code and the rest of its output."""
        self.child.expect(pexpect.EOF)
        self.seen += self.child.before
        return self.process.wait(GUARD_SECONDS), _ESCAPES.sub("", self.child.before)

    def close(self) -> None:
        """End the command if it still runs."""
        self.child.close()
        self.process.kill()
        self.process.wait()

    @property
    def screen(self) -> list[str]:
        """The lines that stand on the screen, when all that was drawn over is gone."""
        screen = pyte.Screen(*reversed(_SIZE))
        pyte.Stream(screen).feed(self.seen)
        return [line.rstrip() for line in screen.display]


@contextmanager
def _terminal(*arguments: str, answers: Iterable[str], home: Path, delay: float = 0) -> Generator[Terminal]:
    """A command at a terminal, with a provider in another thread."""
    script = [Answer(text=text) for text in answers]
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(ProviderServer(script, delay=delay)) as server,
    ):
        terminal = Terminal(arguments, {**server.environment(), "DHENARA_ASYNC_HOME": str(home)})
        try:
            yield terminal
        finally:
            terminal.close()


def test_ctrl_c_clears_a_typed_line_first_and_leaves_at_an_empty_one(tmp_path: Path) -> None:
    with _terminal("chat", "-m", "gpt-6-luna", answers=["Water."], home=tmp_path) as terminal:
        terminal.wait("gpt-6-luna>")
        terminal.type("never asked")
        terminal.wait("never")
        terminal.type(_CTRL_C)
        terminal.type("What is rain?\r")
        terminal.wait("Water.")
        terminal.wait("usage: ")
        terminal.wait("gpt-6-luna>")
        terminal.type(_CTRL_C)
        code, _rest = terminal.end()

    assert code == 0
    assert (tmp_path / "history").read_text().count("never asked") == 0


def test_lines_are_edited_recalled_and_completed(tmp_path: Path) -> None:
    with _terminal("chat", "-m", "gpt-6-luna", answers=["One.", "Two.", "Three."], home=tmp_path) as terminal:
        terminal.wait("gpt-6-luna>")
        terminal.type("What is ranX\x7f\x1b[Di\x1b[C?\r")  # backspace, left, right
        terminal.wait("One.")
        terminal.wait("gpt-6-luna>")
        terminal.type("/model gpt-6.2-s\t")
        terminal.wait("ol")
        terminal.type("\r")
        terminal.wait("next answer: ")
        terminal.wait("gpt-6.2-sol>")
        terminal.type(f"{_UP}{_UP}\r")
        terminal.wait("Two.")
        terminal.wait("gpt-6.2-sol>")
        terminal.type(_CTRL_D)
        code, _rest = terminal.end()

    kept = (tmp_path / "history").read_text()
    assert code == 0
    assert next(line for line in kept.splitlines() if line.startswith("+")) == "+What is rain?"
    assert stat.S_IMODE((tmp_path / "history").stat().st_mode) == 0o600


def test_ctrl_c_ends_one_answer_and_the_talk_goes_on(tmp_path: Path) -> None:
    long = "word " * 2000
    with _terminal("chat", "-m", "gpt-6-luna", answers=[long, "Water."], home=tmp_path, delay=0.01) as terminal:
        terminal.wait("gpt-6-luna>")
        terminal.type("What is rain?\r")
        terminal.wait("word word")
        terminal.type(_CTRL_C)
        terminal.wait("interrupted;")
        terminal.wait("gpt-6-luna>")
        terminal.type("Again?\r")
        terminal.wait("Water.")
        terminal.wait("gpt-6-luna>")
        terminal.type("/quit\r")
        code, _rest = terminal.end()

    assert code == 0


def test_answers_are_markdown_with_wrapped_words(tmp_path: Path) -> None:
    answer = (
        "# Rain\n\nIt **falls** from clouds, which are drops of water that hang in the air until they grow heavy.\n\n"
        "- wet <b>\n- cold\n\n```python\ndrops = 1\n\nmore = 2\n```\n\nSee [the sea](https://example.com/sea)."
    )
    asked = ("ask", "What is rain?", "-m", "gpt-6-luna")
    with _terminal(*asked, answers=[answer], home=tmp_path, delay=0.002) as terminal:
        code, _rest = terminal.end()

    assert code == 0
    assert "\n".join(terminal.screen).rstrip().splitlines() == [
        "                  Rain",
        "",
        "It falls from clouds, which are drops of",
        "water that hang in the air until they",
        "grow heavy.",
        "",
        " • wet <b>",
        " • cold",
        "",
        "",
        " drops = 1",
        "",
        " more = 2",
        "",
        "",
        "See the sea (https://example.com/sea).",
    ]


def test_raw_answers_are_shown_as_they_are(tmp_path: Path) -> None:
    with _terminal("ask", "Why?", "-m", "gpt-6-luna", "--raw", answers=["It **falls**."], home=tmp_path) as terminal:
        code, shown = terminal.end()

    assert (code, shown) == (0, "It **falls**.\r\n")


def test_a_key_is_typed_unseen(tmp_path: Path) -> None:
    with _terminal("keys", "set", "openai", answers=[], home=tmp_path) as terminal:
        terminal.wait("(not shown): ")
        terminal.type("sk-typed\r")
        code, shown = terminal.end()

    assert code == 0
    assert "sk-typed" not in shown
    assert "sk-typed" in (tmp_path / "keys.json").read_text()


def test_help_in_the_chat_is_complete(tmp_path: Path) -> None:
    with _terminal("chat", "-m", "gpt-6-luna", answers=[], home=tmp_path) as terminal:
        terminal.wait("gpt-6-luna>")
        terminal.type("/help\r")
        shown = terminal.wait("at an empty one")
        terminal.wait("gpt-6-luna>")  # Ctrl-D between two prompts is for nobody
        terminal.type(_CTRL_D)
        terminal.end()

    for word in ("/model", "/models", "/system", "/usage", "/report", "/help", "/quit", "Ctrl-D", "Tab", "Alt-Enter"):
        assert word in shown
