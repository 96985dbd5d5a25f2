#!/bin/sh
# One of a team of stand-ins: takes tasks, does them as the source document tells of its role, and says so.
# usage: team_worker.sh ROLE; ORC_HOME holds its ROADMAP.md and its specs.
# Killed anywhere, the next one does the task again: what was written holds the task's id, what was said has one of it.
# While a file hold.TYPE is there it rests when a task of that type is done but for saying so.
role=$1
cd "$ORC_HOME" || exit 69

of() { printf '%s' "$got" | jq -r "$1"; }

publish() { # TYPE CONTEXT TEXT [OPTION...]
  type=$1 context=$2 text=$3
  shift 3
  orc-publish --from "$role" --type "$type" --context "$context" --id "$type.$task" --reply-to "$(of .payload.event)" \
    --correlation-id "$(of .correlation_id)" "$@" -- "$text" >/dev/null
}

change() { # SED PROGRAM: the roadmap
  sed "$1" ROADMAP.md >"ROADMAP.$$" && mv "ROADMAP.$$" ROADMAP.md
}

next() { # PREFIX: a number behind all that the roadmap and the specs have
  last=$({
    sed -n "s/^$1-0*\([0-9]*\).*/\1/p" ROADMAP.md
    find specs -type f -printf '%f\n' | sed -n "s/^$1-0*\([0-9]*\).*/\1/p"
  } | sort -n | tail -n 1)
  printf '%s-%03d' "$1" $((last + 1))
}

implement() {
  echo "$(of .payload.spec_id) $task" >>implemented
  publish implementation_complete \
    "$(of '{priority: .payload.priority, spec_id: .payload.spec_id, pr_number: 123} | tojson')" "tests pass"
}

verify() {
  item=$(of .payload.priority)
  change "s/^$item: [A-Z][a-z]*/$item: Complete/"
  publish notification "$(of '{priority: .payload.priority} | tojson')" "$item is complete" --group management
}

bug() {
  if ! grep -q "$task" ROADMAP.md; then
    entry="$(next BUG): Planned $(of .payload.title) (priority $(of .priority), task $task)"
    if [ "$(of .priority)" -le 2 ]; then change "1i $entry"; else echo "$entry" >>ROADMAP.md; fi
  fi
  item=$(sed -n "s/^\(BUG-[0-9]*\):.*$task.*/\1/p" ROADMAP.md)
  publish notification "{\"priority\": \"$item\"}" "$item is in the roadmap" --group management
  publish spec_request "{\"priority\": \"$item\"}" "a spec for $item, please" --priority high
}

specify() {
  item=$(of .payload.priority)
  file=$(grep -l "$task" specs/* | head -n 1)
  if [ -z "$file" ]; then
    file=specs/$(next SPEC)
    echo "how to mend $item, for task $task" >"$file"
  fi
  publish spec_created "{\"spec_id\": \"${file#specs/}\", \"priority\": \"$item\"}" "${file#specs/} is ready"
}

while :; do
  got=$(orc-task get -r "$role" --wait=10s --pid $$) || continue
  task=$(of .task_id)
  case $(of .type) in
    spec_created) implement ;;
    implementation_complete) verify ;;
    bug_report) bug ;;
    spec_request) specify ;;
  esac
  while [ -e "hold.$(of .type)" ]; do
    : >"held.$(of .type)"
    sleep 0.1
  done
  orc-task "done" "$task" --token "$(of .token)"
done
