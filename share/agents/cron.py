#!/usr/bin/env -S sh -c 'exec "$(dirname "$(readlink -f "$0")")/../../.venv/bin/python" -EsBX utf8 "$0" "$@"'
"""When a cron expression is due next, as 2026-11-30T09:00:00Z: cron.py EXPRESSION [ZONE]"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError


def main() -> int:
    expression, zone = [*sys.argv[1:3], "", ""][:2]
    now = datetime.now(ZoneInfo(zone)) if zone else datetime.now().astimezone()
    try:
        due = next(CronSim(expression, now))
    except (CronSimError, StopIteration):
        print(f"cron.py: {expression[:200]!r} is no cron expression such as '0 9 * * 1': correct it", file=sys.stderr)
        return 78
    print(due.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
