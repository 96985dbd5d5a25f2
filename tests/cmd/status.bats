#!/usr/bin/env bats
# orc-status: the system at a glance, for people, for scripts and for tmux's status line.
load ../helper

run_agent() { orc-run "$1" --session s --profile plain -- sleep 1000; }
field() { jq -r "$1" <<<"$output"; }

@test "an empty home has a status, and asking makes no day file" {
  export ORC_COMPONENTS_MONITOR=false ORC_COMPONENTS_STATE_UPDATER=false
  expect 0 orc-status
  contains "$output" "no agents yet: orc-run NAME -- claude"
  contains "$output" "broker is not running"
  mend=$(sed -n 's/^ *→ //p' <<<"$output")
  eval "words=($mend)" # as a shell reads it, whatever is in the path
  equals "${words[*]##*/}" "orchestrator_manager.sh start broker"
  [ ! -e "$ORC_HOME/logs/events" ]
  equals "$stderr" ""
}

@test "one document with the fields that scripts read, however it is asked for" {
  export ORC_COMPONENTS_MONITOR=false ORC_COMPONENTS_STATE_UPDATER=false
  run_agent dev
  orc-component start broker
  for words in --json "--format json" "--format=json"; do
    # shellcheck disable=SC2086 # two words
    expect 0 orc-status $words
    equals "$(field 'keys_unsorted | join(" ")')" "components agents broker latency_ms problems tasks"
    equals "$(field '.broker | keys_unsorted | join(" ")')" "queued held rate_limited lag_events"
    equals "$(field '.components[0] | keys_unsorted | join(" ")')" "name running pid since restarts"
    equals "$(field '.components[0].pid')" "$(cat "$ORC_HOME/logs/broker.pid")"
    equals "$(field '.agents[0].name')" dev
  done
  expect 0 tmux-orc status --format json
  equals "$(field '.problems | length')" 0
  expect 0 tmux-orc pubsub status
  contains "$output" "nothing needs you"
}

@test "who died is told first, with the command that starts it again" {
  run_agent one
  run_agent two
  kill -9 "$(orc-agent list -o pid,name | awk '$2 == "two" { print $1 }')"
  dead() { orc-status --json | jq -e '[.agents[].state] | index("dead")'; }
  eventually dead
  expect 0 orc-status
  contains "$output" "2 agents: 1 dead, 1 starting"
  contains "$output" "orc-agent restart s:two"
}

@test "--watch draws again, and takes a changed configuration and a bad one as they come" {
  expect 124 timeout 3 orc-status --watch=0.2
  [ "$(grep -c "no agents yet" <<<"$output")" -ge 3 ]
  expect 124 timeout 1 orc-status --watch 0.2
  mkdir -p "$ORC_HOME"
  echo "nonsense: 1" >"$ORC_HOME/orchestrator_config.yaml"
  expect 124 timeout 2 orc-status --watch=0.2
  contains "$output" "orc-status: orchestrator_config.yaml:1"
  expect 78 orc-status
  one_line "$stderr"
}

@test "--tmux is one line from a small private file" {
  export ORC_COMPONENTS_MONITOR=false ORC_COMPONENTS_STATE_UPDATER=false
  run_agent dev
  expect 0 orc-status --tmux
  equals "$output" "broker down · 1 starting"
  equals "$(stat -c %a "$ORC_HOME/logs/run/status.tmux")" 600
  echo kept >"$ORC_HOME/logs/run/status.tmux"
  expect 0 orc-status --tmux
  equals "$output" kept
  touch -d "10 seconds ago" "$ORC_HOME/logs/run/status.tmux"
  expect 0 orc-status --tmux
  equals "$output" "broker down · 1 starting"
}

@test "in the status line of a client" {
  export ORC_COMPONENTS_MONITOR=false ORC_COMPONENTS_STATE_UPDATER=false
  run_agent dev
  orc-component start broker
  tm set -g status-interval 1
  tm set -g status-right "#('$ROOT/bin/orc-status' --tmux)"
  outer=$BATS_TEST_TMPDIR/outer # a server whose pane is the client's terminal
  env -u TMUX tmux -S "$outer" -f /dev/null new-session -d -s client -x 100 -y 20 \
    "env -u TMUX tmux -S '$ORC_TMUX_SOCKET' attach -t s"
  told() { tmux -S "$outer" capture-pane -p -t client: | tail -1 | grep -q "1 \(starting\|unknown\)"; }
  eventually told
  tmux -S "$outer" kill-server
}

@test "mistakes in its words" {
  for words in "--format yaml" "--json --watch" "--tmux --json" "--watch=0" "--watch=x" "extra" "--watch 1 2" "--nope"; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-status $words
    one_line "$stderr"
    equals "$output" ""
  done
}
