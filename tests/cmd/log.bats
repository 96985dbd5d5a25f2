#!/usr/bin/env bats
# orc-log: where the log is, whether it is whole, and removing old days.
load ../helper

@test "path: today's file, before there is one and after" {
  expect 1 orc-log path
  equals "$output" "$ORC_HOME/logs/events/$(date +%F).jsonl"
  equals "$stderr" ""
  orc-publish "hello" >/dev/null
  expect 0 orc-log path
  [ -f "$output" ]
  expect 1 orc-log path yesterday
  equals "$output" "$ORC_HOME/logs/events/$(date -d yesterday +%F).jsonl"
  expect 1 orc-log path 2020-02-29
  equals "$output" "$ORC_HOME/logs/events/2020-02-29.jsonl"
  expect 64 orc-log path 2026-02-30
  one_line "$stderr"
  expect 0 env TZ=Pacific/Kiritimati orc-log path
  equals "$output" "$ORC_HOME/logs/events/$(date +%F).jsonl"
}

@test "check: a whole log" {
  expect 0 orc-log check
  equals "$output" "whole: 0 events in 0 days"
  seq 5 | orc-publish --lines >/dev/null
  expect 0 orc-log check
  equals "$output" "whole: 5 events in 1 day"
  expect 0 orc-log check today --json
  equals "$(jq -c '[.ok, .days, .events, .findings]' <<<"$output")" "[true,1,5,[]]"
}

@test "check: damage with file, byte and reason, and 65" {
  seq 3 | orc-publish --lines >/dev/null
  file=$(orc-log path)
  offset=$(stat -c %s "$file")
  echo 'not json' >>"$file"
  orc-publish "after" >/dev/null
  printf '{"half' >>"$file"
  expect 65 orc-log check
  equals "$(head -1 <<<"$output")" "$file: byte $offset, line 4: damaged: not JSON"
  contains "$output" "torn: 6 bytes without a newline at the end"
  one_line "$stderr"
  expect 65 orc-log check --json
  equals "$(jq -c '[.ok, .findings[0].offset, .findings[0].kind, .findings[1].kind]' <<<"$output")" \
    "[false,$offset,\"damaged\",\"torn\"]"
  equals "$(tail -c +$((offset + 1)) "$file" | head -1)" "not json"
}

@test "check: duplicates, gaps and falls" {
  seq 4 | orc-publish --lines >/dev/null
  file=$(orc-log path)
  sed -i -e 2d -e '$p' "$file"
  expect 65 orc-log check "$(date +%F)"
  equals "$(awk '{ print $6 }' <<<"$output" | xargs)" "gap: duplicate: fall:"
}

@test "rotate: old days go, today's and yesterday's stay, --dry-run touches nothing" {
  orc-publish "hello" >/dev/null
  for age in 1 2 30 31 45; do
    cp "$(orc-log path)" "$ORC_HOME/logs/events/$(date -d "-$age days" +%F).jsonl"
  done
  old=$(date -d '-45 days' +%F)
  expect 0 orc-log rotate --dry-run
  equals "$(wc -l <<<"$output")" 2
  contains "$output" "would remove $ORC_HOME/logs/events/$old.jsonl ("
  [ -e "$ORC_HOME/logs/events/$old.jsonl" ]
  expect 0 orc-log rotate
  contains "$output" "removed $ORC_HOME/logs/events/$old.jsonl"
  equals "$(find "$ORC_HOME/logs/events" -type f | wc -l)" 4
  expect 0 orc-log rotate
  equals "$output" "nothing is older than 30 days"
  ORC_EVENTS_RETENTION_DAYS=1 expect 0 orc-log rotate --json
  equals "$(jq -c '[.removed, (.files | length)]' <<<"$output")" "[true,1]"
  [ -e "$(orc-log path yesterday)" ]
}

@test "mistakes in its words" {
  orc-publish "hello" >/dev/null
  for words in "" "chek" "path a b" "path whenever" "path --json" "path --dry-run" "check 2020-01-01" "rotate today"; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-log $words
    one_line "$stderr"
    equals "$output" ""
  done
}
