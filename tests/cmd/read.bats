#!/usr/bin/env bats
# orc-read: filter, tail and follow the log

load ../helper

setup() {
  make_home
  orc-publish --tag a -p high --subject "Build" "is red" >/dev/null
  orc-publish --tag a --tag b -g management --type task "do it" >/dev/null
  orc-publish --from s:anna $'two\nlines \e[31m' >/dev/null
}

ids() { jq -r .id; }
bodies() { jq -r .message.content.body; }

@test "a pipe gets the lines as they stand" {
  expect 0 orc-read
  equals "$output" "$(cat "$ORC_HOME"/logs/events/*.jsonl)"
  expect 0 orc-read -n 1 -o jsonl
  equals "$output" "$(tail -n 1 "$ORC_HOME"/logs/events/*.jsonl)"
}

@test "filters" {
  expect 0 orc-read --tag a --tag b
  equals "$(bodies <<<"$output")" "do it"
  expect 0 orc-read --priority high --priority critical
  equals "$(bodies <<<"$output")" "is red"
  expect 0 orc-read --type task --group management
  expect 0 orc-read --from anna
  expect 0 orc-read --from s:anna
  expect 1 orc-read --from t:anna
  expect 0 orc-read --id "$(orc-read -n 1 | ids)"
  expect 0 orc-read --id "#$(orc-read -n 1 -o id | tail -c 7)"
  expect 0 orc-read --filter 'red\|green'
  equals "$(bodies <<<"$output")" "is red"
  expect 0 orc-read --since 5m --until now -n 2 -r
  equals "$(head -n 1 <<<"$output" | bodies)" $'two\nlines \e[31m'
}

@test "1 when nothing matches, and nothing is said" {
  expect 1 orc-read --tag none
  equals "$output$stderr" ""
  expect 1 orc-read --since 2000-01-01 --until 2000-01-02
  expect 1 env ORC_HOME="$BATS_TEST_TMPDIR/empty" orc-read
  [ ! -e "$BATS_TEST_TMPDIR/empty" ]
  expect 0 orc-read -q --tag a
  equals "$output" ""
  expect 1 orc-read -q --tag none
}

@test "--json is one document, and always 0" {
  expect 0 orc-read --json --tag a -n 1
  equals "$(jq -c '[.count, .stored_messages[0].raw_message]' <<<"$output")" '[1,"📨 do it Tags: [a, b]"]'
  expect 0 orc-read --json --tag none
  equals "$output" '{"stored_messages": [], "count": 0}'
}

@test "forms, and no escape reaches a terminal" {
  expect 0 orc-read -o text
  equals "$output" $'⚠️ HIGH PRIORITY Build: is red Tags: [a]\n📨 do it Tags: [a, b]\n📨 two lines \\x1b[31m'
  expect 0 orc-read -o seq,source.identifier,message.category -n 1
  equals "$output" $'3\tanna\t-'
  expect 0 orc-read -o body -n 1
  equals "$output" $'two\nlines \\x1b[31m'
  expect 0 script -qec "orc-read -n 1" /dev/null
  contains "$output" "s:anna? → -" || contains "$output" "anna? → -"
  [[ $output != *$'\e[31m'* ]]
}

@test "64: what cannot be asked" {
  for bad in "word" "-n x" "--priority urgent" "--filter (" "--since soon" "-o tabel" "-f --json" "--oops"; do
    # shellcheck disable=SC2086 # words on purpose
    expect 64 orc-read $bad
    one_line "$stderr"
  done
  expect 64 orc-read -o tabel
  contains "$stderr" "did you mean table?"
}

@test "each event once, for a reader and for a cursor file of one's own" {
  expect 0 orc-read --unread me -o seq
  equals "$output" $'1\n2\n3'
  expect 1 orc-read --unread me
  cursor=$(mktemp -p "$BATS_TEST_TMPDIR")
  cd "$BATS_TEST_TMPDIR"
  expect 0 orc-read --cursor-file "${cursor##*/}" -o seq
  equals "$output" $'1\n2\n3'
  orc-publish new >/dev/null
  expect 0 orc-read --unread me -o seq
  equals "$output" 4
  expect 0 orc-read --cursor-file "$cursor" -o seq
  equals "$output" 4
  echo precious >"$cursor"
  expect 65 orc-read --cursor-file "$cursor"
  equals "$(cat "$cursor")" precious
}

@test "what was not shown is still unread" {
  expect 74 sh -c 'orc-read --unread me >/dev/full'
  one_line "$stderr"
  orc-publish --lines < <(seq 5000) >/dev/null
  run --separate-stderr bash -c 'orc-read --unread me | head -n 1'
  equals "$stderr" ""
  expect 0 orc-read --unread me
  equals "$(wc -l <<<"$output")" 5003
}

@test "damage is stepped over and told" {
  echo '{"torn' >>"$(echo "$ORC_HOME"/logs/events/*.jsonl)"
  orc-publish after >/dev/null
  expect 0 orc-read -o seq
  equals "$output" $'1\n2\n3\n4'
  equals "$stderr" "orc-read: 1 damaged lines stepped over: see orc-log check"
}

@test "follow" {
  orc-read -f -n 1 -o seq >"$BATS_TEST_TMPDIR/out" 3>&- &
  reader=$!
  eventually grep -q 3 "$BATS_TEST_TMPDIR/out"
  orc-publish four >/dev/null
  orc-publish five >/dev/null
  eventually grep -q 5 "$BATS_TEST_TMPDIR/out"
  kill "$reader"
  equals "$(cat "$BATS_TEST_TMPDIR/out")" $'3\n4\n5'
}

@test "follow ends with its reader, quietly" {
  # shellcheck disable=SC2016 # for the inner shell
  expect 0 bash -c 'orc-read -f | head -n 1 | wc -l; echo "${PIPESTATUS[0]}"'
  equals "$output" $'1\n141'
  equals "$stderr" ""
}
