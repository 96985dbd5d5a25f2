"""What is wrong on this machine, and the command that mends each of it.

The checks are in three modules, one small function each; here is their order, and what happens around them. A check
that cannot be carried out is a finding itself, and keeps none of the others from being made.
"""

from __future__ import annotations

from typing import Any

from tmux_orchestrator.ground.errors import OrcError
from tmux_orchestrator.ground.output import clean, paint
from tmux_orchestrator.insight import doctor_agents, doctor_home, doctor_machine
from tmux_orchestrator.insight.findings import Case, Check, Finding

CHECKS: dict[str, Check] = {
    "python": doctor_machine.python,
    "tmux": doctor_machine.tmux,
    "jq": doctor_machine.jq,
    "locale": doctor_machine.locale,
    "path": doctor_machine.search_path,
    "home": doctor_home.place,
    "modes": doctor_home.modes,
    "disk": doctor_machine.disk,
    "file-system": doctor_machine.file_system,
    "inotify": doctor_machine.inotify,
    "configuration": doctor_home.configuration,
    "profiles": doctor_home.agent_profiles,
    "log-damage": doctor_home.log_damage,
    "days-ahead": doctor_home.days_ahead,
    "log-lock": doctor_home.log_lock,
    "pid-files": doctor_home.pid_files,
    "daemons": doctor_home.daemons,
    "broker-lag": doctor_home.broker_lag,
    "defects": doctor_home.defects,
    "leftovers": doctor_home.leftovers,
    "registry": doctor_agents.damaged_registry,
    "servers": doctor_agents.servers,
    "agents": doctor_agents.ended,
    "screens": doctor_agents.screens,
    "hooks": doctor_agents.hooks,
    "old-scripts": doctor_machine.old_scripts,
}


def examine(case: Case, fix: bool = False) -> list[Finding]:
    """Everything that is wrong, in the order of the checks; with `fix`, mended where that is safe."""
    found: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            those = list(check(case))
        except (OrcError, OSError) as error:
            those = [Finding(f"{name} cannot be checked ({error})", "mend the others first, then orc-doctor")]
        for one in those:
            one.check = name
            if fix and one.fix is not None:
                _fix(one)
        found += those
    return found


def _fix(finding: Finding) -> None:
    assert finding.fix is not None
    try:
        finding.fix()
        finding.fixed = True
    except (OrcError, OSError) as error:
        finding.text += f" (not mended: {error})"


def is_well(found: list[Finding]) -> bool:
    """Is there nothing left to mend? Notes do not count."""
    return all(one.note or one.fixed for one in found)


def document(found: list[Finding]) -> dict[str, Any]:
    """The fields that scripts read."""
    return {"ok": is_well(found), "checks": len(CHECKS), "findings": [one.record() for one in found]}


def render(found: list[Finding]) -> list[str]:
    """One line for each finding."""
    lines = []
    for one in sorted(found, key=lambda one: one.note):
        mark = paint("mended", "green") if one.fixed else paint("note", "dim") if one.note else paint("wrong", "red")
        lines.append(f"{mark}: {clean(one.text)} → {clean(one.mend)}")
    wrong = sum(not (one.note or one.fixed) for one in found)
    safe = sum(one.fix is not None and not one.fixed for one in found)
    if not wrong:
        lines.append(f"all is well: {len(CHECKS)} checks")
    elif safe:
        lines.append(f"orc-doctor --fix mends {safe} of these")
    return lines
