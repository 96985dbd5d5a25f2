#!/usr/bin/env bats
# orc-team queue, bottlenecks, metrics, events: where the time of tasks goes; and the alerts of the state updater.
load ../helper

# A task of AGENT that took so many milliseconds; `--id` and the like behind them
took() { # AGENT TYPE MS [OPTION…]
  local agent=$1 type=$2 ms=$3 id token
  shift 3
  orc-task send -r "$agent" --type "$type" "$@" '{}' >/dev/null
  IFS=$'\t' read -r id token < <(orc-task get -r "$agent" -o task_id,token)
  orc-task "done" "$id" --token "$token" --duration "$ms"
}

fails() { # AGENT TYPE [REASON]
  local id token
  orc-task send -r "$1" --type "$2" '{}' >/dev/null
  IFS=$'\t' read -r id token < <(orc-task get -r "$1" -o task_id,token)
  orc-task fail "$id" --token "$token" --final --error "${3:-no luck}" >/dev/null
}

@test "bottlenecks prints what the document shows" {
  took code_developer implement_feature 45000 --id task_abc123
  took architect create_spec 32000 --id task_def456
  took assistant create_demo 28000 --id task_ghi789
  expect 0 orc-team bottlenecks
  equals "$output" "Top 10 Slowest Tasks:
1. task_abc123 (code_developer): 45,000ms - implement_feature
2. task_def456 (architect): 32,000ms - create_spec
3. task_ghi789 (assistant): 28,000ms - create_demo
Performance Metrics:
- p50: 32,000ms
- p95: 45,000ms
- p99: 45,000ms"
  expect 0 orc-team bottlenecks --json
  equals "$(jq -c '.slowest[0] | [.task_id, .agent, .type, .duration_ms]' <<<"$output")" \
    '["task_abc123","code_developer","implement_feature",45000]'
  equals "$(jq -c .duration_ms <<<"$output")" '{"p50":32000,"p95":45000,"p99":45000,"count":3}'
}

@test "metrics of one agent begins with what the document shows" {
  took code_developer implement_feature 1000
  took code_developer implement_feature 2000
  took architect create_spec 99000
  fails code_developer implement_feature
  for priority in 1 2 5 6 9; do orc-task send -r code_developer -p "$priority" '{}' >/dev/null; done
  expect 0 orc-team metrics --agent code_developer
  equals "$(head -6 <<<"$output")" "code_developer Performance:
- Tasks completed: 2
- Tasks failed: 1
- Average duration: 1,500ms
- p95 duration: 2,000ms
- Current queue depth: 5 (high: 2, normal: 2, low: 1)"
  contains "$output" "- implement_feature: 3 tasks, p50 1,000ms, p95 2,000ms, p99 2,000ms; waiting "
  contains "$output" "2 completed, 1 failed, p95 2,000ms"
  [[ $output != *architect* ]]
  took code_developer fix_bug 8000
  expect 0 orc-team metrics --agent code_developer
  contains "$output" "- all: 4 tasks, p50 2,000ms, p95 8,000ms, p99 8,000ms; waiting "
}

@test "metrics of all, as a document too, and of a time" {
  took code_developer implement_feature 1000
  took architect create_spec 3000
  expect 0 orc-team metrics
  contains "$output" "architect Performance:"
  contains "$output" "All Agents Performance:
- Tasks completed: 2
- Tasks failed: 0
- Average duration: 2,000ms"
  expect 0 orc-team metrics --json
  equals "$(jq -c '[.agents[].agent], .all.duration_ms.p95, (.days | length)' <<<"$output" | tr '\n' ' ')" \
    '["architect","code_developer"] 3000 1 '
  equals "$(jq -c '.agents[0].types[0] | [.type, .running_ms, .resting_ms]' <<<"$output")" '["create_spec",3000,0]'
  expect 0 orc-team metrics --since now --json
  equals "$(jq .all.completed_tasks <<<"$output")" 0
  expect 0 orc-team metrics --since now --agent architect
  contains "$output" "- Tasks completed: 0"
}

@test "metrics shows the uptime that the supervisor keeps" {
  took architect create_spec 3000
  mkdir -p "$ORC_HOME/logs/run"
  jq -n --arg boot "$(cat /proc/sys/kernel/random/boot_id)" '{boot: $boot, agents: {
    architect: {up_ns: 99900, meant_ns: 100000}, pm: {up_ns: 0, meant_ns: 0}, bad: 5}}' >"$ORC_HOME/logs/run/team.json"
  expect 0 orc-team metrics --agent architect
  contains "$output" "- Uptime: 99.9%"
  echo 'damaged' >"$ORC_HOME/logs/run/team.json"
  expect 0 orc-team metrics --agent architect
  [[ $output != *Uptime* ]]
}

@test "metrics of an agent that nobody knows is a slip" {
  took architect create_spec 3000
  expect 64 orc-team metrics --agent architec
  one_line "$stderr"
  contains "$stderr" "did you mean architect?"
  equals "$output" ""
}

