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
