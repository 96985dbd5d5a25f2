#!/usr/bin/env bats
# orc-state: what the state updater keeps of each session, and what it sends on
load ../helper

violation() { # RULE SEVERITY [AGENT]
  orc-publish --type violation --context "{\"agent\": \"${3:-web:dev}\", \"rule\": \"$1\", \"severity\": \"$2\"}" "$1 was broken"
}
state() { jq -r "$1" "$ORC_HOME/registry/sessions/${2:-web}.json"; }
sent() { orc-read --type notification -o message.priority,message.content.context.rule,source.identifier,to.groups; }
counted() { [ "$(state .counts.violation)" = "$1" ]; }

@test "64: what it does not take" {
  for words in "extra" "sho" "--follow show" "--follow --json" "start web" "status --json" "show -o nonsense" "--nope"; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-state $words
    one_line "$stderr"
    equals "$output" ""
  done
  [ ! -e "$ORC_HOME/registry/sessions" ]
}

@test "1: nothing is known yet" {
  expect 1 orc-state
  equals "$output$stderr" ""
  expect 1 orc-state show web
  equals "$output" ""
  one_line "$stderr"
}

@test "a violation: in the session's file, and one notification to the project manager's pane" {
  orc-run pm --session web --profile plain -- cat
  expect 0 orc-component start broker state_updater
  id=$(violation secret critical)
  violation secret critical >/dev/null
  violation no-commit normal >/dev/null
  eventually counted 3
  equals "$(state '.agents.dev | [.violations, .last_violation.rule] | join(" ")')" "3 no-commit"
  equals "$(state '.last_events[0].event')" "$id"
  equals "$(sent)" $'critical\tsecret\tstate_updater\tmanagement'
  notice=$(orc-read --type notification -o id)
  typed() { orc-read --type delivery -q --filter "typed web:pm"; }
  eventually typed
  equals "$(orc-read --type delivery -o message.content.context.event | sort -u)" "$notice"
  seen() { orc-agent peek pm | tr -d '\n' | grep -q 'violation of secret (critical): secret was broken'; }
  eventually seen
  equals "$(stat -c %a "$ORC_HOME/registry/sessions" "$ORC_HOME/registry/sessions/web.json" | xargs)" "700 600"
}

@test "kill -9 and another life: nothing lost, nothing counted twice, nothing told twice" {
  expect 0 orc-state start
  violation secret high >/dev/null
  eventually counted 1
  eventually test -e "$ORC_HOME/logs/run/cursors/component.state_updater"
  kill -9 "$(cat "$ORC_HOME/logs/state_updater.pid")"
  violation secret high >/dev/null
  violation other high >/dev/null
  rm "$ORC_HOME/logs/run/cursors/component.state_updater"
  expect 0 orc-state start
  eventually counted 3
  equals "$(sent | cut -f 2)" $'secret\nother'
  expect 0 orc-state stop
  expect 1 orc-state status
}

@test "who dies is dead in the file, and starting when it is back, as the monitor tells" {
  expect 0 orc-component start state_updater monitor
  orc-run dev --session web --profile plain -- sleep 1000 >/dev/null
  is() { [ "$(state '.agents.dev.status')" = "$1" ]; }
  kill -9 "$(orc-agent show dev -o pid)"
  eventually is dead
  orc-agent restart dev >/dev/null
  eventually is starting
  equals "$(state '.agents.dev.recoveries')" 1
}

@test "one at a time, in the foreground too" {
  expect 0 orc-state start
  expect 1 orc-state --follow
  one_line "$stderr"
  contains "$stderr" "runs already (pid $(cat "$ORC_HOME/logs/state_updater.pid"))"
}

@test "the manager starts it, and status tells of it" {
  export ORC_COMPONENTS_BROKER=false ORC_COMPONENTS_MONITOR=false
  expect 0 orc-component start
  contains "$output" "state_updater: started"
  expect 0 orc-component status
  equals "$(orc-status --json | jq -r '.components[] | select(.running) | .name')" state_updater
}

@test "show: a session a line for programs, an agent a line for people" {
  violation a low web:dev >/dev/null
  orc-publish --type status_update --context '{"agent": "web:qa", "status": "idle", "task": "T-1"}' hello >/dev/null
  orc-publish --type credit_exhausted --context '{"session": "api"}' out >/dev/null
  orc-state start >/dev/null
  eventually counted 1
  both() { [ "$(orc-state | wc -l)" = 2 ] && state .agents.qa.status; }
  eventually both
  equals "$(orc-state show | jq -r .session | xargs)" "api web"
  equals "$(orc-state show web -o session,counts.violation)" $'web\t1'
  equals "$(orc-state show --json | jq -r length)" 2
  expect 0 orc-state -o table
  equals "$(sed 's/20[^ ]*Z/TIME/' <<<"$output" | tr -s ' ')" "SESSION AGENT STATUS SINCE VIOLATIONS COMPLETED LIMITED UNTIL CURRENT TASK
api - - TIME 0 0 unknown -
web dev unknown - 1 0 - -
web qa idle TIME 0 0 - T-1"
  expect 1 orc-state show web nope
  contains "$stderr" "'nope'"
  echo '{' >"$ORC_HOME/registry/sessions/api.json"
  expect 65 orc-state show
  contains "$stderr" "api.json is damaged"
  equals "$(jq -r .session <<<"$output")" web
}
