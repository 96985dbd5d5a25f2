#!/bin/sh
# orchestrator_manager.sh: one command from a fresh clone to a running system, and the switch of what runs.
# It sets up what is missing (share/setup/setup.py), then hands over to bin/orc-component. Nothing here needs a
# particular folder, PATH, HOME or terminal: cron and `env -i` start it as well as a person does.
set -eu

PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}
export PATH
self=$0
[ -L "$self" ] && self=$(readlink -f -- "$self")
case $self in */*) ;; *) self=./$self ;; esac
root=$(CDPATH='' cd -P -- "${self%/*}" && pwd -P)
[ -d "$root/lib/tmux_orchestrator" ] || root=${root%/*} # an installed copy keeps this file in bin/
python=$root/.venv/bin/python

usage() {
  cat <<'END'
usage: orchestrator_manager.sh start|stop|restart|status [COMPONENT...]
       orchestrator_manager.sh logs [-f] [COMPONENT...]
       orchestrator_manager.sh clear-queues [--yes] [--dry-run]
       orchestrator_manager.sh doctor | setup

start sets up what is missing and starts the components that the configuration asks for; a second start changes
nothing. stop ends them. status shows them, and ends with 0 when everything that is wanted runs. logs shows what
they wrote. clear-queues drops what waits to be typed, never the log. doctor looks for what is wrong on this
machine. setup does what start does, without starting. ORC_HOME names another system beside this one.

examples:
  ./orchestrator_manager.sh start
  ORC_HOME=~/second ORC_TMUX_SOCKET=second ./orchestrator_manager.sh restart broker
END
}

fail() { # CODE TEXT
  echo "orchestrator_manager.sh: $2" >&2
  exit "$1"
}

# Prints the real interpreter, behind whatever shim, of the first Python that is new enough: one on PATH before
# others, and one that can make environments before one that first needs a package.
find_python() {
  old='import sys; sys.version_info >= (3, 11) or sys.exit(1); '
  real='print(getattr(sys, "_base_executable", "") or sys.executable)' # not that of somebody's environment
  home=${HOME:-/nonexistent}
  others=/usr/local/bin:/usr/bin:$home/.local/bin
  for place in "$home"/.pyenv/versions/*/bin; do others=$others:$place; done
  IFS=:
  for probe in "${old}import ensurepip, venv; $real" "$old$real"; do
    for places in "$PATH" "$others"; do
      for name in python3.13 python3.12 python3.11 python3; do
        for place in $places; do
          [ -x "$place/$name" ] || continue
          found=$("$place/$name" -I -c "$probe" 2>/dev/null </dev/null) || continue
          [ -x "$found" ] || continue
          echo "$found"
          return
        done
      done
    done
  done
  return 1
}

is_set_up() {
  [ -x "$python" ] && command -v tmux >/dev/null && "$python" -I -S "$root/share/setup/setup.py" check
}

set_up() { # setup|dev
  found=$(find_python) || fail 69 "no Python 3.11 or newer: install one, as with: apt-get install python3 python3-venv"
  "$found" -I -S "$root/share/setup/setup.py" "$1" || exit $?
}

action=${1-}
[ $# -gt 0 ] && shift
case $action in
  start | restart)
    is_set_up || set_up setup
    exec "$root/bin/orc-component" "$action" "$@"
    ;;
  stop | status | logs | clear-queues) exec "$root/bin/orc-component" "$action" "$@" ;;
  doctor) exec "$root/bin/orc-doctor" "$@" ;;
  setup)
    case ${1-} in
      '') is_set_up || set_up setup ;;
      --dev) set_up dev ;;
      *) fail 64 "setup takes nothing but --dev: leave '$1' out" ;;
    esac
    ;;
  -h | --help | help) usage ;;
  --version)
    version=$("$root/bin/orc-component" --version)
    echo "orchestrator_manager.sh ${version##* }"
    ;;
  '') fail 64 "what to do is missing: give start, stop, restart, status, logs, clear-queues, doctor or setup" ;;
  *) fail 64 "unknown action '$(printf %.40s "$action" | LC_ALL=C tr -c 'a-zA-Z0-9_-' '?')': see --help" ;;
esac
