# shellcheck shell=bash
# What the recipes of this folder share: settings, a task's data, a git worktree of its own for each task, the agent
# CLI, events. A recipe sources this file, defines `look` (what it does of itself) and `work` (what it does with a
# task), and ends with `recipe "$@"`.
#
# Whatever is in a task was written by somebody: it is never a command, an option, a path or the name of a branch
# before it was found to be one. The user's checkout is never worked in. What a recipe runs is of its process group, so
# it ends with the task. A recipe that is killed leaves a private folder and its worktree, which the next one of this
# home removes.
# shellcheck disable=SC2034,SC2154 # some of what is set here, the recipes use, and the other way round
set -eu -o pipefail
shopt -s inherit_errexit

HERE=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
self=$(readlink -f -- "$0")
role=${self##*/}
PATH=$PATH:$HERE/../../bin # cron's has not got them
ITEM='^[A-Z][A-Z0-9]{0,9}-[0-9]{1,6}$'
SPEC='^SPEC-[0-9]{1,6}$'
COMMIT='^[0-9a-f]{40}([0-9a-f]{24})?$'
# What the CLIs say, at the beginning of a line of theirs, when they are asked once and may not go on.
LIMITED='^(error: )?(you.{1,3}ve (hit|reached) your .*limit|(claude ai )?(usage|session|weekly|5-hour) limit reached)'
MOST=1048576 # bytes that are kept of what a program prints
child='' tree='' scratch=''

fail() { # CODE TEXT
  printf '%s: %s\n' "${me:-$role}" "$2" >&2
  exit "$1"
}

say() { printf '%s: %s\n' "$me" "$(line "$1")"; }

# settings

setting() { # KEY [DEFAULT]: what the supervisor passes of team.agents.NAME.KEY, or a person has exported
  local name=ORC_TEAM_${1^^}
  printf '%s' "${!name:-${2-}}"
}

seconds() { # KEY DEFAULT
  local value
  value=$(setting "$1" "$2")
  [[ $value =~ ^0*[1-9][0-9]{0,6}$ ]] || fail 78 "$1 is no number of seconds: correct it"
  echo "$((10#$value))"
}

switch() { # KEY DEFAULT: is it on?
  case $(setting "$1" "$2") in
    true) ;;
    false) return 1 ;;
    *) fail 78 "$1 is neither true nor false: correct it" ;;
  esac
}

settle() {
  local program
  for program in git jq flock setpriv timeout; do
    command -v "$program" >/dev/null || fail 69 "$program is not installed: install it"
  done
  me=${ORC_TEAM_AGENT:-$role}
  [[ $me =~ ^[a-z][a-z0-9_-]{0,31}$ ]] || me=$role
  queue=$(setting recipient "$role")
  # shellcheck disable=SC2046 # names of variables
  unset $(git rev-parse --local-env-vars)
  export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=core.fsmonitor GIT_CONFIG_VALUE_0=false # no daemon that outlives us
  export GIT_TERMINAL_PROMPT=0 GIT_AUTHOR_NAME=$me GIT_COMMITTER_NAME=$me
  export GIT_AUTHOR_EMAIL=$me@localhost GIT_COMMITTER_EMAIL=$me@localhost
  repo=$(setting repo .)
  repo=$(git -C "$repo" rev-parse --show-toplevel) || fail 78 "there is no git repository: name one as repo"
  roadmap=$(within "$(setting roadmap ROADMAP.md)")
  specs=$(within "$(setting specs docs/specs)")
  tests=$(setting tests)
  limit=$(seconds timeout 3600)
  local day
  day=$(orc-log path) || [ -n "$day" ] || fail 69 "ORC_HOME is not known: see orc-log path"
  shared=${day%/logs/events/*}/data/agents
  state=$shared/$me
  (umask 077 && mkdir -p "$state/runs" "$shared/claims")
  find_cli
}

within() { # PATH: below the repository, unless it is absolute
  case $1 in
    /*) printf '%s' "$1" ;;
    *) printf '%s' "$repo/$1" ;;
  esac
}

find_cli() { # the agent CLI and its arguments; it gets the prompt on standard input, and prints its answer
  local given
  given=$(setting cli)
  if [[ $given == \[* ]]; then # a list
    mapfile -d '' cli < <(jq -j '.[] | tostring + "\u0000"' <<<"$given")
  elif [ -n "$given" ]; then
    read -ra cli <<<"$given"
  elif command -v claude >/dev/null; then
    cli=(claude -p)
  elif command -v codex >/dev/null; then
    cli=(codex exec -)
  elif command -v gemini >/dev/null; then
    cli=(gemini)
  else
    cli=()
  fi
  if ! switch auto_approve false || [ ${#cli[@]} = 0 ]; then return; fi
  case ${cli[0]##*/} in
    claude) cli+=(--dangerously-skip-permissions) ;;
    codex) cli+=(--dangerously-bypass-approvals-and-sandbox) ;;
    gemini) cli+=(--skip-trust --approval-mode=yolo) ;;
  esac
}

