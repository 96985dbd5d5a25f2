#!/usr/bin/env bats
# orchestrator_manager.sh, bin/orc-component and the stubs: with a stand-in for the broker in a copy of the tree.
load ../helper

setup() {
  make_home
  tree=$BATS_TEST_TMPDIR/a\ tree
  copy_tree "$tree"
  ln -s "$ROOT/.venv" "$tree/.venv"
  manager=$tree/orchestrator_manager.sh
  stand_in "$tree"
}

teardown() {
  [ ! -x "$tree/.venv/bin/python" ] || "$manager" stop >/dev/null
}

copy_tree() {
  mkdir -p "$1"
  (cd "$ROOT" && tar -cf - --exclude=__pycache__ bin lib share orchestrator_manager.sh requirements*.lock) | tar -C "$1" -xf -
}

# A broker that does as STAND_IN says: run, die, or never claim its pid file.
stand_in() {
  cat >"$1/lib/tmux_orchestrator/commands/broker.py" <<'END'
import os, signal, sys
from tmux_orchestrator.ground import paths, pidfile

def main(argv):
    mode = os.environ.get("STAND_IN", "run")
    if mode != "quiet":
        print(f"broker: {mode} \x1b[31m", flush=True)
    if mode == "die":
        print("no such luck", file=sys.stderr)
        return 74
    if pidfile.claim(paths.find_home(), "broker") is None:
        return 75
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        signal.pause()
END
  touch "$1"/bin/orc-broker
}

# Is the process alive? (It may be a zombie where nobody collects orphans.)
alive() { grep -q '^State:.[^Z]' "/proc/$1/status"; }
pid() { cat "$ORC_HOME/logs/broker.pid"; }

@test "start, status, restart, stop" {
  expect 0 "$manager" start
  contains "$output" "broker: started (pid $(pid))"
  alive "$(pid)"
  first=$(pid)
  expect 0 "$manager" start
  equals "$output" "broker: already running (pid $first)
state_updater: already running (pid $(cat "$ORC_HOME/logs/state_updater.pid"))
monitor: already running (pid $(cat "$ORC_HOME/logs/monitor.pid"))"
  expect 0 "$manager" status
  contains "$output" "running      pid $first, since 20"
  expect 0 "$manager" restart broker
  [ "$(pid)" != "$first" ]
  expect 0 "$manager" stop
  equals "$output" $'monitor: stopped\nstate_updater: stopped\nbroker: stopped'
  run ! alive "$(pid)"
  expect 1 "$manager" status
  expect 0 "$manager" stop
  equals "$output" "nothing was running"
}

@test "files are private, the pid file holds the number alone, daemon.log leads to the broker's output" {
  umask 0
  expect 0 "$manager" start broker
  equals "$(stat -c %a "$ORC_HOME/logs" "$ORC_HOME/logs/broker.pid" "$ORC_HOME/logs/broker.out" | xargs)" "700 600 600"
  equals "$(od -c "$ORC_HOME/logs/broker.pid" | head -1 | tr -d ' 0-9')" '\n'
  equals "$(readlink "$ORC_HOME/logs/daemon.log")" broker.out
  equals "$(sed 's/.*) //' "/proc/$(pid)/stat" | cut -d' ' -f4)" "$(pid)" # its own session
  equals "$(readlink "/proc/$(pid)/fd/0")" /dev/null
}

@test "a component that ends at once: its last lines, and 69" {
  STAND_IN=die expect 69 "$manager" start
  contains "$stderr" "no such luck"
  contains "$stderr" "broker ended at once with 74: see $ORC_HOME/logs/broker.out"
  expect 1 "$manager" status
  contains "$output" "no such luck"
}

