"""Names of a server's tools for the model, and hashes of their definitions. Pure.

MCP allows names of ``[A-Za-z0-9._-]{1,128}``, providers ``[A-Za-z0-9_-]{1,64}``.
Source: https://modelcontextprotocol.io/specification (tools, version 2026-07-28)
"""

import json
import re
from collections.abc import Mapping
from hashlib import sha256

from pydantic import JsonValue

_LONGEST = 64
_HASH = 8


def tool_name(server: str, tool: str) -> str:
    """Return the name that the model calls a tool by: ``server__tool``.

    Characters that providers do not take become ``_``; a name that is too long is cut, with a hash of the whole. It
    depends on nothing but its arguments, so that it is the same in every process and at every listing.
    """
    whole = f"{server}__{tool}"
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", whole)
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - _HASH - 1]}_{sha256(whole.encode()).hexdigest()[:_HASH]}"


def definition_hash(name: str, description: str, schema: Mapping[str, JsonValue]) -> str:
    """Return the hash of a tool's definition: everything of it that the model is shown."""
    text = json.dumps([name, description, schema], sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()
