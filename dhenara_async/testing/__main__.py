"""``python -m dhenara_async.testing``: a loopback provider for any program, until Ctrl-C.

Prints the ``export`` lines that point the SDKs of the vendors, and this library, to the server. It answers the
questions of the README as the README shows, and every other question with a summary of the conversation it received.
"""

import argparse
import asyncio
import shlex
import sys
from contextlib import suppress

from dhenara_async.testing.examples import ExampleAnswers
from dhenara_async.testing.server import ProviderServer


async def _serve(port: int, delay: float) -> None:
    async with ProviderServer(ExampleAnswers(), delay=delay, port=port, keep=0) as server:
        lines = [f"export {name}={shlex.quote(value)}" for name, value in server.environment().items()]
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m dhenara_async.testing", description="Serve a loopback provider that speaks every dialect."
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each streamed token (default: 0)")
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.port, options.delay))


if __name__ == "__main__":
    main()
