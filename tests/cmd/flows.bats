#!/usr/bin/env bats
# Flows: events that become tasks, and what the log tells of tasks
load ../helper

tasks() { orc-task list -o recipient,type,priority,status; }
told() { orc-read --type "$1" -o message.content.body; }

@test "one spec_created is one task, and the log tells what becomes of it" {
  expect 0 orc-component start broker state_updater
  id=$(orc-publish --type spec_created -p high --context '{"spec_id": "SPEC-048"}' "SPEC-048 is ready")
  expect 0 orc-task get -r code_developer --wait=20s
  task=$output
  equals "$(jq -r '.payload.spec_id, .payload.event, .payload.body, .priority' <<<"$task" | xargs)" \
    "SPEC-048 $id SPEC-048 is ready 3"
  orc-publish --type implementation_complete --reply-to "$id" \
    --correlation-id "$(jq -r .correlation_id <<<"$task")" "tests pass"
  orc-task "done" "$(jq -r .task_id <<<"$task")" --token "$(jq -r .token <<<"$task")" --duration 1500
  completed() { [ "$(told task_completed)" = "task_completed: code_developer.spec_created (duration=1,500ms)" ]; }
  eventually completed
  equals "$(told task_started)" "task_started: code_developer.spec_created"
  both() { [ "$(tasks | tail -n 1)" = $'project_manager\timplementation_complete\t5\tqueued' ]; }
  eventually both
  equals "$(orc-task list -o correlation_id | sort -u)" "$id"
  equals "$(orc-read --type task_completed -o to.targets,to.groups)" $'-\t-'
}

@test "kill -9 of the broker and the state updater: nothing lost, nothing twice" {
  expect 0 orc-component start broker state_updater
  for name in broker state_updater; do kill -9 "$(cat "$ORC_HOME/logs/$name.pid")"; done
  orc-publish --type bug_report --context '{"severity": "critical"}' "no sound" --correlation-id BUG-7
  rm -f "$ORC_HOME/logs/run/cursors/component.flows"
  expect 0 orc-component start broker state_updater
  one() { [ "$(told task_queued)" = "task_queued: project_manager.bug_report (priority=1)" ]; }
  eventually one
  orc-publish --type bug_report --context '{"severity": "low"}' "still no sound" --correlation-id BUG-7
  orc-publish --type demo_request --context '{"story": "US-047"}' "show me"
  two() { [ "$(told task_queued | tail -n 1)" = "task_queued: assistant.demo_request (priority=5)" ]; }
  eventually two
  equals "$(tasks)" $'project_manager\tbug_report\t1\tqueued\nassistant\tdemo_request\t5\tqueued'
}

@test "orc-broker --once makes the tasks that are due; nothing is made of nothing" {
  expect 0 orc-broker --once
  [ ! -e "$ORC_HOME/data" ]
  orc-publish --type spec_created "ready"
  expect 0 orc-broker --once
  expect 0 orc-broker --once
  equals "$(tasks)" $'code_developer\tspec_created\t5\tqueued'
}

@test "an agent in a pane is told that there is work" {
  orc-run code_developer --session web --profile plain -- cat >/dev/null
  expect 0 orc-component start broker state_updater
  orc-task send -r code_developer --from pm '{"do": "it"}'
  orc-task send -r code_developer --from pm '{"do": "it too"}'
  seen() { orc-agent peek code_developer | tr -d '\n' | grep -q 'A task for you: task_delegate from pm'; }
  eventually seen
  equals "$(orc-read --type notification -o to.targets,source.identifier)" $'web:code_developer\ttasks'
}

@test "rules of one's own, taken up by a running broker" {
  expect 0 orc-component start broker
  orc-publish --type spec_request "please"
  got() { [ "$(tasks | tail -n 1)" = "$1" ]; }
  eventually got $'architect\tspec_request\t5\tqueued'
  printf 'flows:\n  rules:\n    - {match: {type: smell}, task: {recipient: cleaner, priority: low}}\n' \
    >"$ORC_HOME/orchestrator_config.yaml"
  up() { grep -q "the configuration was taken up" "$ORC_HOME/logs/broker.out"; }
  eventually up
  orc-publish --type smell "here"
  eventually got $'cleaner\tsmell\t8\tqueued'
}

@test "78: rules that say nothing" {
  mkdir -m 700 "$ORC_HOME"
  while IFS='|' read -r rule wrong; do
    printf 'flows:\n  rules:\n    - %s\n' "$rule" >"$ORC_HOME/orchestrator_config.yaml"
    expect 78 orc-config check
    contains "$output" "orchestrator_config.yaml:3: $wrong"
  done <<'RULES'
{task: {recipient: a}}|flows.rules[0] has no match
{match: {tags: a}, task: {recipient: a}}|flows.rules[0] matches no type
{match: {type: a}, task: {type: b}}|flows.rules[0] names nobody
{match: {type: a}, task: {recipient: "a b"}}|flows.rules[0].task.recipient is 'a b': it must be a name
{match: {type: a}, task: {recipient: a, priority: 3}}|flows.rules[0].task.priority is '3'
{match: {type: a, addressed: maybe}}|flows.rules[0].match.addressed is 'maybe': it must be true or false
{match: {type: a}, route: b}|unknown key 'flows.rules[0].route'
RULES
}
