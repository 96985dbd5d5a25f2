#!/usr/bin/env bats
# make demo: tells what it says, ends by itself, and leaves nothing
load ../helper

setup() {
  make_home
  export TMPDIR=$BATS_TEST_TMPDIR/scratch DEMO_PAUSE=0
  mkdir "$TMPDIR"
}

teardown() {
  local scratch
  for scratch in "$TMPDIR"/orc-demo.*; do
    [ ! -d "$scratch/home" ] || ORC_HOME=$scratch/home orc-component stop >/dev/null
    [ ! -S "$scratch/tmux" ] || tmux -S "$scratch/tmux" kill-server
  done
  [ ! -S "$ORC_TMUX_SOCKET" ] || tm kill-server 2>/dev/null || true
}

# Nothing is left: no file, and no process that was started below the scratch folder.
left() {
  find "$TMPDIR" -mindepth 1
  grep -l "${TMPDIR%h}[h]" /proc/[0-9]*/cmdline 2>/dev/null || true # not its own
}

@test "in a pipe it tells everything, and leaves nothing" {
  expect 0 timeout 60 "$ROOT/share/demo/demo.sh"
  equals "$(left)" ""
  contains "$output" "held demo:dev: dialog"
  typed=$(sed -n 's/^typed: \([0-9]*\) of 100.*/\1/p' <<<"$output")
  [ "$typed" -gt 0 ] && [ "$typed" -le 10 ]
  contains "$output" "$((100 - typed)) more since"
  contains "$output" "still readable: $((100 - typed))"
  contains "$output" "no canary: nothing was executed"
  contains "$output" "You are dev, in the role developer, in session demo, and were started again: ended by signal 9"
  equals "$(grep -c '^demo:dev was started again: ended by signal 9' <<<"$output")" 1
  contains "$output" "'\$(touch $TMPDIR/"
}

@test "on a terminal without a locale it shows the agents, ends by itself, and leaves nothing" {
  ended=$BATS_TEST_TMPDIR/ended
  env -u LC_ALL -u LANG TERM=screen-256color tmux -u -S "$ORC_TMUX_SOCKET" -f /dev/null new-session -d -x 160 -y 48 \
    "env -u TMUX '$ROOT/share/demo/demo.sh'; echo \$? >'$ended'"
  shown() { tm capture-pane -p | grep -q '▸ Say what to do'; }
  eventually shown
  for _ in 1 2 3; do [ -e "$ended" ] || eventually test -e "$ended" >/dev/null || true; done
  equals "$(cat "$ended")" 0
  equals "$(left)" ""
}

@test "it takes everything down when its terminal goes away" {
  tm new-session -d -x 160 -y 48 "env -u TMUX '$ROOT/share/demo/demo.sh'"
  shown() { tm capture-pane -p | grep -q 'Say what to do'; }
  eventually shown
  tm kill-server
  gone() { [ -z "$(left)" ]; }
  eventually gone
}
