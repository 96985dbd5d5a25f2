"""The project manager's interface for Python: what the daemons said, acknowledging it, and a script for its loop.

    pm = PMPubsubIntegration()                        # the pane it runs in; or "session:window", or "session"
    for one in pm.get_daemon_notifications(30): print(one["type"], one["raw_message"])

It keeps nothing but the script's cursors, in `logs/run/cursors/`: what the script printed is passed over the next time,
and a crash between the two prints it again. All else is read from the log, and acknowledgments are appended to it, so
it works while broker and monitor are away. Errors are those of `ground.errors`, as of every command.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from tmux_orchestrator.agents import managers, places, registry, sender
from tmux_orchestrator.eventlog import ack, event, follow, reader
from tmux_orchestrator.eventlog.daylog import DAY_NS, Log
from tmux_orchestrator.ground import clock, config, fastjson, files, paths, tmux
from tmux_orchestrator.ground.errors import OK, OrcError, UsageError
from tmux_orchestrator.ground.locks import Lock
from tmux_orchestrator.ground.output import clean
from tmux_orchestrator.watch import notifications
from tmux_orchestrator.watch.notifications import GROUP, Scope

SCRIPT = "pm_daemon_monitor.sh"
URGENT = ("critical", "high")
_MINUTE_NS = 60_000_000_000
_FIRST_NS = 30 * _MINUTE_NS  # so far back the script looks when it is run for the first time
_PATIENCE = 20.0  # seconds for orc-status
_NAME = 100  # bytes of a session's name in the name of a cursor


class PMPubsubIntegration:
    """One project manager's view of the log, by session."""

    def __init__(self, session: str | None = None) -> None:
        """`session`: "session:window", "session:name" or "session"; None: the pane this runs in, and outside of any,
        all sessions. Raises UsageError for what cannot be one."""
        self.home = paths.find_home()
        self.session = _where(session) if session is not None else self._around()

    def get_daemon_notifications(self, since_minutes: float = 30) -> list[dict[str, Any]]:
        """What the daemons had to say to this project manager, oldest first; the fields are told in docs/pm.md."""
        since = clock.now_ns() - int(_positive(since_minutes) * _MINUTE_NS)
        query = reader.Query()
        query.since, query.match = since, self._scope().notifies
        return self._records(query)

    def get_management_broadcasts(
        self, priority: str | None = None, since_minutes: float = 24 * 60
    ) -> list[dict[str, Any]]:
        """What anybody said to the group `management`, its role or everybody, oldest first; of one priority, or all."""
        if priority is not None and priority not in event.PRIORITIES:
            raise UsageError(f"priority {priority!r} is none of {', '.join(event.PRIORITIES)}: correct it")
        query = reader.Query()
        query.since = clock.now_ns() - int(_positive(since_minutes) * _MINUTE_NS)
        query.priorities = [priority] if priority else []
        query.match = _is_broadcast
        self._settings()
        return self._records(query)

    def acknowledge_notification(self, notification_id: str, text: str = "") -> bool:
        """Say that it has been taken care of, and how; False when no event has this id or short id.

        True: it is on disk. The acknowledgment carries the project manager's session. Raises SystemFailure.
        """
        wanted = str(notification_id).removeprefix("#")
        found = reader.find(self.home, wanted) if event.is_id(wanted) else None
        if found is None:
            return False
        note = str(text).encode("utf-8", "replace").decode()
        durable = self._settings().get("events.durability") == "disk"
        Log(self.home, durable=durable).append([ack.build(found["id"], note, self.source())])
        return True

    def monitor_pubsub_health(self) -> dict[str, Any]:
        """How the whole system is, as `orc-status` tells it. Never raises: what is wrong is among the `problems`."""
        try:
            found = _health(self._status())
        except Exception as error:  # noqa: BLE001 # a project manager's loop must not end by its own look at the system
            found = _health({}) | {"problems": [f"orc-status did not tell how the system is ({error}): orc-doctor"]}
        found["ok"] = found["broker_running"] and found["monitor_running"] and not found["problems"]
        return found | {"session": self.session}

    def source(self) -> dict[str, Any]:
        """Who acknowledges: the agent in whose process tree this runs; else, unverified, the session's manager."""
        agents = registry.load(self.home)
        caller = registry.caller(agents)
        if caller is not None or self.session is None:
            return sender.source(agents, None)
        mine = self._scope().mine
        session = self.session.partition(":")[0]
        return sender.source(agents, mine[0].key if mine else f"{session}:{sender.user_name()}")

    def unseen(self) -> tuple[list[dict[str, Any]], follow.Place]:
        """The urgent notifications behind the script's cursor, and where the cursor goes when they are out."""
        query = reader.Query()
        query.priorities, query.match = list(URGENT), self._scope().notifies
        place = follow.load_place(self.cursor)
        if place is None:
            place = follow.end_of_log(self.home)
            query.since, query.before = clock.now_ns() - _FIRST_NS, (place.day, place.offset)
            return self._records(query), place
        follower = follow.Follower(self.home, place)
        found: list[dict[str, Any]] = []
        try:
            while lines := follower.read():
                found += filter(query.wants, filter(None, map(reader.decode, lines)))
        finally:
            follower.close()
        return _records(found, notifications.acknowledged(self.home, clock.now_ns() - DAY_NS)), follower.place

    @cached_property
    def cursor(self) -> str:
        """The file that remembers what the script has printed: the same however its project manager is called."""
        from urllib.parse import quote

        mine = self._scope().mine
        name = quote(mine[0].key if len(mine) == 1 else self.session or "", safe="")
        if len(name) > _NAME:
            import hashlib

            name = hashlib.sha256(name.encode()).hexdigest()
        return f"{self.home.run}/cursors/pm-monitor@{name}"

    def _around(self) -> str | None:
        """Where this process runs: the agent whose tree it is in, else tmux's word for the pane."""
        caller = registry.caller(registry.load(self.home))
        if caller is not None:
            return caller.key
        pane = os.environ.get("TMUX_PANE", "")
        around = next((one for one in self._panes("") if one.id == pane), None) if pane else None
        return f"{around.session}:{around.window_index}" if around else None

    def _panes(self, target: str) -> list[tmux.Pane]:
        """The panes that a session:window means, or all; none without a server."""
        try:
            panes = tmux.Tmux(tmux.find_socket(self._settings().get("tmux.socket"))).panes()
        except OrcError:
            return []
        return places.matching(panes, target) if target else panes

    def _settings(self) -> config.Config:
        settings = config.load(self.home)
        clock.use_zone(settings.get("events.timezone"))
        return settings

    def _scope(self) -> Scope:
        settings, where = self._settings(), self.session
        agents = registry.load(self.home)
        named = where is None or ":" not in where or any(agent.key == where for agent in agents)
        panes = [] if named else [pane.id for pane in self._panes(where or "")]
        return Scope(agents, settings.groups, where, panes)

    def _records(self, query: reader.Query) -> list[dict[str, Any]]:
        found = [one for _, one in reader.search(self.home, query)]
        return _records(found, notifications.acknowledged(self.home, query.since) if found else set())

    def _status(self) -> dict[str, Any]:
        command = [f"{paths.CODE}/bin/orc-status", "--json"]
        environment = os.environ | {"ORC_HOME": self.home.root}
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, env=environment, check=False
        )
        try:
            told = fastjson.loads(done.stdout)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise OSError(done.stderr.decode("utf-8", "replace").strip() or "it said nothing")
        return told


