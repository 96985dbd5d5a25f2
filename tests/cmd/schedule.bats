#!/usr/bin/env bats
# orc-schedule: messages that come again and again, or later
load ../helper

# an agent that writes down what it is sent; a broker and a monitor
team() {
  orc-run dev --session s --profile plain -- "$ROOT/.venv/bin/python" "$ROOT/tests/programs/recorder.py" \
    "$BATS_TEST_TMPDIR/dev" >/dev/null
  ready() { tm capture-pane -p -t s:dev | grep -q ready; }
  eventually ready
  orc-component start broker monitor >/dev/null
}

# typed TEXT [N]: has it been typed (at least N times)?
typed() { [ "$(grep -ao -- "$1" "$BATS_TEST_TMPDIR/dev" | wc -l)" -ge "${2:-1}" ]; }

# passed TIME [AGO]: is it past, or was it so long ago?
passed() { [ "$(date -u -d "${2:-now}" +%FT%T)" \> "$1" ]; }

events() { orc-read --type message -o message.content.body,metadata.not_before; }

@test "64: what it does not take; nothing is kept" {
  orc-run dev --session s --profile plain -- sleep 1000 >/dev/null
  while read -r words; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-schedule $words </dev/null
    one_line "$stderr"
    equals "$output" ""
  done <<'END'

    ad
    add -t dev hello
    add --every 5m hello
    add --every 0.5s -t dev hello
    add --every 400d -t dev hello
    add --every 5m --in 5m -t dev hello
    add --cron 99 -t dev hello
    add --at 2020-01-01 -t dev hello
    add --every 5m --name UP -t dev hello
    add --every 5m -t nobody hello
    add --every 5m -t dev --check-in 30m hello
    add --every 5m -t dev --check-in=20h hello
    add --every 5m -t dev -o json hello
    list more
    list --name x
    remove
    remove nothing
    remove --every 5m x
END
  equals "$(orc-schedule list)" ""
  [ ! -e "$ORC_HOME/registry/schedules.json" ]
}

@test "add: its first occurrence is in the log at once, list shows it, remove cancels it" {
  orc-run dev --session s --profile plain -- sleep 1000 >/dev/null
  expect 0 orc-schedule add --cron '@daily' -t dev -p high "stand up"
  equals "$output" "cron-1"
  contains "$stderr" "no monitor runs"
  expect 0 orc-schedule add --every 30m --name look -t dev - <<<"look around"
  expect 0 orc-schedule add --in 2h -t dev "later"
  equals "$output" "at-1"
  equals "$stderr" ""
  expect 64 orc-schedule add --every 5m --name look -t dev "again"
  later=$(orc-publish --in 90m -t dev "much later")
  equals "$(orc-schedule list -o name,kind,when,to,message | cut -f 1,2,4,5 | tr '\t' ' ' | head -3)" \
    "look every s:dev look around
- at s:dev much later
at-1 at s:dev later"
  equals "$(orc-read --type message | jq -r 'select(.metadata.not_before) | .message.content.body' | sort)" \
    "$(printf 'later\nlook around\nmuch later\nstand up')"
  equals "$(orc-schedule list | jq -r 'select(.name == "cron-1") | .id')" \
    "$(orc-read --filter 'stand up' | jq -r .id)"
  expect 64 orc-schedule remove look nothing
  expect 0 orc-schedule remove look "#${later: -6}" "$(orc-schedule list | jq -r 'select(.name == "at-1") | .id')"
  equals "$(orc-schedule list -o name)" "cron-1"
  orc-component start broker >/dev/null
  eventually eval '[ "$(orc-read --type delivery -o message.content.context.reason | grep -c "cancelled by")" = 3 ]'
}

@test "a short one comes at its time, each time once, over restarts; remove stops it" {
  team
  name=$(orc-schedule add --every 1s -t dev "tick")
  eventually typed tick 2
  kill -9 "$(cat "$ORC_HOME/logs/broker.pid")" "$(cat "$ORC_HOME/logs/monitor.pid")"
  eventually eval '! orc-component status broker monitor'
  orc-component start broker monitor >/dev/null
  eventually typed tick 5
  orc-schedule remove "$name"
  equals "$(orc-schedule list)" ""
  last=$(events | tail -1 | cut -f 2)
  eventually passed "$last"
  # each was typed once, and none is left
  equals "$(orc-read --type delivery | jq -r '.message.content.context | select(.outcome == "typed") | .event' |
    sort | uniq -d)" ""
  equals "$(orc-read --type message | jq -r .id | sort | uniq -d)" ""
  equals "$(events | sort | uniq -d)" ""
}

@test "what was missed while nothing ran comes once, and says so when it is late" {
  team
  orc-schedule add --every 1s --name tick -t dev "tick" >/dev/null
  eventually typed tick
  orc-component stop broker monitor >/dev/null
  held=$(orc-schedule list -o next)
  orc-publish --at "$(date -u -d '3 hours ago' +%FT%TZ)" -t dev "noted" >/dev/null
  eventually passed "$held" "4 seconds ago"
  began=$(date -u +%FT%T)
  orc-component start broker monitor >/dev/null
  eventually typed noted
  grep -aq 'late 3 h\] noted' "$BATS_TEST_TMPDIR/dev"
  eventually eval '[ "$(orc-schedule list -o next)" \> "$held" ]'
  # of the four seconds, only the one that the log held
  equals "$(events | cut -f 2 | awk -v from="$held" -v to="$began" '$0 > from && $0 < to')" ""
}

@test "who has to check in and does not is reminded, then reported" {
  team
  orc-run pm --session s --profile plain -- "$ROOT/.venv/bin/python" "$ROOT/tests/programs/recorder.py" \
    "$BATS_TEST_TMPDIR/pm" >/dev/null
  expect 64 orc-publish -t dev --check-in 2s "do it"
  contains "$stderr" "write --check-in=2s"
  expect 64 orc-publish --check-in=2s "do it"
  expect 64 orc-publish -t dev --check-in=13h "do it"
  expect 0 orc-publish -t dev --check-in=2s "do it"
  eventually typed "You were to check in by"
  kill -9 "$(cat "$ORC_HOME/logs/monitor.pid")"
  orc-component start monitor >/dev/null
  eventually grep -aq "s:dev was to check in by .*, and says nothing: orc-agent peek s:dev" "$BATS_TEST_TMPDIR/pm"
  equals "$(orc-read --from check-in -o message.content.context.issue_type)" "$(printf 'nudge\nreport')"
}

@test "a damaged file is told, and stops nothing else" {
  team
  mkdir -p "$ORC_HOME/registry"
  echo '{"schedules": [{"name": "x"}]}' >"$ORC_HOME/registry/schedules.json"
  expect 65 orc-schedule list
  contains "$stderr" "is damaged"
  eventually grep -q "is damaged" "$ORC_HOME/logs/monitor.out"
  expect 65 orc-schedule add --every 5m -t dev "hello"
  equals "$(cat "$ORC_HOME/registry/schedules.json")" '{"schedules": [{"name": "x"}]}'
  expect 0 orc-component status monitor
}
