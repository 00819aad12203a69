"""An MCP server that misbehaves: a program over standard input without the SDK, which would not write such lines.

The first argument names the fault. Its only tool is ``go``.
"""

import json
import os
import sys

Json = dict[str, "Json"] | list["Json"] | str | int | None


def send(message: Json) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


def result(number: Json, answer: Json) -> Json:
    return {"jsonrpc": "2.0", "id": number, "result": answer}


def error(number: Json, words: str) -> Json:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": words}}


def called(fault: str, number: Json) -> None:
    done = result(number, {"content": [{"type": "text", "text": "done"}]})
    match fault:
        case "noise":  # log lines among the messages, one of them not in UTF-8
            sys.stdout.buffer.write(b"caf\xe9 is open\n[]\n{}\n\n")
        case "repeated":  # answers that nobody asked for
            for other in (done, done, result(999, {}), error("x", "no")):
                send(other)
        case "asks":  # a question, and no answer ever
            form: Json = {"type": "object", "properties": {}}
            asked: Json = {"message": "Sure?", "requestedSchema": form}
            send({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": asked})
            return
        case "half":
            sys.stdout.buffer.write(b'{"jsonrpc": "2.0", "id"')
            sys.stdout.buffer.flush()
            os._exit(1)
        case _:
            pass
    send(done)


def answer(fault: str, message: dict[str, Json]) -> None:
    number, params = message.get("id"), message.get("params")
    match message.get("method"):
        case "initialize":
            version = params["protocolVersion"] if isinstance(params, dict) else None
            capabilities: Json = {"tools": {}}
            about: Json = {"name": "raw", "version": "1"}
            send(result(number, {"protocolVersion": version, "capabilities": capabilities, "serverInfo": about}))
        case "tools/list":
            send(result(number, {"tools": [{"name": "go", "inputSchema": {"type": "object"}}]}))
        case "tools/call":
            called(fault, number)
        case _:
            if number is not None:
                send(error(number, "no such method"))


if __name__ == "__main__":
    for received in sys.stdin:
        answer(sys.argv[1], json.loads(received))
