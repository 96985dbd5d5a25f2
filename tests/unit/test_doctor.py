"""orc-doctor: each thing that can be wrong is made wrong, found, and mended by the very command that is printed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support_orc import System
from support_tmux import wait_until
from tmux_orchestrator.agents import registry, signs, state
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log
from tmux_orchestrator.ground import clock, files, pidfile
from tmux_orchestrator.ground.paths import CODE, Home
from tmux_orchestrator.insight import daycheck, doctor, doctor_agents, doctor_home, doctor_machine
from tmux_orchestrator.insight.findings import Case, Check, Finding

SOURCE = {"type": "human", "identifier": "ann", "session": None, "host": "h", "verified": False}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


def found(home: Home, check: Check) -> list[Finding]:
    return list(check(Case(home)))


def one(home: Home, check: Check) -> Finding:
    (finding,) = found(home, check)
    return finding


def mend(finding: Finding) -> None:
    """Do what it says."""
    subprocess.run(["bash", "-euc", finding.mend], check=True, capture_output=True, timeout=30)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    with System() as made:
        for name in ("ORC_HOME", "ORC_TMUX_SOCKET"):
            monkeypatch.setenv(name, made.env[name])
        yield made
        made.run("orc-component", "stop")


def publish(home: Home, *bodies: str) -> str:
    """The file."""
    log = Log(home, durable=False)
    log.append([event.build(body, dict(SOURCE)) for body in bodies])
    log.close()
    return f"{home.events}/{clock.local_day(clock.now_ns())}.jsonl"


# the command


def test_a_sound_system_is_well(system: System) -> None:
    system.run("orc-component", "start", "broker")
    system.demo("dev")
    system.wait_outcome(system.publish("-t", "dev", "hello"), "confirmed")
    told = json.loads(system.run("orc-doctor", "--json"))
    assert told["ok"] and told["checks"] == len(doctor.CHECKS)
    assert [one for one in told["findings"] if not one["note"]] == []
    assert "all is well" in system.run("orc-doctor")


def test_what_is_wrong_is_a_line_each_and_fix_mends_what_is_safe(home: Home) -> None:
    publish(home, "hello")
    os.chmod(home.events, 0o755)
    os.chmod(home.run, 0o777)
    path = Path(home.registry)
    path.mkdir(mode=0o700)
    Path(registry.path(home)).write_text("{")
    os.chmod(registry.path(home), 0o600)
    before = subprocess.run(["orc-doctor"], capture_output=True, text=True, check=False)
    assert before.returncode == 1 and before.stderr == ""
    wrong = [line for line in before.stdout.splitlines() if line.startswith("wrong: ")]
    assert len(wrong) == 2 and all(" → " in line for line in wrong)
    assert "orc-doctor --fix mends 1 of these" in before.stdout
    after = subprocess.run(["orc-doctor", "--fix"], capture_output=True, text=True, check=False)
    assert after.returncode == 1 and "mended: others may get at 2 files" in after.stdout
    assert os.stat(home.events).st_mode & 0o777 == os.stat(home.run).st_mode & 0o777 == 0o700
    os.unlink(registry.path(home))
    assert subprocess.run(["orc-doctor"], capture_output=True, check=False).returncode == 0


def test_a_check_that_cannot_be_made_keeps_none_from_the_others(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(case: Case) -> Iterator[Finding]:
        raise OSError(5, "Input/output error")
        yield

    monkeypatch.setattr(doctor, "CHECKS", {"broken": broken, "after": lambda case: iter([Finding("text", "mend")])})
    first, second = doctor.examine(Case(home))
    assert first.check == "broken" and "Input/output error" in first.text
    assert second.check == "after" and not doctor.is_well([second])


def test_a_fix_that_fails_says_so(home: Home) -> None:
    def fix() -> None:
        raise PermissionError(1, "Operation not permitted")

    finding = Finding("text", "mend", fix=fix)
    doctor._fix(finding)
    assert not finding.fixed and "not mended" in finding.text


def test_what_files_are_called_reaches_no_terminal_raw() -> None:
    (line,) = doctor.render([Finding("a \x1b[31mname", "rm $'\x1b'")])
    assert line.isprintable()


# the machine


def test_python_and_packages_as_the_lock_file_says(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(home, doctor_machine.python) == []
    code = tmp_path / "code"
    (code / "share/setup").mkdir(parents=True)
    shutil.copy(CODE + "/share/setup/setup.py", code / "share/setup")
    monkeypatch.setattr(doctor_machine, "CODE", str(code))
    assert "no Python environment" in one(home, doctor_machine.python).text
    (code / ".venv/bin").mkdir(parents=True)
    (code / ".venv/bin/python").symlink_to(sys.executable)
    (code / "requirements.lock").write_text("newer")
    assert "requirements.lock" in one(home, doctor_machine.python).text


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("said", "wrong"),
    [("tmux 3.3a", 0), ("tmux 3.2a", 1), ("tmux 2.9", 1), ("tmux next-3.6", 0), ("tmux 10.0", 0), ("tmux master", 0)],
)
def test_tmux_is_new_enough(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, wrong: int) -> None:
    program(tmp_path / "bin", "tmux", f"echo {said}")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert len(found(home, doctor_machine.tmux)) == wrong


def test_missing_programs(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(home, doctor_machine.tmux) + found(home, doctor_machine.jq) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert one(home, doctor_machine.tmux).mend.endswith("apt-get install tmux")
    assert one(home, doctor_machine.jq).note, "no command needs it"


def test_the_locale(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert "none is set" in one(home, doctor_machine.locale).text
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    assert found(home, doctor_machine.locale) == []
    monkeypatch.setenv("LC_ALL", "C")
    assert one(home, doctor_machine.locale).note


def test_the_commands_are_on_the_path(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(home, doctor_machine.search_path) == []
    whole = os.environ["PATH"]
    program(tmp_path / "bin", "orc-publish", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{whole}")
    wrong = one(home, doctor_machine.search_path)
    assert "another copy" in wrong.text and not wrong.note
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    note = one(home, doctor_machine.search_path)
    assert note.note
    after = subprocess.run(["bash", "-c", f"{note.mend}; command -v orc-publish"], capture_output=True, check=True)
    assert after.stdout.decode().strip() == CODE + "/bin/orc-publish"


def test_little_room_on_the_disk(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs("/")
    free = real.f_bavail * real.f_frsize
    monkeypatch.setattr(doctor_machine, "_LITTLE", free // 2)
    assert found(home, doctor_machine.disk) == []
    monkeypatch.setattr(doctor_machine, "_LITTLE", 1 << 62)
    assert one(home, doctor_machine.disk).note
    monkeypatch.setattr(doctor_machine, "_ALMOST_FULL", 1 << 62)
    assert not one(home, doctor_machine.disk).note


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:25 / /srv/net\\040share rw shared:1 - nfs4 host:/x rw
31 30 0:26 / /srv/net\\040share/local rw - xfs /dev/vdb rw
32 22 0:27 / /srv/over rw - nfs host:/y rw
33 22 0:28 / /srv/over rw - btrfs /dev/vdc rw
34 22 0:29 / /home/u/remote rw - fuse.sshfs u@h:/ rw
garbage
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/srv", "ext4"),
        ("/srv/net share", "nfs4"),
        ("/srv/net share/logs/events", "nfs4"),
        ("/srv/net share/local/x", "xfs"),
        ("/srv/net share2", "ext4"),
        ("/srv/over/x", "btrfs"),
        ("/home/u/remote/orc", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_folder(folder: str, kind: str) -> None:
    assert doctor_machine.mounted(MOUNTS, folder) == kind


def test_network_and_memory_file_systems(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "mounted", lambda text, folder: "ext4")
    assert found(home, doctor_machine.file_system) == []
    monkeypatch.setattr(doctor_machine, "mounted", lambda text, folder: "nfs4")
    assert "network file system (nfs4)" in one(home, doctor_machine.file_system).text
    monkeypatch.setattr(doctor_machine, "mounted", lambda text, folder: "tmpfs")
    assert one(home, doctor_machine.file_system).note


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no memory file system here")
def test_a_real_memory_file_system() -> None:
    assert one(Home("/dev/shm/not-there"), doctor_machine.file_system).note


def test_inotify_instances_and_watches(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tmux_orchestrator.ground.watch import Watch

    before = doctor_machine.inotify_of(os.getpid())
    (tmp_path / "second").mkdir()
    watches = [Watch([str(tmp_path), str(tmp_path / "second")]) for _ in range(3)]
    instances, watched = doctor_machine.inotify_of(os.getpid())
    assert (instances - before[0], watched - before[1]) == (3, 6)
    limits = {"/proc/sys/fs/inotify/max_user_instances": 1, "/proc/sys/fs/inotify/max_user_watches": 1 << 40}
    monkeypatch.setattr(doctor_machine, "_number", limits.__getitem__)
    finding = one(home, doctor_machine.inotify)
    assert "inotify instances" in finding.text and "sysctl -w fs.inotify.max_user_instances=1024" in finding.mend
    for watch in watches:
        watch.close()


def test_old_scripts_are_told_and_left_alone(home: Home, tmp_path: Path) -> None:
    scripts = {
        "credit_monitor.sh": "sleep 1000",
        "team-workflow.sh": 'send() { tmux send-keys -t x "$1"; }; sleep 1000',
        "monitor.sh": "sleep 1000",  # no word of typing
        "notes.sh": "# send-keys\nsleep 1000",  # called otherwise
        "test_monitor.sh": "# send-keys\nsleep 1000",  # a test of one
        f"{home.run}/pm_daemon_monitor.sh": "sleep 1000",  # made by create_pm_monitoring_script
    }
    os.makedirs(home.run, exist_ok=True)
    running = {}
    for name, text in scripts.items():
        (tmp_path / name).write_text(f"{text}\n")
        running[name] = subprocess.Popen(["bash", name], cwd=tmp_path, start_new_session=True)
    try:
        for child in running.values():
            wait_until(lambda c=child: b"bash" in Path(f"/proc/{c.pid}/cmdline").read_bytes())  # type: ignore[misc]
        named = [one for one in found(home, doctor_machine.old_scripts) if str(tmp_path) in one.text]
        those = [one for one in named if any(str(child.pid) in one.mend for child in running.values())]
        assert {one.mend for one in those} == {
            f"kill {running[name].pid}" for name in ("credit_monitor.sh", "team-workflow.sh")
        }
        assert all(child.poll() is None for child in running.values())
    finally:
        for child in running.values():
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


# the home


def test_odd_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(str(tmp_path / "home"))
    assert found(home, doctor_home.place) == []
    monkeypatch.setenv("ORC_HOME", "home")
    assert "another folder for each process" in one(home, doctor_home.place).text
    monkeypatch.setenv("ORC_HOME", "/x/home ")
    assert one(home, doctor_home.place).mend == "export ORC_HOME=/x/home"
    monkeypatch.delenv("ORC_HOME")
    assert one(Home("/x/" + "a" * 100), doctor_home.place).note
    Path(home.root).write_text("")
    mend(one(home, doctor_home.place))
    assert found(home, doctor_home.place) == []


def test_what_others_may_get_at(home: Home, tmp_path: Path) -> None:
    file = Path(publish(home, "hello"))
    assert found(home, doctor_home.modes) == []
    file.chmod(0o644)
    os.chmod(home.run, 0o750)
    target = tmp_path / "elsewhere"
    target.write_text("")
    target.chmod(0o666)
    (Path(home.run) / "link").symlink_to(target)
    finding = one(home, doctor_home.modes)
    assert "2 files" in finding.text and (str(file) in finding.text or home.run in finding.text)
    assert finding.fix is not None
    finding.fix()
    assert file.stat().st_mode & 0o777 == 0o600 and os.stat(home.run).st_mode & 0o777 == 0o700
    assert target.stat().st_mode & 0o777 == 0o666, "links are not followed"
    assert found(home, doctor_home.modes) == []
    file.chmod(0o664)
    mend(one(home, doctor_home.modes))
    assert found(home, doctor_home.modes) == []


def test_a_home_that_others_can_write_into(home: Home) -> None:
    publish(home, "hello")
    os.chmod(home.root, 0o775)
    finding = one(home, doctor_home.modes)
    assert finding.mend == f"run chmod go-w {home.root}"
    mend(Finding("", finding.mend.removeprefix("run ")))
    assert found(home, doctor_home.modes) == []


@needs_root
def test_files_of_another_user(home: Home) -> None:
    file = publish(home, "hello")
    os.chown(file, 12345, 12345)
    finding = one(home, doctor_home.modes)
    assert "another user" in finding.text and finding.fix is None
    mend(finding)
    assert found(home, doctor_home.modes) == []


def test_mistakes_in_the_configuration(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(home, doctor_home.configuration) == []
    files.make_dir(home.root)
    Path(home.config_file).write_text("monitoring:\n  check_intervall: 5\n  enabled: maybe\n")
    first, second = found(home, doctor_home.configuration)
    assert f"{home.config_file}:2:" in first.text and "check_interval" in first.text
    assert f"{home.config_file}:3:" in second.text
    Path(home.config_file).unlink()
    monkeypatch.setenv("ORC_DELIVERY_TTLL", "5")
    assert "ORC_DELIVERY_TTLL" in one(home, doctor_home.configuration).text
    monkeypatch.setenv("ORC_DELIVERY_TTLL", "")
    monkeypatch.delenv("ORC_DELIVERY_TTLL")
    Path(home.config_file).mkdir()
    assert "is no file" in one(home, doctor_home.configuration).text


def test_a_wrong_configuration_hides_nothing_else(home: Home) -> None:
    file = publish(home, "hello")
    Path(home.config_file).write_text("nonsense: 1\n")
    os.chmod(file, 0o644)
    checks = {one.check for one in doctor.examine(Case(home)) if not one.note}
    assert {"configuration", "modes"} <= checks


def test_profiles_that_cannot_be_loaded(home: Home) -> None:
    files.make_dir(home.root)
    Path(home.config_file).write_text("profiles: {codex: {composer: {prompt: '('}}}\n")
    finding = one(home, doctor_home.agent_profiles)
    assert "profiles.codex.composer.prompt" in finding.text and home.config_file in finding.mend


def test_damaged_lines_are_taken_out_with_a_copy_left(home: Home) -> None:
    file = Path(publish(home, "one", "two"))
    whole = file.read_bytes()
    assert found(home, doctor_home.log_damage) == []
    offset = len(whole)
    file.write_bytes(whole + b'{"torn\n')
    publish(home, "three")
    with file.open("ab") as out:
        out.write(b"\0\0\0\n")
    finding = one(home, doctor_home.log_damage)
    assert f"2 damaged lines in {file}, at byte {offset}" in finding.text
    mend(finding)
    assert found(home, doctor_home.log_damage) == []
    assert Path(f"{file}.damaged").read_bytes().count(b"\n") == 5
    publish(home, "four")
    assert daycheck.check(home).found == [] and file.read_bytes().startswith(whole)
    assert file.stat().st_mode & 0o777 == 0o600


def test_days_ahead_of_the_clock(home: Home) -> None:
    publish(home, "hello")
    Path(home.events, "2199-01-01.jsonl").write_text("")
    finding = one(home, doctor_home.days_ahead)
    assert "2199-01-01.jsonl" in finding.text
    mend(finding)
    assert found(home, doctor_home.days_ahead) == []


def test_a_lock_that_nobody_lets_go(home: Home) -> None:
    publish(home, "hello")
    assert found(home, doctor_home.log_lock) == []
    lock = home.run + "/log.lock"
    child = subprocess.Popen(
        ["bash", "-c", 'exec 9>>"$1"; flock 9; echo held; read go', "-", lock], stdin=-1, stdout=-1
    )
    assert child.stdout and child.stdout.readline() == b"held\n"
    began = time.monotonic()
    finding = one(home, doctor_home.log_lock)
    assert time.monotonic() - began < 5
    assert f"process {child.pid} " in finding.text and f"kill {child.pid}" in finding.mend
    child.communicate(b"go\n")
    assert found(home, doctor_home.log_lock) == []


def test_a_pid_file_whose_number_is_somebody_elses(home: Home) -> None:
    files.make_dir(home.logs)
    path = Path(home.pid_file("monitor"))
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        for harmless in (b"", b"0\n", b"-1\n", b"999999999\n", b"garbage"):
            path.write_bytes(harmless)
            assert found(home, doctor_home.pid_files) == [], harmless
        path.write_bytes(b"%d\n" % stranger.pid)
        finding = one(home, doctor_home.pid_files)
        assert str(stranger.pid) in finding.text and finding.fix is not None
        finding.fix()
        assert path.read_bytes() == b"" and found(home, doctor_home.pid_files) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    fd = pidfile.claim(home, "monitor")
    assert fd is not None and found(home, doctor_home.pid_files) == [], "it runs"
    os.close(fd)


def test_daemons_that_do_not_run(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(system.root)
    for name in ("MONITOR", "STATE_UPDATER"):
        monkeypatch.setenv("ORC_COMPONENTS_" + name, "false")
    assert one(home, doctor_home.daemons).note, "nobody waits for it"
    system.recorder("dev")
    waiting = system.publish("-t", "dev", "hello")
    finding = one(home, doctor_home.daemons)
    assert not finding.note and "1 message waits for it" in finding.text
    mend(finding)
    assert found(home, doctor_home.daemons) == []
    system.wait_outcome(waiting, "typed")
    system.run("orc-component", "stop")
    with open(home.out_file("broker"), "a") as file:
        file.write("MemoryError\n")
    assert one(home, doctor_home.daemons).text.endswith("MemoryError")


def test_a_broker_that_hangs(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(system.root)
    broker = system.broker()
    broker.send_signal(signal.SIGSTOP)
    system.publish("hello")
    assert found(home, doctor_home.broker_lag) == [], "it may be about to look"
    monkeypatch.setattr(doctor_home, "_LAG_S", 0.0)
    wait_until(lambda: found(home, doctor_home.broker_lag), what="a lag that is older than its last word")
    broker.send_signal(signal.SIGCONT)
    wait_until(lambda: not found(home, doctor_home.broker_lag))


def test_defects_and_leftovers(home: Home) -> None:
    publish(home, "hello")
    log, half, fresh = (
        Path(home.logs, "defects.log"),
        Path(home.run, "x.json.1.ab.tmp"),
        Path(home.run, "y.json.2.cd.tmp"),
    )
    for path in (log, half, fresh):
        path.write_text("Traceback")
    os.utime(half, (0, 0))
    assert str(log) in one(home, doctor_home.defects).text
    old = time.time() - 8 * 86_400
    os.utime(log, (old, old))
    assert found(home, doctor_home.defects) == []
    finding = one(home, doctor_home.leftovers)
    assert finding.note and finding.fix is not None and str(half) in finding.text
    finding.fix()
    assert not half.exists() and fresh.exists() and found(home, doctor_home.leftovers) == []


# the agents


def test_a_damaged_registry(home: Home) -> None:
    assert found(home, doctor_agents.damaged_registry) == []
    files.replace(registry.path(home), b'{"agents": [{"name": 3}]}')
    finding = one(home, doctor_agents.damaged_registry)
    mend(Finding("", finding.mend.partition(", then")[0]))
    assert found(home, doctor_agents.damaged_registry) == []


@needs_root
def test_the_tmux_server_of_another_user(system: System) -> None:
    home = Home(system.root)
    system.recorder("dev")
    assert found(home, doctor_agents.servers) == []
    os.chown(system.server.socket, 65534, 65534)
    finding = one(home, doctor_agents.servers)
    assert "team:dev" in finding.text and "sudo -u" in finding.mend
    os.chown(system.server.socket, 0, 0)


def test_a_tmux_server_whose_socket_is_gone(system: System) -> None:
    home = Home(system.root)
    system.recorder("dev")
    os.unlink(system.server.socket)
    finding = one(home, doctor_agents.servers)
    assert "is gone" in finding.text
    mend(finding)
    wait_until(lambda: os.path.exists(system.server.socket), what="tmux makes its socket again")
    wait_until(lambda: found(home, doctor_agents.servers) == [])


def test_agents_that_died(system: System) -> None:
    home = Home(system.root)
    agent = system.recorder("dev")
    assert found(home, doctor_agents.ended) == []
    agent.kill()
    finding = one(home, doctor_agents.ended)
    assert "signal 9" in finding.text
    system.run(*finding.mend.partition(", or")[0].split())
    assert found(home, doctor_agents.ended) == []


def test_a_screen_that_the_profile_does_not_understand(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(system.root)
    monkeypatch.setattr(state, "STARTING_S", 0.0)
    system.demo("dev")
    system.recorder("plain")
    assert found(home, doctor_agents.screens) == []
    system.configure("profiles: {demo: {composer: {above: 'another release'}}}\n")
    note = one(home, doctor_agents.screens)
    assert note.note and "composer.above does not fit" in note.text
    assert os.path.exists(f"{home.run}/evidence/team@dev.txt")
    system.broker()
    system.wait_outcome(system.publish("-t", "dev", "held"), "held: no_composer")
    wait_until(lambda: not one(home, doctor_agents.screens).note, what="the broker's own word")


def test_hooks_that_are_not_there_or_not_called(system: System, tmp_path: Path) -> None:
    home = Home(system.root)
    system.env["HOME"] = str(tmp_path)
    system.env.pop("CODEX_HOME", None)
    system.recorder("plain")
    assert found(home, doctor_agents.hooks) == []
    system.recorder("one", "--profile", "codex")
    system.recorder("two", "--profile", "codex")
    note = one(home, doctor_agents.hooks)
    assert note.note and "codex are not installed" in note.text and "team:one" in note.text and "team:two" in note.text
    system.run(*note.mend.partition(",")[0].split())
    assert found(home, doctor_agents.hooks) == []
    settings = tmp_path / ".codex/hooks.json"
    settings.write_text(settings.read_text().replace("codex Stop", "codex Other"))
    note = one(home, doctor_agents.hooks)
    assert "no hook of this copy for Stop" in note.text and note.mend.startswith("run orc-hook install codex")
    for agent in registry.load(home):
        signs.update(home, agent, lambda sign: None)
    assert found(home, doctor_agents.hooks) == [], "they have spoken"


def test_a_damaged_registry_or_profile_breaks_no_other_check(system: System) -> None:
    home = Home(system.root)
    system.recorder("dev")
    system.configure("profiles: {plain: {nonsense: 1}}\n")
    checks = {one.check for one in doctor.examine(Case(home)) if not one.note}
    assert checks == {"profiles"} or checks == {"profiles", "configuration"}, checks
