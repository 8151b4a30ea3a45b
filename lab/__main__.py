"""`python -m lab up|down|status|demo`: what the Makefile's targets call."""

from __future__ import annotations

import argparse
import sys

from lab import demo, homelab
from lab.report import LabError, Report


def main() -> int:
    """Does what was asked for; the exit code is 0 when it went well."""
    parser = argparse.ArgumentParser(prog="lab", description="The rehearsal homelab.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="bring it up, or repair it")
    down = commands.add_parser("down", help="take it down")
    down.add_argument("--purge", action="store_true", help="remove its data, too")
    commands.add_parser("status", help="say what of it is up")
    commands.add_parser("demo", help="bring it up, deploy to it, run real work on it")
    asked = parser.parse_args()
    report = Report()
    try:
        if asked.command == "up":
            homelab.up(report)
        elif asked.command == "down":
            homelab.down(report, purge=asked.purge)
        elif asked.command == "demo":
            return demo.main()
        else:
            return _status()
    except LabError as exc:
        report.say(f"the lab cannot go on: {exc}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _status() -> int:
    lines = homelab.status()
    for line in lines:
        print(f"{'up' if line.well else 'DOWN':4}  {line.what:14} {line.where}")
    return 0 if all(line.well for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
