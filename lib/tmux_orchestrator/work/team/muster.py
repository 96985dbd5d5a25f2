"""Who is in the team now: adopted when the supervisor begins, changed when the configuration does.

An agent whose process was started after the state was written last is found by its mark. One that is no longer in the
configuration, or not wanted, is stopped, also when it was another supervisor that started it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tmux_orchestrator.work.team import kin, processes, restarts, roster, state
from tmux_orchestrator.work.team.member import FAIL, START, STAY, Desk, Member
from tmux_orchestrator.work.team.panes import Errands, PaneMember
from tmux_orchestrator.work.team.roster import Spec
from tmux_orchestrator.work.team.state import Kept
from tmux_orchestrator.work.team.stopping import Stopping


class Muster:
    """`members` by name, in the order of the configuration; `leaving` are those that it does not have any more."""

    def __init__(self, desk: Desk, errands: Errands, stopping: Stopping, only: Iterable[str]) -> None:
        self.members: dict[str, Member] = {}
        self.leaving: list[Member] = []
        self._desk, self._errands, self._stopping = desk, errands, stopping
        self._only = frozenset(only)
        self._asked: set[str] = set()  # started by hand

    def everybody(self) -> list[Member]:
        return [*self.members.values(), *self.leaving]

    def wants(self, one: Member) -> bool:
        usual = one.name in self._only if self._only else one.spec.enabled
        return one.kept.wanted and (usual or one.name in self._asked)

    def take_over(self, specs: dict[str, Spec]) -> None:
        """Adopt what runs, start what should, stop what should not."""
        team = self._desk.team
        found = kin.leaders(team.id)
        for name in [name for name in dict.fromkeys([*team.agents, *found]) if name not in specs]:
            gone = Member(self._desk, roster.retired(name), team.agents.pop(name, Kept()))
            if self._adopted(gone, found):
                self.leaving.append(gone)
        self._stopping.begin(self.leaving, False, "it is in the configuration no more")
        unwanted, changed = [], []
        for name, spec in specs.items():
            one = self.members[name] = self._member(spec, team.agents.setdefault(name, Kept()))
            with self.fault_of(one):
                runs = self._adopted(one, found)
                if runs and not self.wants(one):
                    unwanted.append(one)
                elif runs and one.kept.made not in ("", spec.digest):
                    one.then = START
                    changed.append(one)
                elif not runs:
                    self._first(one)
        self._stopping.begin(unwanted, False, "it is not wanted")
        self._stopping.begin(changed, False, "it has changed")

    def change(self, specs: dict[str, Spec]) -> None:
        """Another configuration holds."""
        gone = [self.members.pop(name) for name in list(self.members) if name not in specs]
        self._stopping.begin(gone, False, "it is in the configuration no more")
        for one in gone:
            self._desk.team.agents.pop(one.name, None)
            if one.kept.state == state.STOPPING:
                self.leaving.append(one)
            else:
                one.close()
        before, self.members = self.members, {}
        for name, spec in specs.items():
            old = before.get(name)
            if old is not None and old.spec.runner == spec.runner:
                self.members[name] = old
                with self.fault_of(old):
                    self._changed(old, spec)
                continue
            if old is not None:  # another runner
                self._stopping.begin([old], False, "it runs otherwise")
                self.leaving.append(old)
            self._leave()
            one = self.members[name] = self._member(spec, self._successor(name))
            with self.fault_of(one):
                self._first(one)
        self._leave()

    def _successor(self, name: str) -> Kept:
        """What is kept of one that comes anew. While one of its name still stops, it waits, and stands for it."""
        kept = self._desk.team.agents[name] = Kept()
        for old in self.leaving:
            if old.name == name:
                kept.run = old.kept.run
                kept.state, kept.pid, kept.pid_start = state.STOPPING, old.kept.pid, old.kept.pid_start
        return kept

    def begin(self, one: Member) -> None:
        """Start it, or let it wait for its time."""
        one.kept.state = state.STOPPED
        if one.spec.is_occasional and not one.kept.event:
            one.rest(f"DEBUG {one.name} waits")
        else:
            one.begin()

    def begin_by_hand(self, one: Member) -> None:
        """Also one that has failed, or is not enabled: a person asks for it."""
        one.kept.wanted = True
        self._asked.add(one.name)
        if one.kept.state == state.STOPPING:
            one.then = START
        elif not one.is_occupied:
            restarts.forgive(one.kept)
            one.kept.told, one.kept.restarts = False, 0
            one.begin("it was asked for")

    def has_stopped(self, one: Member, ending: bool) -> None:
        """What follows when one has."""
        if one in self.leaving:
            self.leaving.remove(one)
            one.close()
            if not ending:
                self._follow(one.name)
        elif not ending:
            then, one.then = one.then, STAY
            if then == FAIL:
                one.fail("was restarted too often")
            elif then != STAY:
                self.begin(one)

    def _follow(self, name: str) -> None:
        """The last of that name that was to go has gone: whoever waited for that begins."""
        one = self.members.get(name)
        if one is None or one.kept.state != state.STOPPING or one in self._stopping:
            return
        if not any(other.name == name for other in self.leaving):
            one.then, one.kept.state, one.kept.pid = STAY, state.STOPPED, 0
            self._first(one)

    @contextmanager
    def fault_of(self, one: Member) -> Iterator[None]:
        """A fault of one agent, or in what is done for it, is not another's."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            self._desk.complain(f"{one.name}: {type(error).__name__}: {error}")

    def _member(self, spec: Spec, kept: Kept) -> Member:
        if spec.runner == roster.PANE:
            return PaneMember(self._desk, spec, kept, self._errands)
        return Member(self._desk, spec, kept)

    def _adopted(self, one: Member, found: dict[str, list[tuple[int, int, int]]]) -> bool:
        """Take over the process that was kept; else one that was started after the state was written last."""
        process = processes.adopt(one.kept.pid, one.kept.pid_start) if one.kept.pid else None
        if isinstance(one, PaneMember):
            process = process or one.running()
        later = [leader for leader in found.get(one.name, []) if leader[0] > one.kept.run]
        if process is None and later:
            run, pid, start = min(later, key=lambda leader: (-leader[0], leader[2]))
            process = processes.adopt(pid, start)
            one.kept.run = run
        if process is None:
            return False
        one.adopt(process)
        return True

    def _first(self, one: Member) -> None:
        """It does not run, at the beginning. One that ran when its supervisor was killed has crashed meanwhile."""
        kept = one.kept
        if kept.state == state.STOPPING and any(other.name == one.name for other in self.leaving):
            one.then = START
        elif not self.wants(one):
            kept.state, kept.pid = state.STOPPED, 0
        elif kept.state == state.RUNNING and kept.pid:
            one.crashed_unseen()
        elif kept.state == state.WAITING and (one.spec.is_occasional or one.spec.interval):
            pass
        elif kept.state not in (state.FAILED, state.EXITED):
            self.begin(one)

    def _changed(self, one: Member, spec: Spec) -> None:
        if one.spec == spec:
            return
        other, was_wanted = one.spec.digest != spec.digest, self.wants(one)
        one.change(spec)
        if not self.wants(one):
            one.then = STAY
            self._stopping.begin([one], False, "it is not enabled")
        elif one.kept.state == state.STOPPING:
            one.then = START
        elif other and one.is_occupied:
            one.then = START
            self._stopping.begin([one], False, "it has changed")
        elif not one.is_occupied and (other or not was_wanted or one.kept.state == state.WAITING):
            restarts.forgive(one.kept)
            self.begin(one)

    def _leave(self) -> None:
        for one in [one for one in self.leaving if one.kept.state != state.STOPPING]:
            self.leaving.remove(one)
            one.close()
