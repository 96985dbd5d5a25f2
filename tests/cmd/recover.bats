#!/usr/bin/env bats
# orc-recover: start agents again that ended
load ../helper

@test "64: nobody, or both a name and --all, or a wrong option; nothing is done" {
  for words in "" "--all dev" "--nope" "--all -o nofield"; do
    # shellcheck disable=SC2086 # several words
    expect 64 orc-recover $words
    one_line "$stderr"
    equals "$output" ""
  done
  expect 64 orc-recover nobody
  one_line "$stderr"
}

@test "1: there is none to start; 0: it is back; the log tells it" {
  expect 1 orc-recover --all
  orc-run dev --session s --profile plain --restart crash -- sleep 1000 >/dev/null
  expect 1 orc-recover --all
  kill -9 "$(orc-agent show dev -o pid)"
  eventually dead
  expect 0 orc-recover --all --dry-run -o agent,action
  equals "$output" $'s:dev\trespawned'
  expect 0 orc-recover --all -o agent,action,reason
  equals "$output" $'s:dev\trespawned\tended by signal 9'
  equals "$(orc-read --type recovery -o message.content.context.action)" respawned
  equals "$(orc-agent list -o state)" starting
}

@test "69: a start that fails; the agents of the team supervisor are left to it, and named ones are started" {
  orc-run theirs --session s --restart crash --supervisor team -- sleep 1000 >/dev/null
  kill -9 "$(orc-agent show theirs -o pid)"
  eventually dead
  equals "$(orc-agent list -o name,supervisor)" $'theirs\tteam'
  expect 1 orc-recover --all
  expect 0 orc-recover theirs --fresh -o agent,action,session_id
  equals "$output" $'s:theirs\trespawned\t-'
  kill -9 "$(orc-agent show theirs -o pid)"
  eventually dead
  rm "$ORC_HOME"/registry/launch/*.json
  expect 69 orc-recover theirs --force -o action
  equals "$output" failed
}
dead() { [ "$(orc-agent list -o state)" = dead ]; }
