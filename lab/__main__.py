"""Command line of the lab: `python -m lab up|down|status|demo`."""

from __future__ import annotations

import argparse
import sys

from lab import demo, lifecycle
from lab.progress import LabError, Progress


def main() -> int:
    """Run the given command; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="lab", description="A homelab on this machine, for tests and rehearsals."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the lab, or repair it")
    down = commands.add_parser("down", help="stop the lab; its data stays")
    down.add_argument("--purge", action="store_true", help="also remove the data")
    commands.add_parser("status", help="show which parts are running")
    commands.add_parser("demo", help="start the lab, deploy to it, run operations")
    arguments = parser.parse_args()
    progress = Progress()
    try:
        if arguments.command == "up":
            lifecycle.up(progress)
        elif arguments.command == "down":
            lifecycle.down(progress, purge=arguments.purge)
        elif arguments.command == "demo":
            return demo.main()
        else:
            return _print_status()
    except LabError as exc:
        progress.write(f"error: {exc}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _print_status() -> int:
    components = lifecycle.status()
    for component in components:
        state = "up" if component.is_healthy else "DOWN"
        print(f"{state:4}  {component.name:14} {component.address}")
    return 0 if all(component.is_healthy for component in components) else 1


if __name__ == "__main__":
    sys.exit(main())