@test "status shows a crash with its last lines, and no crash after a stop" {
  export ORC_COMPONENTS_MONITOR=false ORC_COMPONENTS_STATE_UPDATER=false
  expect 0 "$manager" start
  kill -9 "$(pid)"
  eventually run_not_alive
  expect 1 "$manager" status
  contains "$output" "it ended by itself"
  contains "$output" 'broker: run \x1b[31m'
  expect 0 "$manager" start
  expect 0 "$manager" stop broker
  expect 1 "$manager" status
  equals "$output" $'broker         not running\nstate_updater  off\nmonitor        off\nteam           off'
  expect 0 "$manager" stop broker
  equals "$output" "broker: not running"
}

@test "a crash that said nothing is seen too, also after a stop" {
  export STAND_IN=quiet
  for _ in 1 2; do
    expect 0 "$manager" start
    kill -9 "$(pid)"
    eventually run_not_alive
    expect 1 "$manager" status
    contains "$output" "it ended by itself"
    contains "$output" "INFO broker: started (pid $(pid))"
    expect 0 "$manager" start
    expect 0 "$manager" stop
  done
}

run_not_alive() { ! "$tree/bin/orc-component" status broker; }

@test "eight starts at once: all succeed, one runs" {
  export ORC_COMPONENTS_MONITOR=false ORC_COMPONENTS_STATE_UPDATER=false
  starts=()
  for n in 1 2 3 4 5 6 7 8; do
    "$manager" start >"$BATS_TEST_TMPDIR/start.$n" 3>&- &
    starts+=($!)
  done
  for start in "${starts[@]}"; do wait "$start"; done
  equals "$(cat "$BATS_TEST_TMPDIR"/start.* | grep -c ': started (')" 1
  equals "$(cat "$BATS_TEST_TMPDIR"/start.* | grep -o 'pid [0-9]*' | sort -u)" "pid $(pid)"
}

@test "a second system beside the first" {
  expect 0 "$manager" start
  expect 0 env ORC_HOME="$BATS_TEST_TMPDIR/second" "$manager" start
  [ "$(pid)" != "$(cat "$BATS_TEST_TMPDIR/second/logs/broker.pid")" ]
  expect 0 env ORC_HOME="$BATS_TEST_TMPDIR/second" "$manager" stop
  expect 0 "$manager" status
}

@test "a relative ORC_HOME is that of the folder one stands in" {
  cd "$BATS_TEST_TMPDIR"
  ORC_HOME=relative expect 0 "$manager" start
  [ -f relative/logs/broker.pid ]
  ORC_HOME=relative expect 0 "$manager" stop
}

@test "what is not wanted is not started; a wrong configuration starts nothing and stops all the same" {
  export ORC_COMPONENTS_MONITOR=false ORC_COMPONENTS_STATE_UPDATER=false
  expect 0 "$manager" start
  mkdir -p "$ORC_HOME"
  echo 'components: {broker: perhaps}' >"$ORC_HOME/orchestrator_config.yaml"
  expect 78 "$manager" restart
  alive "$(pid)"
  expect 78 "$manager" status
  contains "$output" running
  expect 0 "$manager" stop
  expect 78 "$manager" start
  echo 'components: {broker: false}' >"$ORC_HOME/orchestrator_config.yaml"
  expect 0 "$manager" start
  equals "$output" ""
  expect 0 "$manager" status
  contains "$output" off
}

@test "logs: the end of everything, without what a terminal must not see" {
  expect 1 "$manager" logs
  expect 0 "$manager" start
  expect 0 "$manager" logs
  contains "$output" 'broker: run \x1b[31m'
  expect 0 "$manager" logs broker
  "$manager" logs -f broker >"$BATS_TEST_TMPDIR/followed" 3>&- &
  follower=$!
  eventually grep -q 'broker: run' "$BATS_TEST_TMPDIR/followed"
  echo "one line more" >>"$ORC_HOME/logs/broker.out"
  eventually grep -q 'one line more' "$BATS_TEST_TMPDIR/followed"
  followers=$(<"/proc/$follower/task/$follower/children")
  kill "$follower"
  eventually eval "! alive ${followers% }"
}

