"""Keeping the task database: what is old goes, another version of the file comes, a damaged one is mended."""

from __future__ import annotations

import os

from tmux_orchestrator.ground import clock, errors, fastjson, options, output
from tmux_orchestrator.work import ending
from tmux_orchestrator.work.queue import MessageQueue, path_of
from tmux_orchestrator.work.store import salvage
from tmux_orchestrator.work.store.database import VERSION, Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.ground.config import Config
    from tmux_orchestrator.ground.paths import Home


def prune(queue: MessageQueue, days: int, dry_run: bool) -> int:
    """Print how many tasks were removed, or would be."""
    if dry_run:
        print(ending.old(queue.database, days))
        return errors.OK
    print(queue.cleanup_old_tasks(days))
    ending.shrink(queue.database)
    return errors.OK


def act(action: str, home: Home, settings: Config, given: options.Options) -> int:
    """What does not want the database as it is: `migrate`, `check` or `repair`. Raises UsageError."""
    if given.args:
        raise errors.UsageError(f"{action} takes no word: leave {given.args[0]!r} out")
    if action == "migrate":
        return migrate(home, settings, options.number(given.to, "--to", 0, 1000), given.dry_run)
    return repair(home, settings, given.dry_run) if action == "repair" else check(home, settings)


def migrate(home: Home, settings: Config, wanted: int | None, dry_run: bool) -> int:
    """Bring the database to this version, forth or back, and print from which to which. Raises UsageError."""
    target = VERSION if wanted is None else wanted
    if not 1 <= target <= VERSION:
        raise errors.UsageError(f"--to {target} is no version from 1 to {VERSION}: correct it")
    path = _path(home, settings)
    database = Database(path, settings.get("team.message_queue.synchronous_mode") == "FULL", None)
    found = database.version()
    running = database.row("SELECT count(*) FROM tasks WHERE status = 'running'") if found else None
    if target < found and running and running[0]:
        raise errors.TryLater(f"{running[0]} tasks run: stop their workers, then migrate")
    if not dry_run:
        database.migrate(target)
    print(f"{clock.stamp(clock.now_ns())} {path}: version {found} -> {target}" + " (not done)" * dry_run)
    database.close()
    return errors.OK


def check(home: Home, settings: Config) -> int:
    """Print what is wrong, a line each. Raises DataError if anything is, and for a missing file."""
    path = _path(home, settings)
    if not os.path.lexists(path):
        raise errors.DataError(f"there is no database {path}: the first task makes one")
    found = salvage.findings(path)
    for line in found:
        print(output.clean(line))
    if found:
        raise errors.DataError(f"{path} is damaged: run orc-task repair")
    print(f"whole: {output.clean(path)}")
    return errors.OK


def repair(home: Home, settings: Config, dry_run: bool) -> int:
    """Rebuild a damaged database; print what was recovered, or would be."""
    path = _path(home, settings)
    if dry_run:
        print(fastjson.dumps({"path": path, "damaged": salvage.findings(path)} | salvage.dry(path)))
        return errors.OK
    told = salvage.mend(home, path, 0, "found by orc-task repair")
    if told is None:
        print(f"nothing to repair: {output.clean(path)}")
    else:
        print(fastjson.dumps(told))
    return errors.OK


def _path(home: Home, settings: Config) -> str:
    return path_of(home, settings.get("team.message_queue.db_path"))
