#!/usr/bin/env -S sh -c 'exec "$(dirname "$(readlink -f "$0")")/../../.venv/bin/python" -EsBX utf8 "$0" "$@"'
"""When a cron expression is due next, in the home's time zone: cron.py EXPRESSION"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)) + "/../../lib")


def main() -> int:
    from tmux_orchestrator.ground import clock, config, paths, timetable
    from tmux_orchestrator.ground.errors import OrcError

    try:
        here = timetable.zone(config.load(paths.find_home()).get("events.timezone"))
        due = timetable.Cron(" ".join(sys.argv[1:]), here).after(clock.now_ns())
    except OrcError as error:
        print(f"cron.py: {error}", file=sys.stderr)
        return 78
    if due is None:
        return 1
    print(clock.stamp(due))
    return 0


if __name__ == "__main__":
    sys.exit(main())
