#!/usr/bin/env bats
# The phrases that people have in their scripts, prompts and documents work word for word: in a checkout of its own
# that is its own home, and inside a pane where a phrase asks tmux where it is.
load ../helper

setup() {
  make_home
  tree=$BATS_TEST_TMPDIR/checkout
  mkdir "$tree"
  (cd "$ROOT" && tar -cf - --exclude=__pycache__ bin lib share orchestrator_manager.sh requirements*.lock) | tar -C "$tree" -xf -
  ln -s "$ROOT/.venv" "$tree/.venv"
  cd "$tree" || return
  unset ORC_HOME
  export PATH="$tree/bin:$PATH"
}

teardown() {
  ./orchestrator_manager.sh stop >/dev/null
  [ ! -S "$ORC_TMUX_SOCKET" ] || tm kill-server 2>/dev/null || true
}

# backend-dev: windows 0 (pm), 1 (qa) and 2 (dev), each an agent
team() {
  local name
  for name in pm qa dev; do
    orc-run "$name" --session backend-dev --profile demo -- "$tree/.venv/bin/python" "$tree/share/demo/agent.py" --log "$name.log" >/dev/null
  done
  for name in pm qa dev; do orc-agent wait "$name" --until idle --timeout 10s; done
}

# in_pane SCRIPT: runs it with sh in a pane of backend-dev, window pm, with nothing but its PATH; what it wrote is in ./said
in_pane() {
  printf '%s\n' "$1" >phrase.sh
  tm split-window -d -t backend-dev:0 -c "$tree" -e "PATH=$PATH" -e ORC_TMUX_SOCKET= \
    "unset ORC_TMUX_SOCKET ORC_HOME; sh phrase.sh >said 2>&1; echo \$? >code"
  eventually test -s code
}

prompted() { jq -e --arg text "$2" 'select(.prompt // "" | contains($text))' "$1.log"; }
stage() { orc-read --type delivery --filter "$2" -o message.content.context.event | grep -qx "$1"; }

@test "the manager, and the log with the usual tools" {
  expect 0 ./orchestrator_manager.sh start
  expect 0 ./orchestrator_manager.sh status
  contains "$output" "broker         running"
  expect 0 ls -la "logs/events/$(date +%Y-%m-%d).jsonl"
  expect 0 wc -l "logs/events/$(date +%Y-%m-%d).jsonl"
  tail -f "logs/events/$(date +%Y-%m-%d).jsonl" >tailed 3>&- &
  tail=$!
  orc-publish "seen by tail" >/dev/null
  eventually grep -q "seen by tail" tailed
  kill "$tail"
  expect 0 ./orchestrator_manager.sh logs
  contains "$output" "seen by tail"
  expect 0 ./orchestrator_manager.sh clear-queues --yes
  expect 0 ./orchestrator_manager.sh restart
  expect 0 ./orchestrator_manager.sh stop
  contains "$output" "broker: stopped"
}

@test "grep finds what was held back in a flood" {
  team
  echo 'monitoring: {max_messages_per_minute: 2}' >orchestrator_config.yaml
  expect 0 ./orchestrator_manager.sh start
  seq 5 | orc-publish -t dev --lines >/dev/null
  limited() { [ "$(grep -c "rate_limited" "logs/events/$(date +%Y-%m-%d).jsonl")" = 3 ]; }
  eventually limited
  expect 0 grep "rate_limited" "logs/events/$(date +%Y-%m-%d).jsonl"
}

@test "a project manager publishes" {
  team
  ./orchestrator_manager.sh start >/dev/null
  expect 0 tmux-orc publish --group management --tag acknowledgment \
    "PM ACK: notification-id - investigated agent, all healthy"
  eventually prompted pm "PM ACK: notification-id - investigated agent, all healthy"
  expect 0 tmux-orc publish --group management --priority normal --tag pm-response \
    "PM verified recovery action: [session] is healthy"
  eventually prompted pm "PM verified recovery action: [session] is healthy"
  run ! prompted dev "PM "
}

@test "a project manager acknowledges what was published" {
  team
  ./orchestrator_manager.sh start >/dev/null
  notification=$(orc-publish -t pm --requires-ack --wait "dev is idle")
  expect 0 tmux-orc publish --group management --tag acknowledgment \
    "PM ACK: $notification - investigated agent, all healthy"
  eventually stage "$notification" acked
}

