#!/usr/bin/env bats
# orc-heartbeat: an agent's sign of life
load ../helper

setup() {
  make_home
  export ORC_HEARTBEAT_PORT=$((10000 + RANDOM % 20000))
}

teardown() {
  local file
  for file in "$BATS_TEST_TMPDIR"/*.pid; do
    [ ! -e "$file" ] || kill "$(<"$file")" 2>/dev/null || true
  done
  end_home
}

# agent NAME SCRIPT: a shell script as an agent; what it prints is in $BATS_TEST_TMPDIR/NAME.out
agent() {
  orc-run "$1" --session team --profile plain -- sh -c "exec >'$BATS_TEST_TMPDIR/$1.out' 2>&1; $2" >/dev/null
}

said() { grep -qx "$2" "$BATS_TEST_TMPDIR/$1.out"; }
# ended, if perhaps not buried yet
gone() { ! grep -q '^State:.[^Z]' "/proc/$(<"$BATS_TEST_TMPDIR/$1.pid")/status"; }
last() { [ "$(orc-heartbeat --status -o via | head -n1)" = "$1" ]; }

# every NAME OPTIONS…: for an agent's script; a heartbeat of its own process group, whose pid is in NAME.pid
every() { echo "setsid orc-heartbeat $2 & echo \$! >'$BATS_TEST_TMPDIR/$1.pid.new'; mv '$BATS_TEST_TMPDIR/$1.pid.new' '$BATS_TEST_TMPDIR/$1.pid'"; }

@test "64: what it does not take; nothing is done" {
  for words in "extra" "--nope" "--status --every 60" "--status --counters" "-o name" "--agent Bad!" \
    "--agent dev" "--every" "--agent dev --host :" "--agent dev --host h:0" "--agent dev --host h:99999"; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-heartbeat $words
    one_line "$stderr"
    equals "$output" ""
  done
  expect 64 orc-heartbeat
  contains "$stderr" "belongs to no registered agent: name one with --agent"
  agent dev "exec sleep 1000"
  for words in "0" "120" "x" "5m"; do
    expect 64 orc-heartbeat --agent dev --every "$words"
    one_line "$stderr"
  done
  expect 64 orc-heartbeat --agent dve
  contains "$stderr" "did you mean dev?"
}

@test "an agent is answered, and everybody can see when it gave its last sign" {
  orc-monitor start >/dev/null
  listening
  agent dev "orc-heartbeat; echo \$?; exec sleep 1000"
  eventually said dev 0
  said dev ack
  eventually last process
  expect 0 orc-heartbeat --status
  equals "$(jq -r 'keys_unsorted | join(" ")' <<<"$output")" "name session last_heartbeat age_s via missed"
  equals "$(jq -c '[.name, .session, .missed]' <<<"$output")" '["dev","team",false]'
  equals "$(orc-agent show dev -o last_heartbeat)" "$(jq -r .last_heartbeat <<<"$output")"
  equals "$(orc-heartbeat --counters -o table)" "$(printf '%s\n' "COUNTER   COUNT" "accepted  1" "forged    0" \
    "replayed  0" "oversize  0" "late      0" "unknown   0" "foreign   0")"
  expect 1 orc-read --from monitor
}

@test "from outside the agent it is signed, and only the key gives it weight" {
  agent dev "exec sleep 1000"
  orc-monitor start >/dev/null
  listening
  expect 0 orc-heartbeat --agent dev
  equals "$output" "ack"
  expect 0 env ORC_AGENT=dev ORC_SESSION=team orc-heartbeat
  expect 0 orc-heartbeat --agent team:dev --host "127.0.0.1:$ORC_HEARTBEAT_PORT"
  eventually last signed
  (umask 077 && mkdir -p "$BATS_TEST_TMPDIR/elsewhere/logs/run")
  expect 69 env ORC_HOME="$BATS_TEST_TMPDIR/elsewhere" orc-heartbeat --agent team:dev --host 127.0.0.1
  one_line "$stderr"
  contains "$stderr" "nobody who has our key answers at 127.0.0.1 port $ORC_HEARTBEAT_PORT"
  cp "$ORC_HOME/logs/run/heartbeat.key" "$BATS_TEST_TMPDIR/elsewhere/logs/run/heartbeat.key"
  expect 0 env ORC_HOME="$BATS_TEST_TMPDIR/elsewhere" orc-heartbeat --agent team:dev --host 127.0.0.1
  equals "$output" "ack"
  expect 69 env ORC_HOME="$BATS_TEST_TMPDIR/elsewhere" orc-heartbeat --agent team:nobody --host 127.0.0.1
  contains "$stderr" "the monitor knows no agent team:nobody"
  counters() { orc-heartbeat --counters -o counter,count | paste -sd' ' | tr '\t' =; }
  shows() { [ "$(counters)" = "$1" ]; }
  eventually shows "accepted=4 forged=3 replayed=0 oversize=0 late=0 unknown=1 foreign=0"
}

@test "69 without a monitor: the sign waits in a private file, and counts when one is back" {
  agent dev "orc-heartbeat; echo \$?; exec sleep 1000"
  eventually said dev 69
  one_line "$(grep -c . "$BATS_TEST_TMPDIR/dev.out")"
  contains "$(<"$BATS_TEST_TMPDIR/dev.out")" "the sign waits in a file: run orc-monitor start"
  equals "$(stat -c %a "$ORC_HOME/logs/run/signs/beats/team@dev.beat" "$ORC_HOME/logs/run/heartbeat.key")" $'600\n600'
  expect 1 orc-heartbeat --status
  before=$(date +%s.%N)
  orc-monitor start >/dev/null
  eventually last left
  equals "$(orc-heartbeat --status | jq --arg before "$before" \
    '(.last_heartbeat[:19] + "Z" | fromdateiso8601) <= ($before | tonumber)')" true
  [ ! -e "$ORC_HOME/logs/run/signs/beats/team@dev.beat" ]
  orc-monitor stop >/dev/null
  equals "$(orc-heartbeat --status -o name,via)" $'dev\tleft'
}

@test "one that gives none any more is nudged with its next one, and nothing is typed or published" {
  export ORC_HEARTBEAT_MISSED_AFTER=1
  orc-monitor start >/dev/null
  listening
  agent dev "orc-heartbeat; until orc-heartbeat --status -o missed | grep -q true; do sleep 0.1; done; \
    orc-heartbeat; orc-heartbeat; echo over; exec sleep 1000"
  eventually said dev over
  equals "$(<"$BATS_TEST_TMPDIR/dev.out")" "$(printf '%s\n' ack \
    "no sign of life had come from you for a while: go on with your work, or say what holds it up" ack over)"
  equals "$(orc-read -o message.type | sort -u)" day_start
}

@test "--every gives signs until the agent has ended, however that came" {
  orc-monitor start >/dev/null
  listening
  agent dev "$(every dev "--every 0.2"); exec sleep 1000"
  twice() { [ "$(orc-heartbeat --counters -o count | head -n1)" -ge 2 ]; }
  eventually twice
  equals "$(<"$BATS_TEST_TMPDIR/dev.out")" ""
  orc-agent rename dev qa
  renamed() { [ "$(orc-heartbeat --status -o name,via)" = $'qa\tprocess' ]; }
  eventually renamed
  kill -9 "$(orc-agent show qa -o pid)"
  eventually gone dev
  equals "$(<"$BATS_TEST_TMPDIR/dev.out")" ""
}

@test "--every from outside ends with the agent, and with whoever started it" {
  orc-monitor start >/dev/null
  listening
  agent dev "exec sleep 1000"
  agent qa "exec sleep 1000"
  sh -c "$(every one "--agent dev --every 30"); exec sleep 1000" >/dev/null 2>&1 3>&- &
  echo "$!" >"$BATS_TEST_TMPDIR/shell.pid"
  sh -c "$(every two "--agent qa --every 30"); exec sleep 1000" >/dev/null 2>&1 3>&- &
  second=$!
  signed() { [ "$(orc-heartbeat --status -o via | sort | uniq -c | tr -s ' ')" = " 2 signed" ]; }
  eventually signed
  kill -9 "$(orc-agent show dev -o pid)"
  eventually gone one
  kill -0 "$(<"$BATS_TEST_TMPDIR/two.pid")"
  kill "$second"
  eventually gone two
  expect 69 orc-heartbeat --agent dev --every 30
  one_line "$stderr"
  contains "$stderr" "team:dev has ended"
}

@test "--every says once that the monitor is away, leaves its signs, and goes on" {
  agent dev "$(every dev "--every 0.2"); exec sleep 1000"
  eventually grep -q "the sign waits in a file" "$BATS_TEST_TMPDIR/dev.out"
  first=$(stat -c %i "$ORC_HOME/logs/run/signs/beats/team@dev.beat")
  another() { [ "$(stat -c %i "$ORC_HOME/logs/run/signs/beats/team@dev.beat")" != "$first" ]; }
  eventually another
  one_line "$(<"$BATS_TEST_TMPDIR/dev.out")"
  orc-monitor start >/dev/null
  eventually last process
  orc-monitor stop >/dev/null
  away() { [ "$(wc -l <"$BATS_TEST_TMPDIR/dev.out")" = 2 ]; }
  eventually away
}

@test "a key that others can read is refused, by the monitor too, which goes on" {
  agent dev "exec sleep 1000"
  orc-heartbeat --agent dev 2>/dev/null || true
  chmod 644 "$ORC_HOME/logs/run/heartbeat.key"
  expect 77 orc-heartbeat --agent dev
  one_line "$stderr"
  orc-monitor start >/dev/null
  eventually grep -q "WARNING monitor: .*heartbeat.key can be read by others" "$ORC_HOME/logs/monitor.out"
  expect 0 orc-monitor status
}
