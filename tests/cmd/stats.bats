#!/usr/bin/env bats
# orc-stats: figures from the log, and measuring this machine.
load ../helper

# A message that was typed, with what the log says of it
typed() { # PRIORITY MS
  local id
  id=$(orc-publish -p "$1" -t dev --queue "a message")
  jq -cn --arg id "$id" --arg p "$1" --argjson ms "$2" '{source: {type: "daemon", identifier: "broker"},
    message: {type: "delivery", priority: "low", content: {body: "typed", context: {event: $id, target: "dev",
    outcome: "typed", latency_ms: $ms, priority: $p}}}}' | orc-publish --jsonl >/dev/null
}

@test "an empty home: nothing waits, no figures" {
  expect 0 orc-stats
  equals "$(head -1 <<<"$output")" "Queue Depth: 0"
  equals "$(grep -c "P95: -" <<<"$output")" 4
}

@test "the phrases that people grep for" {
  typed critical 12
  typed critical 80
  expect 0 tmux-orc pubsub stats
  equals "$(grep "Queue Depth" <<<"$output")" "Queue Depth: 0"
  equals "$(grep P95 <<<"$output" | head -1)" "critical  P95: 80.0 ms"
  contains "$output" "critical  P50: 12.0 ms"
  contains "$output" "critical  P99: 80.0 ms"
  contains "$output" "Within Target: 50.0 % (target 50 ms)"
  contains "$output" "Published: 2 "
}

@test "--json is one document" {
  typed high 70
  expect 0 orc-stats --json
  equals "$(jq -c '.latency_ms.high' <<<"$output")" '{"p50":70,"p95":70,"p99":70,"count":1,"within_target":1}'
  equals "$(jq -c '[.queue_depth, .published, .outcomes.typed]' <<<"$output")" "[0,1,1]"
}

@test "--since" {
  typed normal 5
  expect 0 orc-stats --since 1h --json
  equals "$(jq .published <<<"$output")" 1
  expect 0 orc-stats --since "$(date -d '+1 hour' +@%s)" --json
  equals "$(jq .published <<<"$output")" 0
  expect 64 orc-stats --since whenever
  one_line "$stderr"
}

@test "--measure sends real messages through a scratch system and leaves nothing of it" {
  export TMPDIR="$BATS_TEST_TMPDIR/tmp"
  mkdir "$TMPDIR"
  expect 0 orc-stats --measure 2
  for priority in critical high normal low; do
    equals "$(grep -c "^$priority .* ms .* %" <<<"$output")" 2
  done
  contains "$output" "2 messages of each priority"
  equals "$(ls -A "$TMPDIR")" ""
  [ ! -e "$ORC_HOME/logs/events" ]
  run ! grep -qaz "^ORC_HOME=$TMPDIR" /proc/[0-9]*/environ
  expect 0 orc-stats --measure 1 --json
  equals "$(jq -r '.appended_ms.normal | keys_unsorted | join(" ")' <<<"$output")" \
    "min median p95 max target within_target"
}

@test "mistakes in its words" {
  for words in "--measure 0" "--measure x" "--measure -1" "--measure 99999" "--measure 1 --since 1h" "extra"; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-stats $words
    one_line "$stderr"
    equals "$output" ""
  done
}
