#!/usr/bin/env bats
# orc-ack: say that a message has been taken care of

load ../helper

last() { tail -n 1 "$ORC_HOME"/logs/events/*.jsonl | jq -r "$1"; }

@test "by id, by short id, with a note" {
  id=$(orc-publish "please look")
  expect 0 orc-ack "$id"
  equals "$(last .id)" "$output"
  equals "$(last '[.message.type, .message.content.context.event, .metadata.reply_to] | join(" ")')" "ack $id $id"
  expect 0 orc-ack "#${id: -6}" --note "restarted it" --from s:pm
  equals "$(last '.message.content | [.body, .context.note] | join(" | ")')" "ACK $id - restarted it | restarted it"
  equals "$(last '[.source.identifier, .source.session, .source.verified] | join(" ")')" "pm s false"
  small=${id: -6}
  expect 0 orc-ack "${small,,}"
  equals "$(last .metadata.reply_to)" "$id"
  equals "$(orc-read --id "${small,,}" -o id)" "$id"
}

@test "several at once, each with its own" {
  first=$(orc-publish one)
  second=$(orc-publish two)
  expect 0 orc-ack "$first" "$second"
  equals "$(wc -l <<<"$output")" 2
  equals "$(orc-read --type ack -o message.content.context.event)" "$first"$'\n'"$second"
}

@test "64: no id, an unknown one, and then none is acknowledged" {
  id=$(orc-publish one)
  for bad in "" "nothing" "$id nothing1" "../../x"; do
    # shellcheck disable=SC2086 # words on purpose
    expect 64 orc-ack $bad
    one_line "$stderr"
  done
  expect 65 orc-ack "$id" --note $'\xff'
  expect 1 orc-read --type ack
}
