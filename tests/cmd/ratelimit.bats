#!/usr/bin/env bats
# orc-ratelimit: room in a shared bucket, for shell scripts

load ../helper

@test "grants the burst, then says how long to wait" {
  expect 0 orc-ratelimit mail --rate 2/min
  equals "$output" 0
  expect 0 orc-ratelimit mail --rate 2/min
  expect 75 orc-ratelimit mail --rate 2/min
  [[ $output =~ ^(29\.[0-9]+|30)$ ]]
  equals "$stderr" ""
}

@test "ten a minute unless told otherwise" {
  local n
  for n in 1 2 3 4 5 6 7 8 9 10; do expect 0 orc-ratelimit mail; done
  expect 75 orc-ratelimit mail
}

@test "keys are apart, and so are homes" {
  expect 0 orc-ratelimit a --rate 1/min
  expect 0 orc-ratelimit b --rate 1/min
  expect 75 orc-ratelimit a --rate 1/min
  ORC_HOME=$BATS_TEST_TMPDIR/second expect 0 orc-ratelimit a --rate 1/min
}

@test "burst and cost" {
  expect 0 orc-ratelimit k --rate 1/min --burst 5 --cost 4
  expect 75 orc-ratelimit k --rate 1/min --burst 5 --cost 2
  expect 0 orc-ratelimit k --rate 1/min --burst 5
}

@test "--peek grants nothing" {
  local n
  for n in 1 2 3; do
    expect 0 orc-ratelimit k --rate 1/min --peek
    equals "$output" 0
  done
  expect 0 orc-ratelimit k --rate 1/min
  expect 75 orc-ratelimit k --rate 1/min --peek
}

@test "a command ends with its own code, and nothing else is printed" {
  expect 7 orc-ratelimit k --rate 1/min -- sh -c 'echo out; echo err >&2; exit 7'
  equals "$output" out
  equals "$stderr" err
  expect 75 orc-ratelimit k --rate 1/min -- touch "$BATS_TEST_TMPDIR/ran"
  equals "$output$stderr" ""
  [ ! -e "$BATS_TEST_TMPDIR/ran" ]
}

@test "a command gets its arguments as they are, and a -- of its own" {
  # shellcheck disable=SC2016 # not to be expanded is the point
  local nasty='$(touch nothing);'
  expect 0 orc-ratelimit k -- printf '<%s>' -n --rate x -- '' 'a b' "$nasty"
  equals "$output" "<-n><--rate><x><--><><a b><$nasty>"
}

@test "a command has the caller's umask, standard input and pipe signal" {
  umask 027
  expect 0 orc-ratelimit k -- sh -c 'umask; cat; grep SigIgn /proc/self/status' <<<"from the pipe"
  contains "$output" 0027
  contains "$output" "from the pipe"
  contains "$output" "SigIgn:	$(sh -c 'grep SigIgn /proc/self/status' | cut -f2)"
}

@test "a command that is not there is 127, one that cannot be run 126" {
  run --separate-stderr -127 orc-ratelimit k -- no-such-command
  one_line "$stderr"
  contains "$stderr" "orc-ratelimit: 'no-such-command' is no command"
  expect 126 orc-ratelimit k -- /etc/passwd
  one_line "$stderr"
}

@test "--wait waits for room" {
  expect 0 orc-ratelimit k --rate 5/s --burst 1
  local start=${EPOCHREALTIME/./}
  expect 0 orc-ratelimit k --rate 5/s --burst 1 --wait
  [ $((${EPOCHREALTIME/./} - start)) -ge 150000 ]
}

@test "--wait gives up with 124" {
  expect 0 orc-ratelimit k --rate 1/min
  expect 124 orc-ratelimit k --rate 1/min --wait=100ms
  [[ $output =~ ^(59\.[0-9]+|60)$ ]]
  expect 124 orc-ratelimit k --rate 1/min --wait=1s -- touch "$BATS_TEST_TMPDIR/ran"
  equals "$output" ""
  [ ! -e "$BATS_TEST_TMPDIR/ran" ]
}

@test "what it prints is what sleep takes" {
  expect 0 orc-ratelimit k --rate 5/s --burst 1
  local pause
  until pause=$(orc-ratelimit k --rate 5/s --burst 1); do sleep "$pause"; done
}

@test "mistakes are 64, one line, and grant nothing" {
  local words
  for words in "" "a b" "k --rate x" "k --rate 0/s" "k --burst 0" "k --cost x" "k --cost 11" "../k" "k --wait=x" \
    "k --peek --wait" "k --peek -- true" "k --" "k --nope" "-- true"; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-ratelimit $words
    equals "$output" ""
    one_line "$stderr"
    contains "$stderr" "orc-ratelimit: "
  done
  [ ! -e "$ORC_HOME" ]
}

@test "at once from many shells: never more than the burst" {
  local n
  for n in $(seq 40); do
    orc-ratelimit k --rate 10/hour -- echo granted >"$BATS_TEST_TMPDIR/out.$n" &
  done
  wait
  equals "$(cat "$BATS_TEST_TMPDIR"/out.* | grep -c granted)" 10
}

@test "a home that cannot be written is 74 or 77, and grants nothing" {
  : >"$ORC_HOME"
  run --separate-stderr orc-ratelimit k -- echo ran
  [[ $status = 74 || $status = 77 ]]
  equals "$output" ""
  one_line "$stderr"
}

@test "help and version" {
  expect 0 orc-ratelimit --help
  contains "$output" "examples:"
  expect 0 orc-ratelimit --version
  contains "$output" "orc-ratelimit "
}

@test "a key that the configuration names has its rate, whoever asks; another rate is refused" {
  mkdir -p "$ORC_HOME"
  printf 'ratelimits:\n  github: 3/hour\n  search: 60/min burst 2\n' >"$ORC_HOME/orchestrator_config.yaml"
  local n
  for n in 1 2 3; do expect 0 orc-ratelimit github; done
  expect 75 orc-ratelimit github --rate 3/hour
  expect 64 orc-ratelimit github --rate 10/min
  equals "$stderr" "orc-ratelimit: github is 3/hour for all who use it: leave --rate and --burst out, or change ratelimits.github"
  expect 64 orc-ratelimit github --burst 5
  expect 0 orc-ratelimit search --burst 2
  expect 0 orc-ratelimit search
  expect 75 orc-ratelimit search
  expect 64 orc-ratelimit search --cost 3
  expect 0 orc-ratelimit other --rate 1/min
}

@test "a configuration that is wrong is told, and nothing is granted" {
  mkdir -p "$ORC_HOME"
  printf 'ratelimits:\n  github: often\n' >"$ORC_HOME/orchestrator_config.yaml"
  expect 78 orc-ratelimit github
  [[ $stderr == *"orchestrator_config.yaml:2: ratelimits.github is 'often'"* ]]
  expect 78 orc-config check
}
