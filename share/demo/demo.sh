#!/bin/sh
# demo.sh: a team in tmux, a message, a dialog, a flood, a death and a return, told as they happen.
# It has a home and a tmux server of its own, ends by itself, and leaves nothing. On a terminal you watch the agents.
set -eu

here=$(CDPATH='' cd -P -- "$(dirname -- "$0")" && pwd -P)
root=$(dirname -- "$(dirname -- "$here")")
PATH=$root/bin:$PATH
export PATH

say() { printf '\n\033[1m── %s\033[0m\n' "$*"; }
quoted() { # WORD...: as one would have to type them
  for word; do
    case $word in *[!a-zA-Z0-9_./:,@=-]*) printf " '%s'" "$word" ;; *) printf ' %s' "$word" ;; esac
  done
}
show() { # a command, and what it prints
  printf '\033[2m$%s\033[0m\n' "$(quoted "$@")"
  "$@" || printf '\033[2m(exit %s)\033[0m\n' "$?"
}

until_log() { # SECONDS REGEX: until a line of the log matches
  left=$(($1 * 10))
  while [ "$left" -gt 0 ]; do
    grep -Eq "$2" "$ORC_HOME"/logs/events/*.jsonl && return
    left=$((left - 1))
    sleep 0.1
  done
  echo "demo.sh: the log does not say $2" >&2
  return 1
}

until_confirmed() { # SECONDS WORDS: until the message with these words is confirmed
  until_log "$1" "\"event\": \"$(orc-read --type message --filter "$2" -n 1 -o id)\".*\"outcome\": \"confirmed\""
}

tell() {
  say 'Three agents run in tmux, each the own process of its pane.'
  show orc-agent list -o name,role,state,target

  say 'Somebody tells the developer something. It is typed, submitted, and confirmed.'
  show orc-publish -t dev -p high --wait 'the build is red: start with the parser'
  show orc-read --type delivery -n 2 -o message.content.context.outcome,message.content.context.latency_ms

  say 'The developer asks for a permission. Nobody types into a dialog, not even what is critical.'
  orc-publish -t dev --wait=typed '[[tool:rm -rf build]] clean up' >/dev/null
  show orc-agent wait dev --until waiting --timeout 10s
  show orc-publish -t dev -p critical --wait --timeout 1s 'stop the release'
  show orc-agent answer dev no
  until_confirmed 20 'stop the release'
  show orc-read --type delivery -n 3 -o text

  say 'A script goes wild: a hundred messages for the tester.'
  seq -f 'test %g failed' 100 | orc-publish -t tester --lines >/dev/null
  until_log 40 '"outcome": "digested", "reason": "flood"'
  echo "typed: $(orc-read --type delivery --filter 'typed demo:tester' -o id | wc -l) of 100; the rest is one line in the pane:"
  orc-agent peek tester | grep 'more since' | tail -n 1
  echo "still readable: $(orc-read --unread tester -o id | wc -l)"

  say 'The developer dies. What is sent to it now must never reach a shell; the monitor sees the death and mends it.'
  kill -9 "$(orc-agent list -o name,pid | awk '$1 == "dev" { print $2 }')"
  show orc-publish -t dev --wait "\$(touch $ORC_HOME/CANARY) are you there?"
  until_confirmed 30 'are you there'
  show orc-read --type recovery -o message.content.body,message.content.context.downtime_ms
  show orc-agent wait dev --until idle --timeout 20s
  echo "the developer's briefing:"
  orc-read --filter 'You are dev' -n 1 -o message.content.body
  echo "and what the project manager was told, once:"
  orc-read --filter 'dev was started again' -o message.content.body
  [ ! -e "$ORC_HOME/CANARY" ] && echo 'no canary: nothing was executed'

  say 'What happened, as the log tells it:'
  orc-read --type delivery -o timestamp,message.content.body | tail -n 6 | cut -c12-
  say 'That was all. Everything is taken down again.'
}

finish() {
  orc-component stop monitor broker >/dev/null 2>&1 || true
  tmux -S "$ORC_TMUX_SOCKET" kill-server 2>/dev/null || true
  rm -rf "$scratch"
}

agent() { # NAME ROLE
  orc-run "$1" --role "$2" --session demo --window team --profile demo --restart crash -- \
    "$root/.venv/bin/python" "$here/agent.py" >/dev/null
  tmux -S "$ORC_TMUX_SOCKET" select-layout -t '=demo:team' tiled >/dev/null
}

if [ "${1:-}" = --tell ]; then
  trap 'tmux -S "$ORC_TMUX_SOCKET" detach-client -s "=demo"' EXIT
  tell
  sleep "${DEMO_PAUSE:-5}"
  exit
fi

scratch=$(mktemp -d "${TMPDIR:-/tmp}/orc-demo.XXXXXX")
export ORC_HOME="$scratch/home" ORC_TMUX_SOCKET="$scratch/tmux"
unset TMUX TMUX_PANE
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -m 700 "$ORC_HOME"

tmux -S "$ORC_TMUX_SOCKET" -f /dev/null new-session -d -s demo -n team -x "${COLUMNS:-160}" -y "${LINES:-48}" 'sleep 2147483647'
agent pm pm
agent dev developer
agent tester tester
orc-component start broker monitor >/dev/null
if [ -t 0 ] && [ -t 1 ]; then
  tmux -S "$ORC_TMUX_SOCKET" respawn-pane -k -t '=demo:team.0' "$here/demo.sh" --tell
  tmux -S "$ORC_TMUX_SOCKET" set-option -t '=demo:' status off
  tmux -u -S "$ORC_TMUX_SOCKET" attach -t '=demo' # the agents draw in UTF-8, whatever the locale says
else
  tell
fi