@test "clear-queues asks: --yes, a terminal, or 64" {
  expect 64 "$manager" clear-queues </dev/null
  one_line "$stderr"
  contains "$stderr" "give --yes"
  expect 0 "$manager" clear-queues --dry-run
  contains "$output" "would drop"
  [ ! -e "$ORC_HOME/logs/today.jsonl" ]
  expect 0 "$manager" clear-queues --yes
  contains "$output" "as soon as the broker runs"
  expect 0 jq -r 'select(.message.type == "clear_queues") | .message.type' "$ORC_HOME/logs/today.jsonl"
  equals "$output" clear_queues
  run script -qec "'$manager' clear-queues" /dev/null <<<"n"
  contains "$output" "nothing was dropped"
  run script -qec "'$manager' clear-queues" /dev/null <<<"y"
  contains "$output" "dropped"
  equals "$(grep -c clear_queues "$ORC_HOME/logs/today.jsonl")" 2
}

@test "wrong words end with 64 and one line" {
  for words in "" fly "start brok" "status x" "setup now" "logs -x" "clear-queues broker"; do
    # shellcheck disable=SC2086 # words are several
    expect 64 "$manager" $words
    one_line "$stderr"
    equals "$output" ""
  done
  expect 64 "$manager" start brokr
  contains "$stderr" "did you mean broker"
  expect 64 "$manager" $'\e[31m'
  run ! grep -q $'\e' <<<"$stderr"
  expect 69 "$manager" start bridge
  expect 0 "$manager" --help
  contains "$output" "examples:"
  expect 0 "$manager" --version
}

@test "from any folder, through links, without an environment, on a read-only home of the code" {
  ln -s "$manager" "$BATS_TEST_TMPDIR/link"
  ln -s "$tree/bin" "$BATS_TEST_TMPDIR/commands"
  ln -s "$tree/bin/orc-status" "$BATS_TEST_TMPDIR/state of things"
  cd /
  expect 0 env -i ORC_HOME="$ORC_HOME" "$BATS_TEST_TMPDIR/link" start
  expect 0 env -i PATH= ORC_HOME="$ORC_HOME" "$manager" status
  for command in "$BATS_TEST_TMPDIR/commands/orc-component" "$tree/bin/orc-component"; do
    expect 0 env -i ORC_HOME="$ORC_HOME" "$command" status
    expect 0 env -i PATH= ORC_HOME="$ORC_HOME" "$command" --version
  done
  ln -s "$tree/bin/orc-component" "$BATS_TEST_TMPDIR/other name"
  expect 0 env -i PATH= "$BATS_TEST_TMPDIR/other name" --version
  contains "$output" "orc-component "
  cd "$tree/bin"
  expect 0 sh orc-component --version
  cd "$tree"
  expect 0 sh orchestrator_manager.sh status
  expect 0 env -i ORC_HOME="$ORC_HOME" PATH=bin orc-component status
}

@test "tmux-orc: the phrases, and near words for a slip" {
  tmux_orc=$tree/bin/tmux-orc
  expect 1 "$tmux_orc" daemon status
  expect 0 "$tmux_orc" daemon start
  contains "$output" "broker: started"
  expect 0 "$tmux_orc" daemon status
  expect 0 "$tmux_orc" daemon stop
  equals "$output" "broker: stopped"
  expect 1 "$tmux_orc" monitor status
  expect 0 "$tmux_orc" publish --group management --tag acknowledgment "PM ACK: notification-id - investigated agent"
  expect 0 "$tmux_orc" read --json
  expect 64 "$tmux_orc"
  expect 64 "$tmux_orc" publsh
  equals "$stderr" "tmux-orc: unknown word 'publsh' (did you mean publish or pubsub?): see tmux-orc --help"
  expect 64 "$tmux_orc" ../orc-publish
  expect 64 "$tmux_orc" $'\e[31m'
  one_line "$stderr"
  expect 64 "$tmux_orc" daemon strt
  expect 64 "$tmux_orc" pubsub
  equals "$stderr" "tmux-orc: pubsub what: give status or stats"
  expect 64 "$tmux_orc" restart
  expect 0 "$tmux_orc" --help
  contains "$output" "examples:"
  expect 0 "$tmux_orc" --version
}

