#!/usr/bin/env bats
# orc-monitor: sees agents die
load ../helper

@test "64: what it does not take; nothing is done" {
  for words in "extra" "--json" "--nope" "start --once" "status more"; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-monitor $words
    one_line "$stderr"
    equals "$output" ""
  done
}

@test "one look: 0 while all are well, 1 when one is dead" {
  expect 0 orc-monitor --once
  equals "$output" "0 agents, none dead"
  orc-run dev --session s --profile plain -- sleep 1000 >/dev/null
  kill -9 "$(orc-agent show dev -o pid)"
  expect 1 orc-monitor --once
  equals "$output" "s:dev is dead: ended by signal 9"
  equals "$(orc-read --type alert -o message.content.body)" "s:dev died: ended by signal 9: orc-agent restart s:dev"
}

@test "start, status, stop" {
  expect 1 orc-monitor status
  expect 0 orc-monitor start
  contains "$output" "monitor: started"
  expect 0 orc-monitor status
  expect 0 orc-monitor stop
  equals "$output" "monitor: stopped"
}