@test "a project manager reads, in a pane that asks tmux where it is" {
  team
  echo 'monitoring: {max_messages_per_minute: 2}' >orchestrator_config.yaml
  orc-publish -t backend-dev:0 -p high "the build is red" >/dev/null
  orc-publish -t backend-dev:0 -p critical "the disk is full" >/dev/null
  orc-publish -t backend-dev:0 "recovery of qa is done" >/dev/null
  orc-publish -t backend-dev:2 -p high "for somebody else" >/dev/null
  # shellcheck disable=SC2016 # the pane's shell expands it
  in_pane 'tmux-orc read --session $(tmux display-message -p "#S:#I") --filter "HIGH PRIORITY\\|CRITICAL" --tail 10 &&
    tmux-orc read --session $(tmux display-message -p "#S:#I") --filter "recovery" --tail 5 --json | jq -r ".stored_messages | length"'
  equals "$(cat code)" 0
  equals "$(jq -r 'if type == "object" then .message.content.body else . end' said | paste -sd,)" "the build is red,the disk is full,1"
}

@test "nothing of a session to read is 1, and --json says 0" {
  team
  # shellcheck disable=SC2016 # the pane's shell expands it
  in_pane 'tmux-orc read --session $(tmux display-message -p "#S:#I") --filter "recovery" --tail 5 --json | jq -r ".stored_messages | length"
    tmux-orc read --session $(tmux display-message -p "#S:#I") --filter "HIGH PRIORITY\\|CRITICAL" --tail 10'
  equals "$(cat code) $(cat said)" "1 0"
}

@test "agents are sent to, broadcast to, and restarted" {
  team
  ./orchestrator_manager.sh start >/dev/null
  expect 0 tmux-orc agent send backend-dev:2 "STATUS REQUEST: Please provide current task and progress"
  eventually prompted dev "STATUS REQUEST: Please provide current task and progress"
  run ! prompted qa "STATUS REQUEST"
  expect 0 tmux-orc agent broadcast "TEAM STATUS UPDATE
- backend is done
- please report"
  for name in pm qa dev; do
    eventually prompted "$name" $'TEAM STATUS UPDATE\n- backend is done\n- please report'
  done
  kill -9 "$(orc-agent show dev | jq -r .pid)"
  orc-agent wait dev --until gone --timeout 10s
  expect 0 tmux-orc restart agent backend-dev:2
  expect 0 orc-agent wait dev --until idle --timeout 10s
}

# python_pane: the same as in_pane, for a script on standard input, and python3 is the project's interpreter
python_pane() {
  PATH="$tree/.venv/bin:$PATH" in_pane "$(cat)"
}

@test "a project manager asks with Python, and acknowledges" {
  team
  "$tree/.venv/bin/python" -I - <<'END'
from tmux_orchestrator.eventlog import event
from tmux_orchestrator.eventlog.daylog import Log, daemon_source
from tmux_orchestrator.ground import paths
made = event.build("backend-dev:qa died", daemon_source("monitor"), type="alert", priority="critical",
                   groups=["management"], context={"agent": "backend-dev:qa", "issue_type": "dead"})
Log(paths.find_home()).append([made])
END
  python_pane <<'END'
# Check daemon notifications (last 30 minutes)
python3 -c "
from tmux_orchestrator.core.communication.pm_pubsub_integration import PMPubsubIntegration
pm = PMPubsubIntegration('$(tmux display-message -p \"#S:#I\")')
notifications = pm.get_daemon_notifications(30)
for n in notifications: print(f'[{n[\"priority\"]}] {n[\"raw_message\"]}')
" || exit
cat >watch.py <<'PYTHON'
import subprocess
from tmux_orchestrator.core.communication.pm_pubsub_integration import PMPubsubIntegration

# Initialize for current PM session
pm_session = subprocess.check_output(["tmux", "display-message", "-p", "#S:#I"]).decode().strip()
pm_pubsub = PMPubsubIntegration(pm_session)

# Check for daemon notifications
notifications = pm_pubsub.get_daemon_notifications(since_minutes=30)
for notification in notifications:
    print(f"Priority: {notification['priority']}")
    print(f"Type: {notification['type']}")
    print(f"Message: {notification['raw_message']}")

    # Acknowledge if action taken
    if notification['type'] == 'failure':
        pm_pubsub.acknowledge_notification(
            notification['id'],
            "Investigated and restarted affected agent"
        )
PYTHON
python3 watch.py || exit
# Create monitoring script
python3 -c "
from tmux_orchestrator.core.communication.pm_pubsub_integration import create_pm_monitoring_script
script_path = create_pm_monitoring_script()
print(f'Monitoring script created: {script_path}')
"
END
  equals "$(cat code)" 0
  equals "$(cat said)" "[critical] 🚨 CRITICAL backend-dev:qa died
Priority: critical
Type: failure
Message: 🚨 CRITICAL backend-dev:qa died
Monitoring script created: $tree/logs/run/pm_daemon_monitor.sh"
  equals "$(orc-read --type ack -o source.session,message.content.context.note)" \
    $'backend-dev\tInvestigated and restarted affected agent'
}

