#!/usr/bin/env bats
# orc-run: an agent CLI as a pane's own process, registered

load ../helper

in_pane() { tm run-shell true && tm capture-pane -p -J -S - -t "$1" | grep -qF -- "$2"; }

@test "starts the command in a window of its own and prints the record" {
  expect 0 orc-run pm --session team -- sleep 1000
  equals "$stderr" ""
  equals "$(jq -r '[.name, .role, .target, .state, .adopted] | @tsv' <<<"$output")" $'pm\tpm\tteam:0.0\tstarting\tfalse'
  pane=$(jq -r .pane <<<"$output")
  equals "$(tm display-message -p -t "$pane" '#{pane_pid} #{window_name}')" "$(jq -r .pid <<<"$output") pm"
  sleeps() { [ "$(tm display-message -p -t "$pane" '#{pane_current_command}')" = sleep ]; }
  eventually sleeps
}

@test "the session is called as the folder" {
  mkdir "$BATS_TEST_TMPDIR/my.project"
  cd "$BATS_TEST_TMPDIR/my.project"
  expect 0 orc-run pm -o target -- sleep 1000
  equals "$output" my-project:0.0
}

@test "the environment and the folder are the caller's, and the commands are on PATH" {
  mkdir "$BATS_TEST_TMPDIR/a b"
  cd "$BATS_TEST_TMPDIR/a b"
  # shellcheck disable=SC2016 # the agent's shell expands it
  SECRET=$'two\nlines' expect 0 orc-run pm --session team -- sh -c \
    'printf %s "$SECRET" >secret; command -v orc-publish >which; printf "%s %s" "$ORC_HOME" "$ORC_AGENT" >who; sleep 1000'
  eventually test -s who
  equals "$(cat secret)" $'two\nlines'
  equals "$(cat which)" "$ROOT/bin/orc-publish"
  equals "$(cat who)" "$ORC_HOME pm"
}

@test "what has ended says how, and how to start it again" {
  expect 0 orc-run pm --session team -o pane -- sh -c 'echo last words; exit 3'
  pane=$output
  eventually in_pane "$pane" "pm ended (status 3). Start it again: orc-agent restart team:pm"
  in_pane "$pane" "last words"
  expect 0 orc-run pm --session team -o pane -- sleep 1000
  equals "$output" "$pane"
}

@test "a name that is taken is refused" {
  expect 0 orc-run pm --session team -- sleep 1000
  expect 64 orc-run pm --session team -- sleep 1000
  equals "$output" ""
  one_line "$stderr"
  contains "$stderr" "orc-run: team:pm is running: "
  expect 0 orc-run pm --session other -- sleep 1000
}

@test "what cannot be started is refused, and nothing is made" {
  expect 64 orc-run
  expect 64 orc-run pm
  expect 64 orc-run -- sleep
  expect 64 orc-run pm --sesion x -- sleep 1000
  contains "$stderr" "did you mean --session"
  expect 64 orc-run pm -- no-such-program
  contains "$stderr" "no program 'no-such-program'"
  expect 64 orc-run pm --profile cluade -- sleep 1000
  contains "$stderr" "did you mean claude"
  expect 64 orc-run Pm -- sleep 1000
  expect 64 orc-run pm --restart maybe -- sleep 1000
  expect 64 orc-run pm --supervisor boss -- sleep 1000
  contains "$stderr" "none of monitor, team, none"
  expect 64 orc-run pm -o nonsense -- sleep 1000
  one_line "$stderr"
  run ! tm list-sessions
  [ ! -e "$ORC_HOME/registry/agents.json" ]
}

@test "a shell is no agent: it would run what is typed" {
  for words in sh bash /bin/bash "bash -l" "bash --norc -i" "env A=1 sh" "sh -s x"; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-run pm --session team -- $words
    one_line "$stderr"
    contains "$stderr" "is a shell and would run what is typed into it"
  done
  run ! tm list-sessions
  expect 0 orc-run pm --session team -- bash -c 'sleep 1000'
}

@test "several words in NAME, session or window are never a command" {
  for option in --session --window --role --group; do
    expect 64 orc-run pm --session team "$option" "#(touch $BATS_TEST_TMPDIR/canary)" -- sleep 1000
    one_line "$stderr"
  done
  [ ! -e "$BATS_TEST_TMPDIR/canary" ]
}

@test "--launch outside a pane starts nothing" {
  expect 0 orc-run pm --session team -- sleep 1000
  run -127 --separate-stderr orc-run --launch "$ORC_HOME/registry/launch/team@pm.json"
  contains "$stderr" "run it again"
}

@test "help and version" {
  expect 0 orc-run --help
  contains "$output" "usage: orc-run NAME [options] -- COMMAND"
  expect 0 orc-run --version
}