@test "events prints what the document shows, in the home's time" {
  export ORC_EVENTS_TIMEZONE=Asia/Kolkata
  took architect create_spec 155000 -p 2
  orc-task send -r code_developer --type implement '{}' >/dev/null
  fails code_developer implement $'the build broke\n\e[31mbadly'
  expect 0 orc-team events --tail 100
  times='^\[[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\] '
  equals "$(grep -cE "$times" <<<"$output")" 7
  equals "$(sed -E "s/$times//" <<<"$output" | head -4)" "task_queued: architect.create_spec (priority=2)
task_started: architect.create_spec
task_completed: architect.create_spec (duration=155,000ms)
task_queued: code_developer.implement (priority=5)"
  contains "$(tail -1 <<<"$output")" "task_queued: code_developer.implement (priority=5)" ||
    contains "$(tail -1 <<<"$output")" "task_failed: code_developer.implement (duration="
  contains "$output" "error=the build broke)"
  wanted=$(orc-task list --status completed | jq -r .completed_at)
  contains "$(grep task_completed <<<"$output")" "[$(TZ=Asia/Kolkata date -d "$wanted" +%H:%M:%S)]"
  expect 0 orc-team events --tail 1 --json
  equals "$(jq -c '[.count, .events[0].agent]' <<<"$output")" '[1,"code_developer"]'
  expect 64 orc-team events --tail many
  expect 64 orc-team queue --tail 5
  equals "$stderr" "orc-team: queue takes no --tail: see --help"
  expect 64 orc-team events architect
}

@test "queue shows what waits, what runs and what comes next" {
  orc-task send -r architect --type create_spec -p 9 --id task_late '{}' >/dev/null
  orc-task send -r architect --type create_spec -p 1 --id task_soon '{}' >/dev/null
  orc-task send -r architect --type create_spec --in 1h '{}' >/dev/null
  orc-task send -r assistant --type create_demo --id task_demo '{}' >/dev/null
  orc-task get -r assistant >/dev/null
  expect 0 orc-team queue
  equals "$(sed -E 's/[0-9]+s$/Ns/; s/: [0-9,]+ms/: Nms/; s/waits for [0-9]+s/waits/' <<<"$output")" \
    "Message Queue: 3 queued, 1 running
- architect: 3 (high: 1, normal: 1, low: 1), 0 running, the oldest for Ns
- assistant: 0 (high: 0, normal: 0, low: 0), 1 running
Running:
1. task_demo (assistant): Nms - create_demo
Next:
1. task_soon (architect): priority 1, waits - create_spec
2. task_late (architect): priority 9, waits - create_spec"
  expect 0 orc-team queue --json
  equals "$(jq -c '[.queued_tasks, .running_tasks, .agents[0].high_priority, .next[0].task_id]' <<<"$output")" \
    '[3,1,1,"task_soon"]'
}

@test "a home without tasks has figures too" {
  expect 0 orc-team queue
  equals "$output" "Message Queue: 0 queued, 0 running"
  expect 0 orc-team bottlenecks
  contains "$output" "- p95: -"
  expect 0 orc-team metrics
  contains "$output" "- Tasks completed: 0"
  expect 0 orc-team events
  equals "$output" ""
}

alerted() { orc-read --type alert -q; }

@test "with only the state updater, a slow task is told, and orc-status shows it" {
  export ORC_TEAM_BOTTLENECK_ALERTS_CHECK_INTERVAL=0.2
  took code_developer implement_feature 75000 --id task_abc123
  orc-component start state_updater
  eventually alerted
  expect 0 orc-read --type alert -o message.priority,source.identifier,message.content.subject
  equals "$output" "normal	tasks	Slow task detected: task_abc123"
  expect 0 orc-status --json
  equals "$(jq -c '[.problems[] | select(.kind == "alert") | .subject], .tasks' <<<"$output" | tr '\n' ' ')" \
    '["code_developer implement_feature"] {"queued":0,"running":0} '
  contains "$(orc-status)" "tasks: none waits"
}

waits() { [ "$(orc-task list -r "$1" --status queued | wc -l)" = 1 ]; }

@test "metrics shows which share reached the right agent" {
  expect 0 orc-team metrics
  [[ $output != *Routed* ]]
  orc-component start broker
  orc-publish --type spec_created --context '{"spec_id": "SPEC-1"}' "a spec is there" >/dev/null
  orc-publish --type task_delegate "whose is this?" >/dev/null
  for agent in code_developer project_manager; do
    eventually waits "$agent"
    IFS=$'\t' read -r id token < <(orc-task get -r "$agent" -o task_id,token)
    orc-task "done" "$id" --token "$token"
  done
  expect 0 orc-team metrics
  contains "$output" "- Routed to the right agent: 50% (of 2)"
  expect 0 orc-team metrics --json
  equals "$(jq -c '[.routed_share, .routed_tasks]' <<<"$output")" "[0.5,2]"
}
