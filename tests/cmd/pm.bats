#!/usr/bin/env bats
# The project manager's interface, from inside a project manager's pane: what it reads, acknowledges, broadcasts,
# escalates and answers, with a real broker.
load ../helper

setup() {
  make_home
  python=$ROOT/.venv/bin/python
  module=tmux_orchestrator.core.communication.pm_pubsub_integration
}

demo() { # NAME SESSION [OPTION…]
  orc-run "$1" --session "$2" --profile demo "${@:3}" -- "$python" "$ROOT/share/demo/agent.py" --log "$BATS_TEST_TMPDIR/$2-$1.log" >/dev/null
  orc-agent wait "$2:$1" --until idle --timeout 10s
}

# manager SESSION: a project manager whose program runs the scripts that `as_pm` gives it, one after the other
manager() {
  cat >"$BATS_TEST_TMPDIR/manager.sh" <<'END'
cd "$1"
while :; do
  if [ -e todo ]; then
    mv todo doing
    sh doing >said 2>errors
    echo $? >code.new
    mv code.new code
  fi
  sleep 0.02
done
END
  orc-run pm --session "$1" --profile plain -- sh "$BATS_TEST_TMPDIR/manager.sh" "$BATS_TEST_TMPDIR" >/dev/null
}

# as_pm CODE SCRIPT: the manager runs it, and ends with this code; what it printed is in $output and $stderr
as_pm() {
  rm -f "$BATS_TEST_TMPDIR/code"
  printf '%s\n' "$2" >"$BATS_TEST_TMPDIR/todo.new"
  mv "$BATS_TEST_TMPDIR/todo.new" "$BATS_TEST_TMPDIR/todo"
  eventually test -e "$BATS_TEST_TMPDIR/code"
  output=$(cat "$BATS_TEST_TMPDIR/said")
  stderr=$(cat "$BATS_TEST_TMPDIR/errors")
  [ "$(cat "$BATS_TEST_TMPDIR/code")" = "$1" ] || {
    printf 'ended with %s, not %s\n--- stdout\n%s\n--- stderr\n%s\n' "$(cat "$BATS_TEST_TMPDIR/code")" "$1" "$output" "$stderr"
    return 1
  }
}

broker() { "$ROOT/orchestrator_manager.sh" start broker >/dev/null; }
prompted() { jq -e --arg text "$2" 'select(.prompt // "" | contains($text))' "$BATS_TEST_TMPDIR/$1.log"; }
last() { orc-read --type "$1" -n 1 -o "$2"; }

# daemon CONTEXT PRIORITY TEXT: what the monitor would say to the group management; prints its id
daemon() {
  "$python" -I - "$@" <<'END'
import json, sys
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.ground import paths
context, priority, text = sys.argv[1:]
made = event.build(text, daemon_source("monitor"), type="alert", category="health", priority=priority,
                   groups=["management"], context=json.loads(context), tags=["health"], requires_ack=True)
print(Log(paths.find_home()).append([made])[0])
END
}

@test "the interface is importable from any folder, and says what is wrong in one line" {
  cd /
  expect 0 "$python" -I -c "from $module import PMPubsubIntegration, create_pm_monitoring_script; print(PMPubsubIntegration().session)"
  equals "$output" None
  expect 0 "$python" -I -c "from $module import PMPubsubIntegration as P; h = P('web:0').monitor_pubsub_health(); print(h['ok'], h['broker_running'], h['queue_depth'])"
  equals "$output" "False False 0"
}

