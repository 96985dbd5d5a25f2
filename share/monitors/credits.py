#!/usr/bin/env -S sh -c 'exec "$(dirname "$(readlink -f "$0")")/../../.venv/bin/python" -EsBX utf8 "$0" "$@"'
# credits.py: tells when an agent's credit is used up, and when there is some again.
#
# usage: credits.py [--warn 90] [--every 5m] [--dry-run]
#
# It looks once and leaves, or again and again with --every. By cron, every five minutes:
#   */5 * * * * ORC_HOME=$HOME/orc /path/to/share/monitors/credits.py
#
# An agent is out of credit when `orc-agent list` says `limited`, or when its own status line reported 100 % of a limit
# (`usage` in logs/run/signs/, where its hooks leave that; best effort). That is one `credit_exhausted`, with `until`;
# when it is over, one `status_update` with credit_exhausted: false. From --warn percent on, a `status_update` tells of
# each limit once. What was told before is what the state updater keeps (orc-state show); while it does not run, an id
# that follows from the same keeps it at one event.
import glob
import json
import subprocess
from datetime import UTC, datetime

from recipe import Fields, agents, ask, fail, options, publish, repeat


def usage(home: str, agent: Fields) -> dict[str, tuple[float, str | None]]:
    """What the agent's status line said of its limits: (percent used, when it begins anew), by name."""
    found: dict[str, tuple[float, str | None]] = {}
    for path in glob.glob(f"{glob.escape(home)}/logs/run/signs/*@{glob.escape(agent['name'])}.json"):
        try:
            with open(path, "rb") as file:
                sign = json.loads(file.read(1 << 16))
            if sign["pid"] == agent["pid"]:
                for name, one in sign["usage"].items():
                    resets = one.get("resets")
                    found[str(name)[:32]] = (float(one["used_percent"]), resets if isinstance(resets, str) else None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # none yet, or one that is no sign
    now = datetime.now(UTC)
    return {name: one for name, one in found.items() if not one[1] or is_later(one[1], now)}


def is_later(stamp: str, now: datetime) -> bool:
    try:
        return datetime.fromisoformat(stamp) > now
    except (ValueError, TypeError):
        return True  # who knows


def known() -> dict[str, Fields]:
    """What the state updater keeps of each agent's credit."""
    return {
        f"{state['session']}:{name}": agent["credit"]
        for state in ask("orc-state", "show")
        for name, agent in state["agents"].items()
    }


def look(home: str, warn: float, dry_run: bool) -> None:
    before = known()
    for agent in agents():
        key, limits = agent["key"], usage(home, agent)
        credit = before.get(key) or {"exhausted": False, "since": None}
        used = max((percent for percent, _ in limits.values()), default=None)
        context = {"agent": key, "session": agent["session"]} | ({} if used is None else {"used_percent": used})
        full = [name for name, (percent, _) in limits.items() if percent >= 100]
        out = agent["state"] == "limited" or bool(full)
        since = [key, str(credit["since"])]  # another one after each change
        if out and not credit["exhausted"]:
            until = agent["limited_until"] or next((limits[name][1] for name in full), None)
            text = f"{key} has no credit left" + (f" until {until}" if until else "")
            publish(["out", *since], "credit_exhausted", "high", context | {"until": until}, text, dry_run)
        elif credit["exhausted"] and not out and agent["state"] not in ("dead", "gone", "unknown"):
            back = context | {"credit_exhausted": False, "status": agent["state"]}
            publish(["back", *since], "status_update", "normal", back, f"{key} has credit again", dry_run)
        for name, (percent, resets) in limits.items():
            if warn <= percent < 100:
                text = f"{key} has used {percent:.0f} % of {name}" + (f", which begins anew {resets}" if resets else "")
                publish(["near", key, name, str(resets)], "status_update", "normal", context, text, dry_run)


def main() -> None:
    given = options("credits.py", ("--warn", "90", "percent of a limit from which on it is told"))
    try:
        warn = float(given.warn)
    except ValueError:
        fail(64, f"--warn {given.warn!r} is no number: give a percentage")
    day = subprocess.run(["orc-log", "path"], stdout=subprocess.PIPE, text=True, check=False).stdout
    repeat(given.every, lambda: look(day.partition("/logs/events/")[0], warn, given.dry_run))


main()
