"""orc-doctor: what is wrong on this machine, and the command that mends it."""

from __future__ import annotations

from tmux_orchestrator.ground import clock, errors, fastjson, options, paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmux_orchestrator.insight.findings import Case

USAGE = """\
usage: orc-doctor [--fix] [--json]
       orc-doctor --pm[=SESSION] [--json]

Checks the machine, the home, the log, the daemons and the agents, and prints a line for each thing that is wrong,
with the command that mends it. Lines that begin with `note` are worth knowing, and nothing is broken. Ends with 0
when all is well, with 1 when there is something to mend.

  --fix                   mend what can be mended safely, and say so
  --pm[=SESSION]          walk a project manager's checklist instead: of the pane this runs in, or of a session or
                          session:window; a line each, ok or what to do
  --json                  one document

examples:
  orc-doctor || orc-doctor --fix
  orc-doctor --pm=web
  orc-doctor --json | jq -r '.findings[] | select(.note | not) | .mend'
"""


def main(argv: list[str]) -> int:
    given = options.parse(USAGE, argv)
    if given.args:
        raise errors.UsageError(f"{given.args[0]!r} is no option: see --help")
    if given.pm is not None and given.fix:
        raise errors.UsageError("--fix mends nothing of --pm: leave it out")
    from tmux_orchestrator.insight import doctor
    from tmux_orchestrator.insight.findings import Case

    case = Case(paths.find_home())
    clock.use_zone(case.settings.get("events.timezone"))
    if given.pm is not None:
        return _manager(case, given.pm or None, given.json)
    found = doctor.examine(case, fix=given.fix)
    print(fastjson.dumps(doctor.document(found)) if given.json else "\n".join(doctor.render(found)))
    return errors.OK if doctor.is_well(found) else errors.NO


def _manager(case: Case, session: str | None, as_json: bool) -> int:
    from tmux_orchestrator.insight import doctor_pm

    walk = doctor_pm.Walk(case, session)
    steps = walk.steps()
    print(fastjson.dumps(doctor_pm.document(walk, steps)) if as_json else "\n".join(doctor_pm.render(steps)))
    return errors.OK if doctor_pm.is_ready(steps) else errors.NO