# a task's data

line() { # TEXT [LENGTH]: one line of it, without control characters
  jq -nr --arg text "$1" --argjson most "${2:-200}" \
    '$text | gsub("[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}\\s]+"; " ") | ltrimstr(" ") | rtrimstr(" ") | .[:$most]'
}

text() { # NAME: a field of the task, or of the event that it came from, whatever it is, as text
  jq -r --arg name "$1" '(.[$name] // (.context | objects | .[$name]) // empty)
    | if type == "string" then . else tojson end | .[:20000]' "$scratch/payload.json"
}

field() { # NAME [PATTERN]: the same on one line; nothing when it is not of that form
  local value
  value=$(line "$(text "$1" | tr -d '\0')")
  [[ ! $value =~ ${2:-.} ]] || printf '%s' "$value"
}

utf8() { # MOST: so many characters of standard input, as UTF-8 whatever it is; jq -R breaks what is across its blocks
  "$HERE/../../.venv/bin/python" -ISc 'import sys
text = sys.stdin.buffer.read().decode("utf-8", "replace")[: int(sys.argv[1])]
sys.stdout.buffer.write(text.encode())' "$1"
}

priority() { # the task's priority as an event has it
  case ${ORC_TASK_PRIORITY:-5} in
    1 | 2) echo critical ;;
    3 | 4) echo high ;;
    5 | 6 | 7) echo normal ;;
    *) echo low ;;
  esac
}

once() { printf '%s\0' "$@" | sha256sum | cut -c 1-32; } # WORDS: what is the same for the same words

# what is told

publish() { # TYPE PRIORITY ID CONTEXT BODY [OPTION...]: an event, once for this ID
  local about=()
  [ -z "${ORC_TASK_CORRELATION_ID:-}" ] || about=(--correlation-id "$ORC_TASK_CORRELATION_ID")
  orc-publish --type "$1" --priority "$2" --id "$3" --context "$4" --from "$me" "${about[@]}" "${@:6}" -- "$5" >/dev/null
}

tell() { # PRIORITY ID CONTEXT BODY: people, through the project's managers
  publish notification "$1" "$2" "$3" "$4" --category team --group management
}

reply() { # FILE: an answer to whoever asked
  local event asker to=()
  event=$(field event '^[A-Za-z0-9][A-Za-z0-9._:-]{5,63}$')
  asker=$(field sender '^([A-Za-z0-9_][^:]{0,127}:)?[a-z][a-z0-9_-]{0,31}$')
  if [ -n "$event" ] && orc-read --id "$event" -q >/dev/null 2>&1; then to=(--reply-to "$event"); fi
  if [ -n "$asker" ] && orc-agent show "$asker" -o name >/dev/null 2>&1; then to+=(--to "$asker"); fi
  utf8 20000 <"$1" | orc-publish --type answer --priority "$(priority)" --from "$me" "${to[@]}" \
    --correlation-id "$ORC_TASK_CORRELATION_ID" --id "answer.$(once "$ORC_TASK_ID")" - >/dev/null
}

