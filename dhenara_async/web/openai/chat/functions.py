"""``functions`` and ``function_call``, the predecessors of ``tools`` in Chat Completions, read as tools. Pure.

A call of that kind has no id. It gets one by its place in the history, and the result behind it gets the same.

Source: https://platform.openai.com/docs/api-reference/chat/create (read 2026-11-28)
"""

from collections.abc import Mapping, Sequence

from dhenara_async.web.inputs.fields import BodyFields, as_fields, bad, items_of


def calls_functions(fields: BodyFields) -> bool:
    """Whether a request declares its functions in the old way."""
    return bool(fields.get("functions")) and not fields.get("tools")


def with_tools(fields: BodyFields) -> BodyFields:
    """Return a request that declares ``functions`` with ``tools`` instead; any other one as it is.

    Raises:
        RefusedRequest: ``functions`` is not a list, or ``function_call`` cannot be read.
    """
    if not calls_functions(fields):
        return fields
    tools = [{"type": "function", "function": function} for function in items_of(fields, "functions")]
    told: dict[str, object] = {**fields, "tools": tools, "parallel_tool_calls": False}
    choice = fields.get("function_call")
    if choice is not None:
        word = isinstance(choice, str)  # else it is the name of a function
        told["tool_choice"] = choice if word else {"function": as_fields(choice, "function_call")}
    return told


def with_tool_calls(messages: Sequence[object]) -> list[object]:
    """Return messages with calls and results of the old kind as those of tools; all others as they are.

    Raises:
        RefusedRequest: A message cannot be read.
    """
    told: list[object] = []
    last = ""  # the id of the last call
    for at, item in enumerate(messages):
        fields = as_fields(item, f"messages[{at}]")
        if fields.get("role") == "function":
            if not last:
                raise bad(f"messages[{at}] is the result of a function that no message before it has called.")
            told.append({"role": "tool", "tool_call_id": last, "content": fields.get("content")})
        elif fields.get("role") == "assistant" and fields.get("function_call") and not fields.get("tool_calls"):
            last = f"call_{at}"
            function = as_fields(fields["function_call"], f"messages[{at}].function_call")
            told.append({**fields, "tool_calls": [{"id": last, "type": "function", "function": function}]})
        else:
            told.append(item)
    return told


def told_call(name: str, arguments: str) -> Mapping[str, object]:
    """Return the fields of an answer that calls a function."""
    return {"function_call": {"name": name, "arguments": arguments}}
