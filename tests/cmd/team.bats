#!/usr/bin/env bats
# orc-team: the supervisor of agent processes
load ../helper

# team LINE…: the lines below team.agents
team() {
  mkdir -p "$ORC_HOME"
  printf 'team:\n  agents:\n' >"$ORC_HOME/orchestrator_config.yaml"
  printf '    %s\n' "$@" >>"$ORC_HOME/orchestrator_config.yaml"
}

state() { orc-team status --json | jq -r --arg name "$1" '.agents[] | select(.name == $name) | .state'; }
is() { [ "$(state "$1")" = "$2" ]; }
pid() { orc-team status --json | jq -r --arg name "$1" '.agents[] | select(.name == $name) | .pid'; }
another() { [ "$(pid "$1")" != "$2" ] && [ "$(pid "$1")" != null ]; }

@test "64: what it does not take; nothing is done" {
  for words in "extra" "--nope" "restart" "--agents" "start --agents ," "status --agent nobody" "stop nobody"; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-team $words
    one_line "$stderr"
    equals "$output" ""
  done
  expect 64 orc-team --agents nobody
  contains "$stderr" "no agent of the team is called 'nobody'"
}

@test "78: an agent without a command or a recipe, a schedule that is none" {
  team 'nothing: {}'
  expect 78 orc-team
  contains "$stderr" "team.agents.nothing has no command"
  team "a: {command: x, schedule: '61 * * * *'}"
  expect 78 team-daemon
  contains "$stderr" "team-daemon: team.agents.a.schedule"
  one_line "$stderr"
  team 'a: {command: x, enabled: perhaps}'
  expect 78 orc-team status
  contains "$stderr" "orchestrator_config.yaml:3: team.agents.a.enabled"
}

@test "without a supervisor: status says so and ends with 1, stop too; start with a name is 69" {
  team 'a: {command: sleep 1000}'
  expect 1 orc-team status
  contains "$output" "Team: no supervisor runs"
  contains "$output" "stopped"
  expect 1 orc-team stop
  equals "$output" "the team's supervisor does not run"
  expect 69 orc-team start a
  one_line "$stderr"
}

@test "in the background: started, seen, killed, back; stopped and started by name" {
  team 'a: {command: sleep 1000}' 'b: {command: sleep 1000, enabled: false}'
  expect 0 "$ROOT/orchestrator_manager.sh" start team
  contains "$output" "team: started"
  eventually is a running
  expect 0 orc-team status
  contains "$output" "Team: supervised for"
  old=$(pid a)
  kill -9 "$old"
  eventually another a "$old"
  equals "$(orc-team status --agent a --json | jq -c '[.agents[] | .name, .alive, .restarts]')" '["a",true,1]'
  equals "$(orc-read --type recovery -o message.content.body)" "a ended by SIGKILL: started again"
  expect 0 orc-team stop a
  equals "$output" "a: stopped"
  expect 0 orc-team start a b
  equals "$output" $'a: running\nb: running'
  expect 0 orc-team restart b --force
  equals "$output" "b: running"
  expect 0 team-daemon stop
  equals "$output" "the team has stopped"
  is a stopped
}

@test "the fields that scripts read" {
  team 'a: {command: sleep 1000}'
  "$ROOT/orchestrator_manager.sh" start team
  eventually is a running
  wanted='["alive","cpu_percent","current_task","memory_mb","name","pid","reason","restarts","state","up_percent","uptime_s"]'
  equals "$(orc-team status --json | jq -c '.agents[0] | keys')" "$wanted"
  equals "$(orc-team status --json | jq -c keys)" '["agents","message_queue_size","pid","uptime_s"]'
}

@test "in the foreground: agents and debug; SIGTERM ends it with 0, and all its agents" {
  team 'a: {command: sleep 1000}' 'b: {command: sleep 1000}'
  team-daemon --debug --agents b 2>"$BATS_TEST_TMPDIR/said" &
  daemon=$!
  eventually is b running
  equals "$(state a)" stopped
  equals "$(cat "/proc/$daemon/comm")" team-daemon
  agent=$(pid b)
  kill "$daemon"
  wait "$daemon"
  [ ! -e "/proc/$agent" ]
  contains "$(cat "$BATS_TEST_TMPDIR/said")" "DEBUG team: b: SIGTERM"
  contains "$(cat "$ORC_HOME/logs/team.log")" "team-daemon: the team has stopped"
}

@test "stop says who runs on when the supervisor was killed" {
  team 'a: {command: sleep 1000}'
  orc-team 2>/dev/null &
  daemon=$!
  eventually is a running
  kill -9 "$daemon"
  wait "$daemon" || :
  expect 1 orc-team stop
  equals "$output" "the team's supervisor does not run; a run on, and orc-team start takes them over"
  "$ROOT/orchestrator_manager.sh" start team
  expect 0 orc-team stop
  equals "$(orc-team status --json | jq '.agents[0].alive')" false
}

@test "a crash loop is one critical message, and the way back is by hand" {
  team 'a: {command: "false"}'
  "$ROOT/orchestrator_manager.sh" start team
  eventually is a failed
  eventually orc-read -q --priority critical
  said=$(orc-read --priority critical -o message.content.body)
  equals "$said" "a ended with 1, and is not started again after 3 restarts: orc-team start a, or in 3600 s by itself"
  contains "$(orc-team status)" "a ended with 1: orc-team start a"
  equals "$(orc-read --type recovery | wc -l)" 3
}