# a worktree

commit() { # NAME: of a branch, or of a commit; its id, if there is one
  [ -n "$1" ] && git -C "$repo" rev-parse --verify --quiet --end-of-options "$1^{commit}"
}

base() { # the commit that work begins from
  local name
  for name in "$(setting base)" refs/heads/main refs/heads/master HEAD; do
    if commit "$name"; then return; fi
  done
  fail 78 "$repo has no commit to begin from: make one, or name base"
}

begin() { # the task's data, and a private folder in $scratch until this process ends
  local lock
  exec 8>"$shared/lock"
  flock 8
  for lock in "$shared"/*/runs/*.lock; do # of those that were killed, under whatever name: a branch is in one worktree
    [ -e "$lock" ] || continue
    (exec 9>"$lock" && flock -n 9 && remove "${lock%.lock}") || continue
  done
  scratch=$(mktemp -d "$state/runs/XXXXXX")
  exec 9>"$scratch.lock"
  flock 9
  exec 8>&-
  trap clean EXIT
  trap stop TERM INT HUP
  head -c 2097152 >"$scratch/payload.json"
  jq -e 'type == "object"' "$scratch/payload.json" >/dev/null 2>&1 || fail 65 "the task is no JSON object: see docs/recipes.md"
  unset ORC_TASK_TOKEN ORC_TASK_PAYLOAD # no business of what we run
  ORC_TASK_ID=${ORC_TASK_ID:-by-hand-$$}
  ORC_TASK_CORRELATION_ID=${ORC_TASK_CORRELATION_ID:-$ORC_TASK_ID}
}

plant() { # WORDS of git worktree add after the path: a worktree in $tree
  tree=$scratch/tree
  printf '%s\n' "$repo" >"$scratch/repo"
  git -C "$repo" worktree add --quiet "$tree" "$@" >&2
}

remove() { # a private folder and its worktree, which may be another repository's
  local entry home=$repo
  [ ! -f "$1/repo" ] || home=$(<"$1/repo")
  chmod -R u+rwX -- "$1" 2>/dev/null || :
  if [ -e "$1/tree" ] && ! git -C "$home" worktree remove --force --force -- "$1/tree" 2>/dev/null; then
    for entry in "$(git -C "$home" rev-parse --path-format=absolute --git-common-dir 2>/dev/null)"/worktrees/*/; do
      if [ "$(cat -- "$entry/gitdir" 2>/dev/null)" = "$1/tree/.git" ]; then rm -rf -- "$entry"; fi # half removed
    done
  fi
  rm -rf -- "$1"
  rm -f -- "$1.lock"
}

clean() { [ -z "$scratch" ] || remove "$scratch"; }

stop() { # by a signal: first what runs ends, then we
  trap '' TERM INT HUP
  if [ -n "$child" ] && kill -TERM "$child" 2>/dev/null; then wait "$child" || :; fi
  exit 75
}

# programs that take long

run() { # IN OUT COMMAND...: in the worktree, its standard output in OUT, for at most `timeout` seconds; it ends with us
  local in=$1 out=$2 pipe keeper status=0
  shift 2
  exec {pipe}> >(exec 9>&- && head -c "$MOST" >"$out" && cat >/dev/null)
  keeper=$!
  # in the foreground: our process group, which whoever gave us the task ends as a whole
  (exec >&"$pipe" {pipe}>&- 9>&- && cd "$tree" && exec timeout --foreground --kill-after=10 "$limit" "$@") <"$in" &
  child=$!
  exec {pipe}>&-
  wait "$child" || status=$?
  child=''
  timeout 5 tail --pid="$keeper" -s 0.05 -f /dev/null || : # what it left behind may hold the pipe for ever
  return "$status"
}

