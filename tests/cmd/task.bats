#!/usr/bin/env bats
# orc-task: the task queue: sent, claimed once, ended, looked at, held back
# shellcheck disable=SC1010 # done is an action of orc-task

load ../helper

send() { orc-task send -r dev "$@"; }
field() { orc-task show "$1" -o "$2"; }
# claim [options]: claims for dev; sets $id and $token
claim() {
  local both
  both=$(orc-task get -r dev "$@" -o task_id,token)
  id=${both%%$'\t'*} token=${both##*$'\t'}
}
is() { equals "$(field "$1" "$2")" "$3"; }

@test "send prints the id; get claims the task and prints it; done ends it" {
  expect 0 send --type spec_created '{"spec_id": "SPEC-071"}'
  local sent=$output
  equals "$stderr" ""
  one_line "$output"
  expect 0 orc-task get -r dev
  equals "$stderr" ""
  equals "$(jq -r '.task_id + " " + .payload.spec_id + " " + .type + " " + .status' <<<"$output")" \
    "$sent SPEC-071 spec_created running"
  expect 0 orc-task done "$sent" --token "$(jq -r .token <<<"$output")" --duration 1500 --exit 0 --output "all green"
  equals "$output$stderr" ""
  is "$sent" status,duration_ms,exit_code,output $'completed\t1500\t0\tall green'
}

@test "get without a task is a no" {
  expect 1 orc-task get -r dev
  equals "$output$stderr" ""
  send other >/dev/null
  expect 1 orc-task get --recipient qa
  expect 0 orc-task get dev
}

@test "the payload: an object, text, a pipe, a file" {
  is "$(send 'two words')" payload '{"text": "two words"}'
  is "$(printf 'from a pipe' | send)" payload '{"text": "from a pipe"}'
  is "$(printf '{"a": [1]}' | send -)" payload '{"a": [1]}'
  printf '{"b": 2}' >"$BATS_TEST_TMPDIR/payload"
  is "$(send --file "$BATS_TEST_TMPDIR/payload")" payload '{"b": 2}'
  # shellcheck disable=SC2016 # not to be expanded is the point
  is "$(send '$(touch canary); --x')" payload '{"text": "$(touch canary); --x"}'
  expect 65 send '{"broken'
  one_line "$stderr"
  expect 64 send --file "$BATS_TEST_TMPDIR/missing"
  one_line "$stderr"
}

@test "priorities: numbers and words, the highest first" {
  local low high critical normal
  low=$(send -p low l) high=$(send --priority high h) critical=$(send -p critical c) normal=$(send n)
  is "$low" priority 8
  for id in "$critical" "$high" "$normal" "$low"; do
    equals "$(orc-task get -r dev -o task_id)" "$id"
  done
  for wrong in 0 11 urgent 1.5 -1; do
    expect 64 send -p "$wrong" x
    one_line "$stderr"
  done
}

@test "a known id is not queued again" {
  expect 0 send --id build-1 first
  expect 0 send --id build-1 second
  equals "$output" build-1
  is build-1 payload '{"text": "first"}'
  expect 65 send --id 'no id' x
  expect 65 send --id short x
}

@test "who sends, to whom, of what kind, together with what" {
  is "$(send --from pm --type bug_report --correlation-id issue-7 --group ci --attempts 5 x)" \
    sender,recipient,type,correlation_id,group,max_attempts $'pm\tdev\tbug_report\tissue-7\tci\t5'
  expect 64 orc-task send x
  expect 65 orc-task send -r 'two words' x
  expect 65 send --type 'Not a word' x
  expect 64 send --attempts 0 x
}

@test "what comes after waits; what fails cancels it; retry brings both back" {
  local first last
  first=$(send one) last=$(send --after build-0 x 2>/dev/null || send --after "$first" two)
  is "$last" after "$first"
  claim
  expect 1 orc-task get -r dev
  expect 0 orc-task fail "$id" --token "$token" --error "it broke" --final --exit 3
  equals "$output" failed
  is "$first" status,error_message,exit_code $'failed\tit broke\t3'
  is "$last" status cancelled
  expect 65 orc-task retry "$last"
  contains "$stderr" "comes after $first"
  expect 0 orc-task retry "$first" "$last"
  expect 1 orc-task retry "$first"
  claim
  equals "$id" "$first"
  orc-task done "$id" --token "$token"
  claim
  equals "$id" "$last"
  expect 65 send --after nothing-such x
}

@test "times: not before, and not after" {
  send --in 1h x
  send --at 2030-01-01 x
  expect 1 orc-task get -r dev
  local soon
  soon=$(send --ttl 0.05 x)
  expired() { [ "$(field "$soon" status)" = cancelled ]; }
  eventually expired
  is "$soon" error_message expired
  send --in 0.1 x
  expect 0 orc-task get -r dev --wait=20
  expect 64 send --at 2030-01-01 --in 5m x
  expect 64 send --ttl soon x
}

@test "a stream: each line is a task, all of a batch or none" {
  printf '%s\n' '{"payload": {"n": 1}, "priority": "critical"}' '' '{"recipient": "qa", "task_id": "line-3", "after": ["first-1"]}' \
    >"$BATS_TEST_TMPDIR/lines"
  send --id first-1 x
  expect 0 send --jsonl --file "$BATS_TEST_TMPDIR/lines"
  equals "${#lines[@]} ${lines[1]}" "2 line-3"
  is "${lines[0]}" priority,payload $'1\t{"n": 1}'
  is line-3 recipient,after $'qa\tfirst-1'
  for wrong in nonsense '[1]' '{"who": 1}' '{"priority": "x"}' '{"after": "x"}'; do
    run --separate-stderr send --jsonl <<<"{}"$'\n'"$wrong"
    equals "$status" 65
    one_line "$stderr"
    contains "$stderr" "line 2"
  done
  equals "$(orc-task list | wc -l)" 3
}

@test "a claim is one worker's: another token is refused, and so is none" {
  send x
  claim
  for action in done fail release extend; do
    expect 65 orc-task "$action" "$id" --token other
    equals "$output" ""
    one_line "$stderr"
    contains "$stderr" "another worker has it"
    expect 64 orc-task "$action" "$id"
    expect 65 orc-task "$action" nothing-such --token "$token"
  done
  is "$id" status running
  expect 0 orc-task done "$id" --token "$token"
  expect 0 orc-task done "$id" --token "$token"
  expect 65 orc-task fail "$id" --token "$token"
}

@test "a lease that ended is lost; one that is extended holds" {
  send x
  claim --lease 0.05
  freed() { orc-task get -r dev --lease 1h -o token >"$BATS_TEST_TMPDIR/token"; }
  eventually freed
  expect 65 orc-task done "$id" --token "$token"
  is "$id" attempt 2
  expect 0 orc-task extend "$id" --token "$(<"$BATS_TEST_TMPDIR/token")" --lease 2h
  [[ $output =~ ^20[0-9T:.-]+Z$ ]]
  equals "$output" "$(field "$id" lease_until)" || [[ $(field "$id" lease_until) == "${output%%.*}"* ]]
  for wrong in 0 -1 soon; do
    run --separate-stderr orc-task get -r dev --lease "$wrong"
    [[ $status = 64 || $status = 65 ]]
    one_line "$stderr"
  done
}

@test "a claim ends with the process that it names" {
  send x
  sleep 1000 &
  local pid=$!
  claim --pid "$pid"
  expect 1 orc-task get -r dev
  kill -9 "$pid"
  wait "$pid" || true
  expect 0 orc-task get -r dev -o attempt
  equals "$output" 2
  contains "$(orc-task list -o error_message)" -
  expect 65 orc-task get -r dev --pid 4194303
  expect 64 orc-task get -r dev --pid x
}

@test "get --wait waits, and gives up with 124" {
  expect 124 orc-task get -r dev --wait=0.05
  equals "$output$stderr" ""
  orc-task get -r dev --wait -o payload >"$BATS_TEST_TMPDIR/got" &
  send later
  wait $!
  equals "$(<"$BATS_TEST_TMPDIR/got")" '{"text": "later"}'
}

@test "start claims the task of that id" {
  local one two
  one=$(send 1) two=$(send 2)
  expect 0 orc-task start "$two" --lease 1h --pid $$ -o task_id
  equals "$output" "$two"
  expect 1 orc-task start "$two"
  expect 65 orc-task start nothing-such
  equals "$(orc-task get -r dev -o task_id)" "$one"
}

@test "fail rests, then the task is tried again; release leaves no trace" {
  mkdir -p "$ORC_HOME"
  echo 'team: {message_queue: {retry_backoff: [0.05, 0.05], attempts: 2}}' >"$ORC_HOME/orchestrator_config.yaml"
  send x
  claim
  expect 0 orc-task release "$id" --token "$token"
  equals "$output" ""
  is "$id" status,attempt $'queued\t0'
  claim
  expect 0 orc-task fail "$id" --token "$token" --error no
  equals "$output" queued
  expect 0 orc-task get -r dev --wait=20 -o token,attempt
  equals "${output##*$'\t'}" 2
  expect 0 orc-task fail "$id" --token "${output%%$'\t'*}"
  equals "$output" dead
}

@test "cancel ends what has not ended" {
  local one two
  one=$(send 1) two=$(send 2)
  claim
  expect 0 orc-task cancel "$one" "$two" --error "not needed"
  is "$two" status,error_message $'cancelled\tnot needed'
  expect 65 orc-task done "$one" --token "$token"
  contains "$stderr" "it is cancelled"
  expect 1 orc-task cancel "$one"
  expect 65 orc-task cancel nothing-such
  expect 64 orc-task cancel
}

@test "list: by recipient, kind, sender, group, status; the last ones; forms" {
  send --from pm --type bug_report --group ci --correlation-id c1 1
  send 2
  orc-task send -r qa 3
  claim
  count() { orc-task list "$@" | wc -l; }
  equals "$(count) $(count -r dev) $(count --type bug_report) $(count --from pm) $(count --group ci)" "3 2 1 1 1"
  equals "$(count --correlation-id c1) $(count --status queued) $(count --status queued --status running)" "1 2 3"
  equals "$(orc-task list -n 1 -o recipient) $(count -n 0)" "qa 0"
  equals "$(orc-task list -o json | jq length)" 3
  contains "$(orc-task list -o table)" "TASK ID"
  expect 64 orc-task list --status unknown
  expect 64 orc-task list -o colour
  expect 64 orc-task get -r qa -o colour
  equals "$(count --status queued)" 2
}

@test "depth, slowest, performance: the document's views" {
  send -p 1 a
  send -p 9 b
  claim
  orc-task done "$id" --token "$token" --duration 1500
  send c
  equals "$(orc-task depth -o agent,queued_tasks,high_priority,normal_priority,low_priority)" $'dev\t2\t0\t1\t1'
  equals "$(orc-task slowest -o task_id,agent,duration_ms)" "$id"$'\tdev\t1500'
  equals "$(orc-task slowest -n 0)" ""
  equals "$(orc-task performance -o agent,total_tasks,completed_tasks,failed_tasks,avg_duration_ms)" \
    $'dev\t3\t1\t0\t1500.0'
}

@test "pause, limit and resume, of a recipient and of a group" {
  send --group ci 1
  send --group ci 2
  expect 0 orc-task pause dev --reason "the account is limited" --until 23:59:59
  equals "$output$stderr" ""
  expect 1 orc-task get -r dev
  expect 0 orc-task resume dev
  expect 0 orc-task limit --group ci --jobs 1
  claim
  expect 1 orc-task get -r dev
  orc-task done "$id" --token "$token"
  claim
  expect 64 orc-task limit dev
  expect 64 orc-task pause dev --until 5m
  contains "$stderr" "has passed"
  expect 64 orc-task pause dev --group ci
  expect 64 orc-task resume
}

@test "an account that has reached its usage limit: its tasks wait, then go on one by one; a pause by hand stays" {
  mkdir -p "$ORC_HOME"
  printf 'accounts:\n  anthropic: [dev, architect]\n' >"$ORC_HOME/orchestrator_config.yaml"
  expect 0 orc-state start
  send 1
  send 2
  expect 0 orc-task pause architect --reason holidays
  orc-publish --type credit_exhausted --context '{"agent": "web:dev", "until": "in a while"}' "out of credit" >/dev/null
  waits() { [ "$(orc-task limits -o kind,name,parallel,reason | grep -c 'account.*0.anthropic')" = 2 ]; }
  eventually waits
  expect 1 orc-task get -r dev
  orc-publish --type status_update --context '{"agent": "web:dev", "credit_exhausted": false}' "credit again" >/dev/null
  goes_on() { orc-task limits -o name,parallel,reason | grep -q 'dev.1.anthropic'; }
  eventually goes_on
  claim
  expect 1 orc-task get -r dev
  expect 0 orc-task resume --account anthropic
  expect 1 orc-task resume --account anthropic
  expect 64 orc-task resume dev --account anthropic
  claim
  equals "$(orc-task limits -o kind,name,parallel,reason)" $'recipient\tarchitect\t0\tholidays'
  told() { [ "$(orc-read --from accounts -o message.content.context.issue_type)" = $'tasks_wait\ntasks_resume' ]; }
  eventually told
}

@test "a full queue refuses low work with 75, then normal work, and takes high work" {
  mkdir -p "$ORC_HOME"
  echo 'team: {message_queue: {max_size: 2}}' >"$ORC_HOME/orchestrator_config.yaml"
  send 1
  send 2
  expect 75 send -p low 3
  equals "$output" ""
  one_line "$stderr"
  send 3
  send 4
  expect 75 send 5
  expect 0 send -p critical 5
}

@test "a task that could not be printed is given back" {
  send 1
  expect 74 sh -c 'orc-task get -r dev >/dev/full'
  expect 141 bash -c 'exec > >(:); wait $!; exec orc-task get -r dev'
  expect 0 orc-task get -r dev -o attempt
  equals "$output" 1
}

@test "prune removes what ended long ago" {
  send 1
  send 2
  claim
  orc-task done "$id" --token "$token"
  sqlite "UPDATE tasks SET completed_at = '2026-01-01T00:00:00.000000Z' WHERE completed_at IS NOT NULL"
  expect 0 orc-task prune --older-than 9999 --dry-run
  equals "$output" 0
  expect 0 orc-task prune --older-than 0 --dry-run
  equals "$output" 1
  expect 0 orc-task prune --older-than 0
  equals "$output" 1
  equals "$(orc-task list | wc -l)" 1
  expect 64 orc-task prune --older-than x
}

# sqlite SQL: on the queue's database, by another program
sqlite() {
  "$ROOT/.venv/bin/python" -I -c 'import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as c: [print(*row) for row in c.execute(sys.argv[2])]' "$ORC_HOME/data/orchestrator.db" "$1"
}

@test "migrate leads back to the document's schema, and forth again" {
  send 1
  claim
  expect 75 orc-task migrate --to 1
  one_line "$stderr"
  orc-task done "$id" --token "$token"
  expect 0 orc-task migrate --to 1 --dry-run
  contains "$output" "(not done)"
  expect 0 orc-task migrate --to 1
  equals "$(sqlite "PRAGMA user_version") $(sqlite "SELECT status FROM tasks")" "1 completed"
  equals "$(sqlite "SELECT count(*) FROM pragma_table_info('tasks')")" 12
  expect 0 orc-task migrate
  is "$id" status completed
  expect 64 orc-task migrate --to 99
  sqlite "PRAGMA user_version = 99"
  expect 65 orc-task list
  one_line "$stderr"
}

@test "run: the command's output alone, its exit code, and each task once" {
  send '{"n": 1}'
  expect 0 orc-task run -r dev --once -- sh -c 'cat; echo aside >&2'
  equals "$output" '{"n": 1}'
  equals "$stderr" aside
  expect 1 orc-task run -r dev --once -- true
  send x
  run --separate-stderr -75 orc-task run -r dev --once --lease 10 -- sh -c 'exit 75'
  equals "$output$stderr" ""
  for words in "-r dev" "-- true" "-r dev --jobs 0 -- true" "-r dev --jobs 2 --once -- true" "-r dev --wait -- true"; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-task run $words
    one_line "$stderr"
  done
  send y
  run --separate-stderr -127 orc-task run -r dev --once -- no-such-command
  one_line "$stderr"
}

@test "run goes on until it is told to stop" {
  orc-task run -r dev --jobs 2 -- jq -r .n >"$BATS_TEST_TMPDIR/out" &
  local worker=$! n
  for n in 1 2 3 4 5; do send "{\"n\": $n}"; done
  all_done() { [ "$(orc-task list --status completed | wc -l)" = 5 ]; }
  eventually all_done
  kill -TERM "$worker"
  wait "$worker"
  equals "$(sort "$BATS_TEST_TMPDIR/out" | tr '\n' ' ')" "1 2 3 4 5 "
}

@test "the loop of docs/tasks.md" {
  cd "$BATS_TEST_TMPDIR"
  # shellcheck disable=SC2016 # for the script to expand
  printf '#!/bin/sh\necho "$1"; [ "$1" != SPEC-2 ]\n' >implement.sh
  chmod +x implement.sh
  sed -n '/^while task=/,/^done$/p' "$ROOT/docs/tasks.md" | sed 's/ --wait / --wait=0.1 /;s/-r code_developer/-r dev/' >loop.sh
  send --id spec-1 '{"spec_id": "SPEC-1"}'
  send --id spec-2 '{"spec_id": "SPEC-2"}'
  expect 0 bash loop.sh
  equals "$output" $'SPEC-1\nSPEC-2\nqueued'
  is spec-1 status completed
  is spec-2 status,attempt,error_message $'queued\t1\timplement.sh ended with 1'
}

@test "at once from many shells: each task to one worker" {
  local n
  for n in $(seq 20); do echo "{\"task_id\": \"task-$n\"}"; done | send --jsonl >/dev/null
  for n in $(seq 40); do
    orc-task get -r dev -o task_id >"$BATS_TEST_TMPDIR/got.$n" &
  done
  wait
  equals "$(cat "$BATS_TEST_TMPDIR"/got.* | sort -u | wc -l) $(cat "$BATS_TEST_TMPDIR"/got.* | wc -l)" "20 20"
}

@test "an action takes its own options and words" {
  for words in "" "fly" "send -r a --token x" "get -r a --once" "done" "done a b --token x" "show" "list --wait" \
    "depth -n 1" "migrate --to x"; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-task $words
    equals "$output" ""
    one_line "$stderr"
  done
  expect 64 orc-task snd
  contains "$stderr" "did you mean send"
}

@test "bytes that are no text are refused, or shown as such" {
  send x
  claim
  expect 65 orc-task show $'\xff'
  one_line "$stderr"
  expect 0 orc-task fail "$id" --token "$token" --error $'\xff\e[31m' --final
  is "$id" error_message '?\x1b[31m'
}

@test "help and version" {
  expect 0 orc-task --help
  contains "$output" "examples:"
  expect 0 orc-task --version
  contains "$output" "orc-task "
}
