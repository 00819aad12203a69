"""Builds what ``ask`` sends from the words, the pipe and the files of a command line."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import orjson
from pydantic import JsonValue

from dhenara_async.errors import ConfigurationError
from dhenara_async.messages.messages import FilePart, Message
from dhenara_async.tools.declarations import JsonSchema

_PIPE = "-"
_KINDS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_FIELD = re.compile(r"(\w+)(?:\s+(\w+))?(?:\s*:\s*(.+))?")


def piped() -> bytes:
    """Read standard input to its end; nothing if it is a terminal."""
    return b"" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.buffer.read()


def message_of(question: str, files: Sequence[str]) -> Message:
    """Join the question, standard input and the files to one message. Reads until standard input ends.

    Args:
        question: The question; may be empty if something is piped in.
        files: Paths, ``https:`` or ``data:`` URLs; ``-`` = standard input is a file.

    Raises:
        ConfigurationError: There is nothing to ask, or a file cannot be read.
    """
    received = piped()
    text = "" if _PIPE in files else received.decode(errors="replace").strip()
    if _PIPE in files and not received:
        raise ConfigurationError("--attach - takes its file from a pipe, and nothing is piped in")
    words = "\n\n".join(part for part in (text, question.strip()) if part)
    if not words:
        raise ConfigurationError('there is no question; write it behind the command: dhenara-async ask "Why?"')
    return Message.user(words, *(FilePart.from_bytes(received) if name == _PIPE else _file(name) for name in files))


def _file(name: str) -> FilePart:
    return FilePart.from_url(name) if re.match(r"(https?|data):", name) else FilePart.from_path(Path(name))


def schema_of(given: str) -> JsonSchema:
    """Read a JSON schema: JSON, the path of a JSON file, or fields such as ``name, age int, bio: in one sentence``.

    Raises:
        ConfigurationError: It is none of these.
    """
    text = given.strip()
    if not text.startswith("{"):
        path = Path(text)
        if not path.is_file():
            return _from_fields(text)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"--schema: {os.fspath(path)} cannot be read: {type(exc).__name__}") from None
    try:
        schema: JsonValue = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise ConfigurationError(f"--schema is not JSON: {exc}") from None
    if not isinstance(schema, dict):
        raise ConfigurationError("--schema takes a JSON object")
    return cast("JsonSchema", schema)


def _from_fields(text: str) -> JsonSchema:
    properties: dict[str, JsonValue] = {}
    for field in filter(None, (part.strip() for part in re.split(r"[,\n]", text))):
        match = _FIELD.fullmatch(field)
        kind = "str" if match is None else match[2] or "str"
        if match is None or kind not in _KINDS:
            raise ConfigurationError(
                f"--schema: {field!r} is neither a file nor a field; write JSON, a path, or fields such as: "
                "name, age int, bio: in one sentence (types: str int float bool)"
            )
        properties[match[1]] = {"type": _KINDS[kind], **({"description": match[3]} if match[3] else {})}
    if not properties:
        raise ConfigurationError("--schema is empty")
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