ask() { # PROMPT OUT DATA...: the agent CLI; the data are files, each shown under its name as what others wrote
  local prompt file name pipe keeper status=0
  command -v "${cli[0]:-claude}" >/dev/null ||
    fail 69 "there is no agent CLI ${cli[0]:-}: install claude, codex or gemini, or name another as cli"
  prompt=$(setting prompts "$HERE/prompts")/$1.md
  [ -f "$prompt" ] || prompt=$HERE/prompts/$1.md
  {
    cat -- "$prompt"
    for file in "${@:3}"; do
      [ -s "$file" ] || continue
      name=${file##*/}
      printf '\n## %s\n\n' "${name%.*}"
      head -c 65536 -- "$file" | tr -d '\000-\010\013-\037\177' | sed 's/^/    /'
    done
  } >"$scratch/prompt"
  exec {pipe}> >(exec 9>&- && tee >(cat >&2) | tail -c 8192 >"$scratch/complaints")
  keeper=$!
  run "$scratch/prompt" "$scratch/said" "${cli[@]}" 2>&"$pipe" || status=$?
  exec {pipe}>&-
  if [ "$status" != 0 ]; then
    timeout 2 tail --pid="$keeper" -s 0.05 -f /dev/null || :
    limited
    fail 1 "the agent CLI failed ($status): see what it said"
  fi
  utf8 200000 <"$scratch/said" >"$2"
  grep -q '[^[:space:]]' "$2" || fail 1 "the agent CLI said nothing: see that it answers: ${cli[*]}"
}

limited() { # did it fail at a usage limit? Then all tasks of its account wait (docs/limits.md), and so does ours
  local text until
  text=$(tail -qn 5 -- "$scratch/said" "$scratch/complaints" 2>/dev/null | grep -aiE -m 1 "$LIMITED") || return 0
  until=$(sed -nE 's/.*(resets?( at)?|try again at|reached\|) *([^.|]{1,40}).*/\3/Ip' <<<"$text")
  ORC_TASK_CORRELATION_ID='' publish credit_exhausted high "credit_exhausted.$(once "$ORC_TASK_ID" "$EPOCHREALTIME")" \
    "$(jq -nc --arg agent "$queue" --arg until "$(line "$until" 40)" '$ARGS.named | if .until == "" then del(.until) else . end')" \
    "$me has reached a usage limit: $(line "$text")"
  fail 75 "the agent CLI has reached a usage limit: the task waits"
}

check() { # OUT: what is configured as tests, in the worktree
  [ -z "$tests" ] || run /dev/null "$1" sh -c "exec 2>&1; $tests"
}

forge() { # WORDS of gh; like all that takes time it stays in our process group, and so ends with the task
  (cd "$repo" && GH_PROMPT_DISABLED=1 NO_COLOR=1 orc-ratelimit github --wait=60s -- timeout --foreground 60 gh "$@")
}

road() { "$HERE/roadmap.py" --file "$roadmap" "$@"; }

# what runs

look() { :; }
first() { look; } # of --once

serve() { # the worker is this very process, which its supervisor sees; what looks by itself ends with it
  setpriv --pdeathsig TERM -- "$self" --looks </dev/null &
  exec orc-task run --recipient "$queue" -- "$self" --task
}

looks() {
  local never
  orc-heartbeat --every 25s >/dev/null 2>&1 & # for whoever supervises us; nobody may
  exec {never}<> <(:)
  while :; do
    "$self" --look || :
    read -rt "$pause" -u "$never" || : # a sleep that is no process
  done
}

recipe() {
  case ${1-} in
    -h | --help)
      sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$self"
      return
      ;;
    '' | --once | --look | --looks | --task) [ $# -le 1 ] || fail 64 "one word too many: see --help" ;;
    *) fail 64 "$(printf %q "$1") is not known: see --help" ;;
  esac
  settle
  pause=$(seconds "$every" "$each")
  case ${1-} in
    '') serve ;;
    --once)
      first
      orc-task run --recipient "$queue" --once -- "$self" --task
      ;;
    --look) look ;;
    --looks) looks ;;
    --task)
      begin
      work
      ;;
  esac
}