def _where(session: str) -> str:
    """A session as it was given; a shell may have left the quotes around it that its tmux printed."""
    where = session.strip()
    if len(where) > 1 and where[0] == where[-1] and where[0] in "\"'":
        where = where[1:-1]
    if not where or len(where) > 256 or not where.isprintable() or where.startswith(":"):
        raise UsageError(f"{session!r} is no session: write it as session:window, as tmux prints #S:#I")
    return where


def _positive(minutes: float) -> float:
    if not 0 < minutes <= 527_040:  # a year; NaN is refused too
        raise UsageError(f"{minutes!r} minutes: give a number above 0, a year at most")
    return minutes


def _is_broadcast(one: dict[str, Any]) -> bool:
    to = one["to"]
    everybody = {"@all", f"@{managers.ROLE}"} & set(to["targets"])
    return one["message"]["type"] not in event.RECORDS and (GROUP in to["groups"] or bool(everybody))


def _records(found: Iterable[dict[str, Any]], acknowledged: set[str]) -> list[dict[str, Any]]:
    return [notifications.record(one, notifications.is_acknowledged(one["id"], acknowledged)) for one in found]


def _health(status: dict[str, Any]) -> dict[str, Any]:
    """The figures that a project manager looks at, from the document of orc-status."""
    running = {one["name"]: bool(one["running"]) for one in status.get("components", [])}
    broker = status.get("broker", {})
    p95 = [one["p95"] for one in status.get("latency_ms", {}).values() if one["p95"] is not None]
    return {
        "ok": False,
        "broker_running": running.get("broker", False),
        "monitor_running": running.get("monitor", False),
        "queue_depth": broker.get("queued"),
        "held": broker.get("held"),
        "rate_limited": broker.get("rate_limited"),
        "lag_events": broker.get("lag_events"),
        "latency_p95_ms": max(p95, default=None),
        "latency_ms": status.get("latency_ms", {}),
        "agents": {f"{one['target'] or one['name']}": one["state"] for one in status.get("agents", [])},
        "problems": [f"{one['text']}: {one['mend']}" for one in status.get("problems", [])],
    }


