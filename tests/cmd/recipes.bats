#!/usr/bin/env bats
# share/agents/: the team's agents, as somebody calls them by hand. What they do with a task: tests/unit/test_recipes.py
load ../helper

setup() {
  make_home
  export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 STANDIN=$BATS_TEST_TMPDIR/standin
  recipes=$ROOT/share/agents programs=$BATS_TEST_TMPDIR/programs repository=$BATS_TEST_TMPDIR/a\ repository
  mkdir "$STANDIN" "$programs"
  ln -s "$ROOT/tests/programs/agent_cli.py" "$programs/claude"
  PATH=$programs:$PATH
  git init -q -b main "$repository"
  cd "$repository" || return
  git config user.name somebody
  git config user.email somebody@example.org
  printf -- '- [ ] US-048: Notifications have a sound (Planned)\n' >ROADMAP.md
  git add -A
  git commit -qm first
}

status_of() { "$recipes/roadmap.py" show "$1" | jq -r .status; }

@test "recipes: each says what it does, and takes no other words" {
  for name in code_developer project_manager architect assistant; do
    expect 0 "$recipes/$name" --help
    contains "$output" "usage: $name [--once]"
    contains "$output" "ORC_TEAM_<KEY>"
    expect 64 "$recipes/$name" --what
    one_line "$stderr"
    expect 64 "$recipes/$name" --once again
    one_line "$stderr"
  done
  [ ! -e "$ORC_HOME" ]
}

@test "code_developer --once: the next item of the roadmap, then nothing" {
  expect 0 "$recipes/code_developer" --once
  equals "$output" "Done as asked."
  equals "$(status_of US-048)" Review
  equals "$(orc-read --type implementation_complete -o message.content.context.branch)" code_developer/US-048
  equals "$(orc-task list -o type,status,exit_code)" $'implement\tcompleted\t0'
  expect 1 "$recipes/code_developer" --once
  equals "$output$stderr" ""
}

@test "project_manager --once: verifies what was done" {
  "$recipes/code_developer" --once >/dev/null
  context=$(orc-read --type implementation_complete | jq -c .message.content.context)
  orc-task send -r project_manager --type implementation_complete "$context" >/dev/null
  expect 0 env ORC_TEAM_TESTS='[ -e change-1.txt ]' "$recipes/project_manager" --once
  equals "$(status_of US-048)" Complete
}

@test "architect --once: a review, and the spec of what has none" {
  expect 0 "$recipes/architect" --once
  expect 0 orc-task run -r architect --once -- "$recipes/architect" --task
  equals "$(ls docs/specs)" SPEC-048-notifications-have-a-sound.md
  equals "$("$recipes/roadmap.py" show US-048 | jq -r .spec)" SPEC-048
}

@test "assistant --once: a question" {
  orc-task send -r assistant --type question "where is it?" >/dev/null
  expect 0 "$recipes/assistant" --once
  equals "$(orc-read --type answer -o message.content.body)" "It is in file README.md."
}

@test "recipes: what is missing is told in a line" {
  cd /
  expect 78 "$recipes/architect" --once
  contains "$stderr" "there is no git repository"
  cd "$repository"
  expect 78 env ORC_TEAM_TIMEOUT=1h "$recipes/architect" --once
  one_line "$stderr"
  expect 78 env ORC_TEAM_AUTO_APPROVE=maybe "$recipes/architect" --once
  one_line "$stderr"
  orc-task send -r assistant --type question "where is it?" >/dev/null
  expect 69 env ORC_TEAM_CLI=no-such-program "$recipes/assistant" --once
  contains "$stderr" "there is no agent CLI no-such-program"
}

@test "recipes: another name, another queue, another folder" {
  ln -s "$recipes/assistant" "$BATS_TEST_TMPDIR/helper"
  orc-task send -r helpers --type question "where is it?" >/dev/null
  cd /
  expect 0 env ORC_TEAM_REPO="$repository" ORC_TEAM_RECIPIENT=helpers ORC_TEAM_AGENT=helper-2 "$BATS_TEST_TMPDIR/helper" --once
  equals "$(orc-read --type answer -o source.identifier)" helper-2
}
