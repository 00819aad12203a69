"""An MCP server over standard input without the SDK: it starts in a tenth of the time, and can misbehave.

The first argument names the fault of its tool ``go``; the other tools have none.
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


TOOLS = ("go", "pid", "die", "wait", "meet", "variable")
asking: list[Json] = []
meeting: list[Json] = []


def text(number: Json, words: str) -> Json:
    """The result of a tool."""
    return result(number, {"content": [{"type": "text", "text": words}]})


def go(fault: str, number: Json) -> None:
    done = text(number, "done")
    match fault:
        case "noise":  # log lines among the messages, one of them not in UTF-8
            sys.stdout.buffer.write(b"caf\xe9 is open\n[]\n{}\n\n")
        case "repeated":  # answers that nobody asked for
            for other in (done, done, result(999, {}), error("x", "no")):
                send(other)
        case "asks":  # the answer comes with that of the user
            form: Json = {"type": "object", "properties": {}}
            asked: Json = {"message": "Sure?", "requestedSchema": form}
            asking.append(number)
            send({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": asked})
            return
        case "half":
            sys.stdout.buffer.write(b'{"jsonrpc": "2.0", "id"')
            sys.stdout.buffer.flush()
            os._exit(1)
        case _:
            pass
    send(done)


def called(fault: str, number: Json, name: Json, arguments: dict[str, Json]) -> None:
    match name:
        case "pid":
            send(text(number, str(os.getpid())))
        case "die":
            os._exit(1)
        case "meet":  # when so many calls are here at once
            meeting.append(number)
            if len(meeting) == arguments["others"]:
                for each in meeting:
                    send(text(each, "met"))
        case "variable":
            send(text(number, os.environ.get(str(arguments["which"]), "unset")))
        case "wait":
            pass
        case _:
            go(fault, number)


def answer(fault: str, message: dict[str, Json]) -> None:
    number, params = message.get("id"), message.get("params")
    match message.get("method"):
        case "initialize":
            version = params["protocolVersion"] if isinstance(params, dict) else None
            capabilities: Json = {"tools": {}}
            about: Json = {"name": "raw", "version": "1"}
            send(result(number, {"protocolVersion": version, "capabilities": capabilities, "serverInfo": about}))
        case "tools/list":
            send(result(number, {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}))
        case "tools/call" if isinstance(params, dict):
            arguments = params.get("arguments")
            called(fault, number, params["name"], arguments if isinstance(arguments, dict) else {})
        case None if number == "q":
            send(text(asking.pop(), "answered"))
        case _:
            if number is not None:
                send(error(number, "no such method"))


if __name__ == "__main__":
    for received in sys.stdin:
        answer(sys.argv[1], json.loads(received))