@test "tmux-orc hands words on as they are" {
  for command in agent status stats; do
    # shellcheck disable=SC2016 # for the stand-in to expand
    printf '#!/bin/sh\necho "${0##*/}"; for word; do echo "<$word>"; done\n' >"$tree/bin/orc-$command"
  done
  expect 0 "$tree/bin/tmux-orc" agent send backend-dev:2 $'STATUS REQUEST:\n* "two" lines'
  equals "$output" $'orc-agent\n<send>\n<backend-dev:2>\n<STATUS REQUEST:\n* "two" lines>'
  expect 0 "$tree/bin/tmux-orc" restart agent backend-dev:2
  equals "$output" $'orc-agent\n<restart>\n<backend-dev:2>'
  expect 0 "$tree/bin/tmux-orc" status --format json
  equals "$output" $'orc-status\n<--format>\n<json>'
  expect 0 "$tree/bin/tmux-orc" pubsub status
  equals "$output" orc-status
  expect 0 "$tree/bin/tmux-orc" pubsub stats
  equals "$output" orc-stats
}

@test "before set-up the commands say how, and end with 78" {
  rm "$tree/.venv"
  for command in orc-publish orc-component; do
    expect 78 "$tree/bin/$command"
    one_line "$stderr"
    contains "$stderr" "orchestrator_manager.sh start"
  done
  expect 78 "$manager" stop
}

@test "a fresh clone, half set up and behind a shim: two starts at once set it up, once, without jq" {
  rm "$tree/.venv"
  mkdir -p "$tree/.venv/bin" "$tree/.venv.new/bin" "$BATS_TEST_TMPDIR/shims"
  ln -s /nonexistent/python "$tree/.venv/bin/python"
  printf '#!/bin/sh\nexit 127\n' >"$BATS_TEST_TMPDIR/shims/python3.13"
  printf '#!/bin/sh\nexec "%s" "$@"\n' "$(readlink -f "$ROOT/.venv/bin/python")" >"$BATS_TEST_TMPDIR/shims/python3"
  chmod +x "$BATS_TEST_TMPDIR"/shims/*
  for program in sh env cat readlink tmux; do ln -s "$(command -v $program)" "$BATS_TEST_TMPDIR/shims/$program"; done
  cd /
  for n in 1 2; do
    env -i HOME="$BATS_TEST_TMPDIR" PATH="$BATS_TEST_TMPDIR/shims" ORC_HOME="$ORC_HOME" PYTHONDONTWRITEBYTECODE=1 \
      PIP_CERT="${PIP_CERT-}" "$manager" start >"$BATS_TEST_TMPDIR/set-up.$n" 2>&1 3>&- &
    pids[n]=$!
  done
  wait "${pids[1]}"
  wait "${pids[2]}"
  equals "$(cat "$BATS_TEST_TMPDIR"/set-up.* | grep -c 'making .venv')" 1
  equals "$(readlink -f "$tree/.venv/bin/python")" "$(readlink -f "$ROOT/.venv/bin/python")"
  [ ! -e "$tree/.venv.new" ]
  [ -e "$(echo "$tree"/.venv/lib/python3*/site-packages/yaml/__pycache__/__init__*.pyc)" ]
  [ -e "$(echo "$tree"/lib/tmux_orchestrator/commands/__pycache__/read*.pyc)" ]
  expect 0 "$tree/.venv/bin/python" -c 'import tmux_orchestrator.run, yaml'
  run ! grep -rl '\.venv\.new' "$tree/.venv/bin"
  expect 0 "$manager" setup
  equals "$stderr" ""
}