@test "a project manager looks whether the messages flow, and asks Python how they are" {
  team
  ./orchestrator_manager.sh start broker >/dev/null
  python_pane <<'END'
tmux-orc publish --group management --tag test "PM connectivity test" >/dev/null
tmux-orc read --session $(tmux display-message -p "#S:#I") --filter "test" --tail 1 | jq -r .message.content.body
tmux-orc publish --group management --tag status-request \
  "PM requesting daemon status update" >/dev/null
cat >health.py <<'PYTHON'
# Test integration directly
from tmux_orchestrator.core.communication.pm_pubsub_integration import PMPubsubIntegration
pm = PMPubsubIntegration()

# Check basic functionality
health = pm.monitor_pubsub_health()
print(f"Pubsub health: {health}")

# Test message retrieval
messages = pm.get_management_broadcasts("high")
print(f"High priority messages: {len(messages)}")
print(pm.session)
PYTHON
python3 health.py
END
  equals "$(cat code)" 0
  contains "$(cat said)" "'broker_running': True, 'monitor_running': False"
  equals "$(grep -v '^Pubsub health' said | paste -sd,)" "PM connectivity test,High priority messages: 0,backend-dev:0"
  eventually prompted pm "PM requesting daemon status update"
}

@test "a project manager watches for alerts, and escalates" {
  team
  orc-run orchestrator --session orchestrator --profile demo -- "$tree/.venv/bin/python" "$tree/share/demo/agent.py" --log orchestrator.log >/dev/null
  orc-agent wait orchestrator --until idle --timeout 10s
  ./orchestrator_manager.sh start broker >/dev/null
  orc-publish -t backend-dev:0 -p critical "the disk is full" >/dev/null
  python_pane <<'END'
    # Check every 5 minutes for high-priority messages
    ALERTS=$(tmux-orc read --session $(tmux display-message -p "#S:#I") \
             --filter "CRITICAL\\|HIGH PRIORITY" --tail 1 --json | \
             jq -r '.stored_messages | length')

    if [ "$ALERTS" -gt 0 ]; then
      echo "🚨 New daemon alerts detected - checking..."
      tmux-orc read --session $(tmux display-message -p "#S:#I") \
        --filter "CRITICAL\\|HIGH PRIORITY" --tail 3 | jq -r .message.content.body
    fi
# Escalate to orchestrator through orchestrator session (window 0)
tmux-orc agent send orchestrator:0 "
ESCALATION: Daemon Coordination Issue
- Issue: Multiple agent failures detected by daemon
- Actions Taken: Restarted 2 agents, 1 still unresponsive
- Recommendation: Review system resources and agent configs
- Need: Orchestrator guidance on scaling approach
" >/dev/null
END
  equals "$(cat code)" 0
  equals "$(cat said)" $'🚨 New daemon alerts detected - checking...\nthe disk is full'
  eventually prompted orchestrator "- Need: Orchestrator guidance on scaling approach"
}

@test "the system is asked how it is" {
  team
  ./orchestrator_manager.sh start >/dev/null
  orc-publish -t dev --wait hello >/dev/null
  expect 0 tmux-orc status --format json
  equals "$(jq -r '.agents | length' <<<"$output")" 3
  expect 0 tmux-orc pubsub status
  contains "$output" "broker"
  expect 0 bash -c 'tmux-orc pubsub stats | grep "Queue Depth"'
  expect 0 bash -c 'tmux-orc pubsub stats | grep "P95"'
  run --separate-stderr tmux-orc monitor status
  contains "$output" "monitor "
}

@test "the daemon is started, looked at, and stopped" {
  expect 0 tmux-orc daemon start
  contains "$output" "broker: started"
  expect 0 tmux-orc daemon status
  contains "$output" "running"
  expect 0 tmux-orc daemon stop
  expect 1 tmux-orc daemon status
}
