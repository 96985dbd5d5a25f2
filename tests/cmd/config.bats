load ../helper

file() { mkdir -p "$ORC_HOME" && cat >"$ORC_HOME/orchestrator_config.yaml"; }

@test "get prints one value, several, and lists" {
  expect 0 orc-config get delivery.ttl
  equals "$output" 86400
  expect 0 orc-config get components.broker components.team monitoring.max_messages_per_minute
  equals "$output" $'true\nfalse\n10'
  printf 'delivery: {escalate_to: ["@pm", "qa:1"]}\n' | file
  expect 0 orc-config get delivery.escalate_to
  equals "$output" $'@pm\nqa:1'
  expect 0 orc-config get delivery.escalate_to delivery.retries agents.adopt
  equals "$output" $'@pm,qa:1\n5'
  expect 0 orc-config get groups
  equals "$output" '{"management": ["@pm"]}'
}

@test "get of several keys prints as many lines, empty ones too" {
  expect 0 sh -c 'orc-config get events.timezone agents.adopt delivery.retries | wc -l'
  equals "$output" 3
}

@test "get names the key that was meant" {
  expect 64 orc-config get delivery.retrys
  equals "$output" ''
  equals "$stderr" "orc-config: unknown key 'delivery.retrys' (did you mean retries?): orc-config show lists them"
  expect 64 orc-config get idle_after
  contains "$stderr" 'did you mean monitoring.idle_after?'
  expect 64 orc-config get
  one_line "$stderr"
}

@test "the environment overrides, and a bad value names its variable" {
  ORC_DELIVERY_TTL=15m expect 0 orc-config get delivery.ttl
  equals "$output" 900
  ORC_DELIVERY_RETRIES=many expect 78 orc-config get delivery.ttl
  equals "$stderr" "orc-config: ORC_DELIVERY_RETRIES='many' in the environment: delivery.retries must be a whole number from 0 to 100"
}

@test "check is silent about a good file and about none" {
  expect 0 orc-config check
  equals "$output$stderr" ''
  expect 0 orc-config init
  expect 0 orc-config check
  equals "$output$stderr" ''
  expect 0 orc-config check "$ROOT/orchestrator_config.yaml"
}

@test "check prints every mistake with file and line" {
  file <<-'END'
	monitoring:
	  chek_interval: 5
	delivery:
	  retries: 5
	  retries: 6
	  ttl: soon
	END
  ORC_DELIVERY_RETRYS=1 expect 78 orc-config check
  equals "${#lines[@]}" 4
  contains "${lines[0]}" "orchestrator_config.yaml:2: unknown key 'monitoring.chek_interval' (did you mean check_interval"
  contains "${lines[1]}" "orchestrator_config.yaml:5: 'delivery.retries' is there twice, first on line 4"
  contains "${lines[2]}" "orchestrator_config.yaml:6: delivery.ttl is 'soon': it must be a duration"
  contains "${lines[3]}" "ORC_DELIVERY_RETRYS in the environment overrides no key (did you mean RETRIES?): unset it"
  equals "$stderr" 'orc-config: 4 mistakes in the configuration: mend the lines printed'
}

@test "check takes a file, wherever it is" {
  printf 'tmux:\n  socket: no\n' >"$BATS_TEST_TMPDIR/my file.yaml"
  expect 78 orc-config check "$BATS_TEST_TMPDIR/my file.yaml"
  equals "$output" "$BATS_TEST_TMPDIR/my file.yaml:2: tmux.socket is 'no', which YAML takes for a boolean: put it in quotes"
  expect 78 orc-config check "$BATS_TEST_TMPDIR/none.yaml"
  one_line "$stderr"
  expect 64 orc-config check a b
}

@test "a bad file stops every command with its line" {
  printf 'tmux: {}\n\nnonsense: 1\n' | file
  expect 78 orc-config get delivery.ttl
  equals "$stderr" "orc-config: orchestrator_config.yaml:3: unknown key 'nonsense': see docs/configuration.md"
  expect 78 orc-publish "hello"
  contains "$stderr" 'orchestrator_config.yaml:3:'
  [ ! -e "$ORC_HOME/logs/events" ]
}

@test "a hostile file runs nothing and prints no control character" {
  printf 'tmux: !!python/object/apply:os.system ["touch %s/CANARY"]\n' "$BATS_TEST_TMPDIR" | file
  expect 78 orc-config show
  [ ! -e "$BATS_TEST_TMPDIR/CANARY" ]
  printf '"a\\e[2J\\a": 1\n' | file
  expect 78 orc-config check
  equals "$output" "orchestrator_config.yaml:1: unknown key 'a\\x1b[2J\\x07': see docs/configuration.md"
}

@test "a hot command compiles a changed file by itself" {
  mkdir -p "$ORC_HOME/logs"
  printf 'delivery: {retries: 7}\n' | file
  eventually sh -c 'orc-publish hello && test -e "$ORC_HOME/logs/run/config.json"'
  expect 0 jq .values.delivery.retries "$ORC_HOME/logs/run/config.json"
  equals "$output" 7
  printf 'delivery: {retries: 8}\n' | file
  expect 0 orc-config get delivery.retries
  equals "$output" 8
}

@test "show marks what the environment sets, and reads back" {
  printf 'recovery: {breaker: 3 in 15m}\n' | file
  ORC_DELIVERY_TTL=5m expect 0 orc-config show
  contains "$output" '  ttl: 300  # from ORC_DELIVERY_TTL'
  contains "$output" "  breaker: 3 in 900"
  equals "$(grep -c 'from ORC_DELIVERY' <<<"$output")" 1
  printf '%s\n' "$output" >"$BATS_TEST_TMPDIR/shown.yaml"
  expect 0 orc-config check "$BATS_TEST_TMPDIR/shown.yaml"
  ORC_DELIVERY_TTL=5m expect 0 sh -c "orc-config show --json | jq -r '.delivery.ttl, .environment[\"delivery.ttl\"]'"
  equals "$output" $'300\nORC_DELIVERY_TTL'
}

@test "init writes the shipped file once" {
  expect 0 orc-config init
  equals "$output" "$ORC_HOME/orchestrator_config.yaml"
  cmp "$ORC_HOME/orchestrator_config.yaml" "$ROOT/orchestrator_config.yaml"
  equals "$(stat -c %a "$ORC_HOME/orchestrator_config.yaml")" 600
  echo '# mine' >>"$ORC_HOME/orchestrator_config.yaml"
  expect 1 orc-config init
  one_line "$stderr"
  contains "$(tail -1 "$ORC_HOME/orchestrator_config.yaml")" '# mine'
}

@test "asking leaves no trace in a mistyped home" {
  expect 0 orc-config get delivery.ttl
  expect 0 orc-config show
  [ ! -e "$ORC_HOME" ]
}

@test "usage" {
  expect 64 orc-config
  one_line "$stderr"
  expect 64 orc-config chek
  contains "$stderr" 'did you mean check?'
  expect 64 orc-config get --json delivery.ttl
  expect 64 orc-config show delivery
  expect 64 orc-config init here
  expect 0 orc-config --help
  contains "$output" 'examples:'
  expect 0 orc-config --version
}
