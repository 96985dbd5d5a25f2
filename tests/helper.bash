# What every .bats file loads: a home and a tmux server of its own, the commands of this tree, waiting on conditions.
# `load ../helper` at the head of the file; with a setup or teardown of its own, call make_home and end_home in them.
# shellcheck disable=SC2154 # bats sets status, output and stderr
bats_require_minimum_version 1.5.0

ROOT=$(cd -P "$BATS_TEST_DIRNAME/../.." && pwd -P)

make_home() {
  local name
  for name in $(compgen -e); do
    case $name in ORC_* | ORCHESTRATOR_* | TMUX*) unset "$name" ;; esac
  done
  export PATH="$ROOT/bin:$PATH" ORC_HOME="$BATS_TEST_TMPDIR/home" ORC_TMUX_SOCKET="$BATS_TEST_TMPDIR/tmux"
  export NO_COLOR=1 LC_ALL=C.UTF-8
  [ "$(command -v orc-publish)" = "$ROOT/bin/orc-publish" ] || {
    echo "PATH finds another tree's commands: $(command -v orc-publish)" >&2
    return 1
  }
}

# Ends what the test started: components exactly, through their pid files, and the private tmux server.
end_home() {
  "$ROOT/orchestrator_manager.sh" stop >/dev/null || true
  [ ! -S "$ORC_TMUX_SOCKET" ] || tm kill-server 2>/dev/null || true
}

setup() { make_home; }
teardown() { end_home; }

# tmux on the private socket, with no configuration
tm() { tmux -S "$ORC_TMUX_SOCKET" -f /dev/null "$@"; }

# expect CODE COMMAND…: runs it, with $output (stdout) and $stderr apart, and checks its exit code
expect() {
  local code=$1
  shift
  run --separate-stderr "$@"
  if [ "$status" -ne "$code" ]; then
    printf 'ended with %s, not %s: %s\n--- stdout\n%s\n--- stderr\n%s\n' "$status" "$code" "$*" "$output" "$stderr"
    return 1
  fi
}

# contains TEXT PART / equals TEXT WANTED: checks that say what they saw
contains() {
  [[ $1 == *"$2"* ]] || {
    printf 'no %q in: %s\n' "$2" "$1"
    return 1
  }
}

equals() {
  [ "$1" = "$2" ] || {
    printf 'is   %q\nwant %q\n' "$1" "$2"
    return 1
  }
}

# one_line TEXT: exactly one, as every error message is
one_line() { equals "$(printf '%s\n' "$1" | wc -l)" 1; }

# eventually COMMAND…: waits until it succeeds, for at most 10 seconds
eventually() {
  local end=$((SECONDS + 10))
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "waited in vain for: $*"
      return 1
    fi
    sleep 0.02
  done
}

# listening: the monitor hears heartbeats, a moment after it has begun
listening() { eventually test -S "$ORC_HOME/logs/run/monitor.sock"; }
