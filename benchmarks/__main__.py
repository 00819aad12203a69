"""The command line of the benchmarks: one subcommand for each measurement."""

import argparse
import sys

from benchmarks import (
    accumulate,
    convert,
    everything,
    fanout,
    latency,
    loop,
    memory,
    plain,
    startup,
    store,
    stream,
    tracing,
    web,
)

_COMMANDS = {
    "stream": stream,
    "latency": latency,
    "accumulate": accumulate,
    "plain": plain,
    "fanout": fanout,
    "memory": memory,
    "loop": loop,
    "startup": startup,
    "convert": convert,
    "tracing": tracing,
    "web": web,
    "store": store,
    "all": everything,
}


def main() -> int:
    """Run the requested subcommand, and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in _COMMANDS.items():
        summary = (module.__doc__ or "").partition("\n")[0].partition(": ")[2].replace("``", "")
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args()
    return arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
