#!/usr/bin/env bats
# orc-doctor: what is wrong, and the command that mends it.
load ../helper

@test "an empty home is well" {
  expect 0 orc-doctor
  contains "$output" "all is well"
  run ! grep "^wrong" <<<"$output"
  equals "$stderr" ""
  expect 0 "$ROOT/orchestrator_manager.sh" doctor
}

@test "what is wrong is one line, the command in it mends it, and the exit code says so" {
  orc-publish "one" >/dev/null
  printf '{"torn' >>"$(orc-log path)"
  orc-publish "two" >/dev/null
  expect 1 orc-doctor
  equals "$(grep -c '^wrong: ' <<<"$output")" 1
  contains "$output" "$(orc-log path), at byte "
  bash -c "$(sed -n 's/^wrong: .* → //p' <<<"$output")"
  expect 0 orc-doctor
  expect 0 orc-log check
}

@test "--fix mends what is safe" {
  orc-publish "hello" >/dev/null
  chmod -R go+rwX "$ORC_HOME/logs"
  expect 1 orc-doctor
  contains "$output" "orc-doctor --fix mends 1 of these"
  expect 0 orc-doctor --fix
  contains "$output" "mended: "
  expect 0 orc-doctor
  equals "$(find "$ORC_HOME/logs" -perm /077 -not -type l)" ""
}

@test "--json is one document" {
  mkdir -p "$ORC_HOME"
  echo "nonsense: 1" >"$ORC_HOME/orchestrator_config.yaml"
  expect 1 orc-doctor --json
  equals "$(jq -c '[.ok, .checks > 20]' <<<"$output")" "[false,true]"
  equals "$(jq -r '.findings[] | select(.note | not) | .check' <<<"$output")" configuration
  contains "$(jq -r '.findings[] | select(.check == "configuration") | .text' <<<"$output")" "orchestrator_config.yaml:1"
  equals "$(jq -r '.findings[0] | keys_unsorted | join(" ")' <<<"$output")" "check text mend note fixable fixed"
}

@test "an agent that died is wrong until it is back" {
  orc-run dev --session s --profile plain -- sleep 1000 >/dev/null
  kill -9 "$(orc-agent list -o pid)"
  dead() { orc-doctor | grep -q "s:dev died"; }
  eventually dead
  orc-agent restart s:dev
  expect 0 orc-doctor
}

@test "mistakes in its words" {
  for words in "extra" "--mend"; do
    expect 64 orc-doctor "$words"
    one_line "$stderr"
  done
}