def create_pm_monitoring_script() -> str:
    """Write the script that a project manager's loop runs every ten minutes, and return its path.

    It is below the home, where nobody else can write, and its owner's alone; a second call writes the same.
    """
    home = paths.find_home()
    path = f"{home.run}/{SCRIPT}"
    code, heartbeat = shlex.quote(paths.CODE), shlex.quote(paths.CODE + "/bin/orc-heartbeat")
    call = "import sys; from tmux_orchestrator.watch import pm; sys.exit(pm.check(sys.argv[1:]))"
    text = f"""#!/bin/sh
# {SCRIPT} [SESSION:WINDOW]: prints what is new and urgent for a project manager, each once; without an argument, for
# the pane it runs in. Made by create_pm_monitoring_script: what is changed here is lost when it is made again.
ORC_HOME={shlex.quote(home.root)}
export ORC_HOME
# Only who gives signs of life already gives one more: whoever gave one alone every ten minutes would soon be missed.
gives_signs() {{
  {heartbeat} --status -o session,name,last_heartbeat 2>/dev/null </dev/null | awk -F '\\t' '
    $1 == ENVIRON["ORC_SESSION"] && $2 == ENVIRON["ORC_AGENT"] && $3 != "-" {{ found = 1 }}
    END {{ exit !found }}'
}}
if [ -x {heartbeat} ] && gives_signs; then
  said=$({heartbeat} 2>/dev/null </dev/null) || said=
  case $said in '' | ack) ;; *) printf '%s\\n' "$said" ;; esac
fi
exec {code}/.venv/bin/python -I -X utf8 -c {shlex.quote(call)} "$@"
"""
    files.replace(path, text.encode("utf-8", "surrogateescape"), mode=0o700)
    return path


def check(argv: list[str]) -> int:
    """What the script does; its exit code. What was printed is passed over the next time."""
    try:
        if len(argv) > 1:
            raise UsageError("one argument at most: write it as session:window")
        mine = PMPubsubIntegration(argv[0] if argv else None)
        with Lock(mine.cursor + ".lock"):
            found, place = mine.unseen()
            for one in found:
                hint = "" if one["acknowledged"] or not one["requires_ack"] else f" (orc-ack {one['short_id']})"
                print(clean(f"[{one['priority']}] {one['raw_message']}{hint}"))
            sys.stdout.flush()
            follow.save_place(mine.cursor, place)
    except OrcError as error:
        print(clean(f"{SCRIPT}: {error}"), file=sys.stderr)
        return error.code
    return OK