@test "notifications of its own session, by kind; acknowledged with the session" {
  manager web
  demo pm api
  broker
  mine=$(daemon '{"agent": "web:dev", "session": "web", "issue_type": "dead"}' critical "web:dev died")
  daemon '{"agent": "api:dev", "session": "api", "issue_type": "dead"}' critical "api:dev died" >/dev/null
  daemon '{"issue_type": "healthy"}' normal "All agents healthy - 3 active, 0 idle, monitoring stable" >/dev/null
  # shellcheck disable=SC2016 # the pane's shell expands it
  as_pm 0 'cd / && '"$python"' -c "
from '$module' import PMPubsubIntegration
pm = PMPubsubIntegration('"'"'$(tmux display-message -p \"#S:#I\")'"'"')
notifications = pm.get_daemon_notifications(30)
for n in notifications: print(f'"'[{n[\\\"priority\\\"]}] {n[\\\"raw_message\\\"]}'"')
"'
  equals "$output" $'[critical] 🚨 CRITICAL web:dev died Tags: [health]\n[normal] 📨 All agents healthy - 3 active, 0 idle, monitoring stable Tags: [health]'
  as_pm 0 "$python"' -c "
from '$module' import PMPubsubIntegration
pm = PMPubsubIntegration()
for n in pm.get_daemon_notifications(since_minutes=30):
    if n[\"type\"] == \"failure\":
        print(pm.acknowledge_notification(n[\"short_id\"], \"Investigated and restarted affected agent\"))
print(pm.session, pm.acknowledge_notification(\"no-such-id\", \"x\"))
print([n[\"acknowledged\"] for n in pm.get_daemon_notifications()])
"'
  equals "$output" $'True\nweb:pm False\n[True, False]'
  equals "$(last ack source.type,source.session,source.identifier,source.verified,message.content.context.event)" $'pm\tweb\tpm\ttrue\t'"$mine"
}

@test "its own acknowledgments carry the session: orc-ack, and PM ACK" {
  manager web
  broker
  first=$(orc-publish -t web:pm --requires-ack --wait=typed "one")
  as_pm 0 "orc-ack $first --note seen"
  equals "$(last ack source.session,source.verified)" $'web\ttrue'
  second=$(orc-publish -t web:pm --requires-ack --wait=typed "two")
  as_pm 0 'tmux-orc publish --group management --tag acknowledgment "PM ACK: '"$second"' - investigated agent, all healthy"'
  equals "$(orc-read --tag acknowledgment -n 1 -o source.session,source.type,source.verified)" $'web\tpm\ttrue'
  for id in "$first" "$second"; do
    acked() { orc-read --type delivery -o message.content.context.event,message.content.context.outcome | grep -qx "$id"$'\tacked'; }
    eventually acked
  done
}

@test "an agent broadcasts to its own session, anybody else to all" {
  manager web
  demo dev web
  demo dev api
  broker
  as_pm 0 'tmux-orc agent broadcast "
TEAM STATUS UPDATE (with daemon insights):
- Active Agents: 3 (verified by monitoring daemon)
- Next Checkpoint: 2 hours
"'
  eventually prompted web-dev "- Next Checkpoint: 2 hours"
  equals "$(last message to.targets)" web:dev
  as_pm 0 'orc-agent broadcast --all "to every session"'
  eventually prompted api-dev "to every session"
  expect 0 orc-agent broadcast "from a person"
  eventually prompted api-dev "from a person"
  eventually prompted web-dev "from a person"
  as_pm 0 'orc-agent broadcast --session api "to theirs"'
  eventually prompted api-dev "to theirs"
  as_pm 64 'orc-agent broadcast --session api --all "both"'
  run ! prompted api-dev "TEAM STATUS UPDATE"
  expect 0 orc-agent stop web:dev
  as_pm 64 'orc-agent broadcast "is anybody there"'
  equals "$stderr" "orc-agent: nobody else is in session 'web': --all reaches every session"
}

@test "an escalation reaches the orchestrator with its context, and is acknowledged" {
  manager web
  demo dev web
  demo orchestrator main
  broker
  alert=$(daemon '{"agent": "web:dev", "session": "web", "issue_type": "dead"}' critical "web:dev died")
  as_pm 0 'tmux-orc agent escalate "Multiple agent failures
- Need: guidance"'
  id=$output
  eventually prompted main-orchestrator "- From: web:pm"
  prompted main-orchestrator "ESCALATION: Multiple agent failures"
  prompted main-orchestrator "- Recent alerts: #${alert: -6}"
  equals "$(orc-read --id "$id" -o message.type,message.priority,to.targets,metadata.requires_ack)" $'escalation\thigh\t@orchestrator\ttrue'
  equals "$(orc-read --id "$id" | jq -c '.message.content.context | [.agent, .session, .issue, .recent, (.team | keys)]')" \
    '["web:pm","web","Multiple agent failures",["'"$alert"'"],["web:dev","web:pm"]]'
}

@test "an escalation that nobody can read is logged, says so, and waits for an orchestrator" {
  manager web
  broker
  as_pm 69 'orc-agent escalate "the disk is full"'
  contains "$stderr" "logged, but there is no agent in delivery.escalate_to (@orchestrator)"
  one_line "$stderr"
  equals "$(orc-read --id "$output" -o message.type,message.content.context.issue)" $'escalation\tthe disk is full'
  demo orchestrator main
  eventually prompted main-orchestrator "ESCALATION: the disk is full"
}

@test "the script prints what is new and urgent once, and is the owner's alone" {
  manager web
  expect 0 "$python" -I -c "from $module import create_pm_monitoring_script as create; print(f'Monitoring script created: {create()}')"
  script=${output#Monitoring script created: }
  equals "$(stat -c %a "$script")" 700
  [[ $script == "$ORC_HOME"/* ]]
  daemon '{"agent": "web:dev", "session": "web", "issue_type": "dead"}' critical "web:dev died" >/dev/null
  daemon '{"issue_type": "healthy"}' normal "All agents healthy" >/dev/null
  # shellcheck disable=SC2016 # the pane's shell expands it
  as_pm 0 "$script"' $(tmux display-message -p "#S:#I")'
  contains "$output" "[critical] 🚨 CRITICAL web:dev died Tags: [health] (orc-ack "
  one_line "$output"
  # shellcheck disable=SC2016 # the pane's shell expands it
  as_pm 0 "$script"' $(tmux display-message -p "#S:#I")'
  equals "$output" ""
  daemon '{"agent": "web:qa", "session": "web", "issue_type": "idle"}' high "web:qa idle" >/dev/null
  daemon '{"agent": "api:qa", "session": "api", "issue_type": "idle"}' high "api:qa idle" >/dev/null
  expect 0 "$script" web:0
  contains "$output" "web:qa idle"
  expect 64 "$script" a b
  one_line "$stderr"
}

@test "the script gives one more heartbeat for who gives them, and none for who does not" {
  [ -x "$ROOT/bin/orc-heartbeat" ] || skip "this installation has no orc-heartbeat"
  accepted() { [ "$(orc-heartbeat --counters -o counter,count | awk '$1 == "accepted" { print $2 }')" = "$1" ]; }
  manager web
  "$ROOT/orchestrator_manager.sh" start monitor >/dev/null
  listening
  script=$("$python" -I -c "from $module import create_pm_monitoring_script as create; print(create())")
  as_pm 0 "$script"
  as_pm 0 orc-heartbeat
  eventually orc-heartbeat --status
  eventually accepted 1
  as_pm 0 "$script"
  equals "$output" ""
  eventually accepted 2
}

@test "a worker's dialog is answered by its manager, and not when it has changed" {
  manager web
  demo dev web
  tm send-keys -t web:dev '[[tool:make]]' Enter
  orc-agent wait web:dev --until waiting --timeout 10s
  as_pm 64 'orc-agent answer web:dev 9'
  as_pm 0 'orc-agent answer web:dev 1'
  orc-agent wait web:dev --until idle --timeout 10s
  as_pm 1 'orc-agent answer web:dev 1'
  contains "$stderr" "nothing was typed"
}

@test "orc-doctor --pm: each thing to do says how, and then it is ready" {
  expect 1 orc-doctor --pm=web
  contains "$output" "to do: the broker does not run → "
  contains "$output" "to do: no project manager is registered in session web → orc-run pm --session web -- COMMAND"
  contains "$output" "to do: escalations go to @orchestrator, where no agent is"
  manager web
  demo orchestrator main
  "$ROOT/orchestrator_manager.sh" start broker monitor >/dev/null
  if [ -x "$ROOT/bin/orc-heartbeat" ]; then
    listening
    as_pm 0 orc-heartbeat
    eventually orc-heartbeat --status
  fi
  before=$(orc-agent peek web:pm)
  # shellcheck disable=SC2016 # the pane's shell expands it
  as_pm 1 'orc-doctor --pm'
  equals "$(grep -v '^ok: ' <<<"$output" | sed 's/ has not run .*//')" \
    "to do: the monitoring script $ORC_HOME/logs/run/pm_daemon_monitor.sh"$'\n'"1 thing to do"
  contains "$output" "ok: the session is web (web:pm)"
  contains "$output" "ok: the group management reaches web:pm"
  contains "$output" "ok: an acknowledgment carries the session web"
  # shellcheck disable=SC2016 # the pane's shell expands it
  as_pm 0 "$ORC_HOME"'/logs/run/pm_daemon_monitor.sh $(tmux display-message -p "#S:#I")'
  as_pm 0 'orc-doctor --pm --json'
  equals "$(jq -c '[.ok, .session, ([.steps[].ok] | unique)]' <<<"$output")" '[true,"web:pm",[true]]'
  equals "$(orc-agent peek web:pm)" "$before"
  echo 'groups: {management: ["@lead"]}' >"$ORC_HOME/orchestrator_config.yaml"
  as_pm 1 'orc-doctor --pm'
  contains "$output" 'to do: the group management does not reach web:pm → add "@pm" to groups.management in '
  expect 64 orc-doctor --pm --fix
}
