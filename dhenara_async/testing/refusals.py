"""Errors that providers return for reasoning in a history that they do not accept, ready for a script.

``ProviderServer([Answer(…), REASONING_REFUSALS[Dialect.GEMINI]["signature_missing"], Answer(…)])`` refuses the second
request, even if it is valid; ids, paths and numbers in the messages are invented.

Follows: the providers' error messages as their users reported them (read 2026-11-22).
"""

from collections.abc import Mapping

from dhenara_async.endpoint import Dialect
from dhenara_async.testing.script import ScriptedError

REASONING_REFUSALS: Mapping[Dialect, Mapping[str, ScriptedError]] = {
    Dialect.ANTHROPIC_MESSAGES: {
        "thinking_missing": ScriptedError(
            400,
            "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When "
            "`thinking` is enabled, a final `assistant` message must start with a thinking block (preceding the "
            "lastmost set of `tool_use` and `tool_result` blocks).",
        ),
        "thinking_changed": ScriptedError(
            400,
            "messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be "
            "modified. These blocks must remain as they were in the original response.",
        ),
        "thinking_of_another_conversation": ScriptedError(
            400,
            "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different "
            "conversation. Remove the block, or set thinking.block_binding.prefix_mismatch_behavior to "
            '"drop_block".',
        ),
    },
    Dialect.OPENAI_RESPONSES: {
        "reasoning_leads_nowhere": ScriptedError(
            400, "Item 'rs_0a1b' of type 'reasoning' was provided without its required following item."
        ),
        "reasoning_missing": ScriptedError(
            400, "Item 'msg_0a1b' of type 'message' was provided without its required 'reasoning' item: 'rs_0a1b'."
        ),
        "reasoning_not_readable": ScriptedError(
            400, "The encrypted content gAAA...1bQ= could not be verified.", code="invalid_encrypted_content"
        ),
        "reasoning_in_words": ScriptedError(
            400,
            "Invalid 'input[1].content': array too long. Expected an array with maximum length 0, but got an array "
            "with length 1 instead.",
            code="array_above_max_length",
        ),
    },
    Dialect.GEMINI: {
        "signature_missing": ScriptedError(
            400,
            "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
            "correctly. Function call `default_api:add`, position 2.",
        ),
        "signature_missing_on_vertex": ScriptedError(
            400,
            "Unable to submit request because function call `add` in the 2. content block is missing a "
            "`thought_signature`.",
        ),
    },
    Dialect.OPENAI_CHAT: {
        "reasoning_of_another_model": ScriptedError(400, "encrypted reasoning was produced under a different model"),
        "reasoning_of_another_caller": ScriptedError(400, "encrypted_content was not issued to this caller"),
    },
}
"""The errors of each dialect, by the reported problem."""
