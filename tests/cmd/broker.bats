#!/usr/bin/env bats
# orc-broker: from the log into panes; one at a time
load ../helper

teardown() {
  local child
  for child in $(jobs -p); do kill -9 "$child" 2>/dev/null || true; done
  end_home
}

# Starts a broker behind the test; its pid in $child. Returns at once.
behind() {
  orc-broker "$@" >>"$BATS_TEST_TMPDIR/broker.out" 2>&1 3>&- &
  child=$!
}
holds() { [ "$(cat "$ORC_HOME/logs/broker.pid")" = "$1" ] && orc-component status broker >/dev/null; }
demo() { orc-run "$1" --session team --profile demo -- "$ROOT/.venv/bin/python" "$ROOT/share/demo/agent.py" --log "$BATS_TEST_TMPDIR/$1.log" >/dev/null; }
submitted() { grep -c "\"prompt\": .*$1\"" "$BATS_TEST_TMPDIR/dev.log"; }
outcome() { orc-read --type delivery -o message.content.context.event,message.content.context.outcome | grep -qx "$1.$2"; }

@test "types what the log asks for, says so, and ends on SIGTERM" {
  demo dev
  behind
  eventually holds "$child"
  expect 0 orc-publish -t dev -p high --wait $'hello\nsecond line'
  eventually outcome "$output" confirmed
  contains "$(orc-agent peek dev)" "second line"
  kill -TERM "$child"
  wait "$child"
  run ! orc-component status broker
}

@test "--once delivers what is due, and leaves" {
  demo dev
  expect 0 orc-agent wait dev --until idle --timeout 10s
  first=$(orc-publish -t dev "for now")
  later=$(orc-publish -t dev --in 1h "for later")
  expect 0 orc-broker --once
  equals "$output$stderr" ""
  eventually outcome "$first" confirmed
  contains "$(orc-agent peek dev)" "for now"
  run ! outcome "$later" typed
  orc-publish -t dev "at the end" >/dev/null
  expect 0 orc-broker --once
  eventually submitted "at the end"
  equals "$(submitted "for now")" 1
}

@test "a second one ends with 1 and says who runs" {
  behind
  eventually holds "$child"
  for words in "" --once; do
    # shellcheck disable=SC2086 # none or one
    expect 1 orc-broker $words
    equals "$output" ""
    equals "$stderr" "orc-broker: a broker runs already (pid $child): use --standby to take over when it ends"
  done
}

@test "--standby takes over when the first is killed, and nothing is typed twice" {
  demo dev
  behind
  eventually holds "$child"
  first=$child
  behind --standby
  second=$child
  orc-publish -t dev --wait "before" >/dev/null
  holds "$first"
  kill -9 "$first"
  eventually holds "$second"
  orc-publish -t dev --wait "after" >/dev/null
  eventually submitted after
  equals "$(submitted before)" 1
  kill -TERM "$second"
  wait "$second"
}

@test "no tmux server yet is no reason to end" {
  behind
  eventually holds "$child"
  demo dev
  expect 0 orc-publish -t dev --wait "hello"
  holds "$child"
}

@test "a changed configuration is taken up, a wrong one is refused and the old one kept" {
  demo dev
  mkdir -p "$ORC_HOME"
  echo 'monitoring: {max_messages_per_minute: 1}' >"$ORC_HOME/orchestrator_config.yaml"
  behind
  eventually holds "$child"
  orc-publish -t dev --wait "one" >/dev/null
  expect 124 orc-publish -t dev --wait --timeout 1s "two"
  echo 'monitoring: {max_messages_per_minute: many}' >"$ORC_HOME/orchestrator_config.yaml"
  eventually grep -q 'orchestrator_config.yaml:1' "$BATS_TEST_TMPDIR/broker.out"
  kill -0 "$child"
  echo 'monitoring: {max_messages_per_minute: 5}' >"$ORC_HOME/orchestrator_config.yaml"
  eventually outcome "$(orc-read --filter two --type message -o id)" confirmed
}

@test "words that it does not know, and a configuration that it cannot use" {
  for words in extra --onec "--once=1" "--standby now"; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-broker $words
    one_line "$stderr"
    equals "$output" ""
  done
  mkdir -p "$ORC_HOME"
  echo 'nonsense: 1' >"$ORC_HOME/orchestrator_config.yaml"
  expect 78 orc-broker --once
  one_line "$stderr"
  contains "$stderr" "orchestrator_config.yaml:1"
}
