"""Prints the requests that every target is sent for conversations, which come in as JSON, one a line.

For each conversation it prints a line a target, with name and body, and then an empty line.

Run by the tests in processes of their own (``python -m tests.bodies < conversations.jsonl``), to see that nothing of a
request depends on the process that makes it.
"""

import sys
from collections.abc import Iterator, Sequence

from pydantic import TypeAdapter

from dhenara_async import AIModelCallConfig, ConversationNode, Message, PromptFormatter
from tests.conversations import TARGETS, encoded

NODES = TypeAdapter(list[ConversationNode])


def bodies(nodes: Sequence[ConversationNode]) -> Iterator[tuple[str, bytes]]:
    """Every target's name with the hash of what it is shown, where that matters, and its request's body."""
    for name, target in TARGETS.items():
        formatted = PromptFormatter.format_conversation(
            nodes, target.endpoint, asked=[Message.user("And now?")], instructions=["Be kind."]
        )
        config = AIModelCallConfig(max_output_tokens=100, metadata={"one": "1", "two": "2"})
        yield f"{name} {formatted.prefix}", encoded(formatted.messages, target, config, ["Be kind."]).body


if __name__ == "__main__":
    for line in sys.stdin.buffer:
        for name, body in bodies(NODES.validate_json(line)):
            sys.stdout.buffer.write(name.encode() + b"\t" + body + b"\n")
        sys.stdout.buffer.write(b"\n")
