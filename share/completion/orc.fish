# fish completion of these commands; made by `make man`
complete -c orc-ack -l from -r
complete -c orc-ack -l note -r
complete -c orc-ack -l help
complete -c orc-ack -l version
complete -c orc-agent -n __fish_use_subcommand -xa 'adopt answer attach broadcast escalate forget interrupt list pause peek rename restart restore resume send show stop wait'
complete -c orc-agent -l all
complete -c orc-agent -l asked -r
complete -c orc-agent -l dry-run
complete -c orc-agent -l force
complete -c orc-agent -l fresh
complete -c orc-agent -l group -r
complete -c orc-agent -s n -l lines -r
complete -c orc-agent -l name -r
complete -c orc-agent -s o -r
complete -c orc-agent -l profile -xa 'aider claude codex demo gemini plain'
complete -c orc-agent -l role -r
complete -c orc-agent -l session -r
complete -c orc-agent -l timeout -r
complete -c orc-agent -l until -r
complete -c orc-agent -l help
complete -c orc-agent -l version
complete -c orc-broker -l once
complete -c orc-broker -l standby
complete -c orc-broker -l help
complete -c orc-broker -l version
complete -c orc-component -n __fish_use_subcommand -xa 'clear-queues logs near restart start status stop'
complete -c orc-component -l dry-run
complete -c orc-component -s f -l follow
complete -c orc-component -s y -l yes
complete -c orc-component -l help
complete -c orc-component -l version
complete -c orc-config -n __fish_use_subcommand -xa 'check get init show'
complete -c orc-config -l json
complete -c orc-config -l help
complete -c orc-config -l version
complete -c orc-doctor -l fix
complete -c orc-doctor -l json
complete -c orc-doctor -l pm
complete -c orc-doctor -l help
complete -c orc-doctor -l version
complete -c orc-heartbeat -l agent -xa '(orc-agent list -o name)'
complete -c orc-heartbeat -l counters
complete -c orc-heartbeat -l every -r
complete -c orc-heartbeat -l host -r
complete -c orc-heartbeat -s o -r
complete -c orc-heartbeat -l status
complete -c orc-heartbeat -l help
complete -c orc-heartbeat -l version
complete -c orc-hook -n __fish_use_subcommand -xa 'aider claude codex gemini install status uninstall'
complete -c orc-hook -l dry-run
complete -c orc-hook -l no-permissions
complete -c orc-hook -l no-text
complete -c orc-hook -s o -r
complete -c orc-hook -l project -r
complete -c orc-hook -l then -r
complete -c orc-hook -l user
complete -c orc-hook -l help
complete -c orc-hook -l version
complete -c orc-log -n __fish_use_subcommand -xa 'check path rotate'
complete -c orc-log -l dry-run
complete -c orc-log -l json
complete -c orc-log -l help
complete -c orc-log -l version
complete -c orc-monitor -n __fish_use_subcommand -xa 'restart start status stop'
complete -c orc-monitor -l json
complete -c orc-monitor -l once
complete -c orc-monitor -l help
complete -c orc-monitor -l version
complete -c orc-publish -l at -r
complete -c orc-publish -l category -r
complete -c orc-publish -l check-in
complete -c orc-publish -l context -r
complete -c orc-publish -l correlation-id -r
complete -c orc-publish -l file -r
complete -c orc-publish -l from -r
complete -c orc-publish -s g -l group -r
complete -c orc-publish -l id -r
complete -c orc-publish -l in -r
complete -c orc-publish -l jsonl
complete -c orc-publish -l lines
complete -c orc-publish -s p -l priority -xa 'critical high normal low'
complete -c orc-publish -l queue
complete -c orc-publish -l reply-to -r
complete -c orc-publish -l requires-ack
complete -c orc-publish -l subject -r
complete -c orc-publish -l supersede -r
complete -c orc-publish -l tag -r
complete -c orc-publish -l timeout -r
complete -c orc-publish -s t -l to -xa '(orc-agent list -o name)'
complete -c orc-publish -l ttl -r
complete -c orc-publish -l type -r
complete -c orc-publish -l wait
complete -c orc-publish -l help
complete -c orc-publish -l version
complete -c orc-ratelimit -l burst -r
complete -c orc-ratelimit -l cost -r
complete -c orc-ratelimit -l peek
complete -c orc-ratelimit -l rate -r
complete -c orc-ratelimit -l wait
complete -c orc-ratelimit -l help
complete -c orc-ratelimit -l version
complete -c orc-read -l cursor-file -r
complete -c orc-read -l filter -r
complete -c orc-read -s f -l follow
complete -c orc-read -l from -r
complete -c orc-read -l group -r
complete -c orc-read -l id -r
complete -c orc-read -l json
complete -c orc-read -s o -l output -r
complete -c orc-read -l priority -xa 'critical high normal low'
complete -c orc-read -s q -l quiet
complete -c orc-read -s r -l reverse
complete -c orc-read -l session -r
complete -c orc-read -l since -r
complete -c orc-read -l tag -r
complete -c orc-read -s n -l tail -r
complete -c orc-read -l type -r
complete -c orc-read -l unread -xa '(orc-agent list -o name)'
complete -c orc-read -l until -r
complete -c orc-read -l help
complete -c orc-read -l version
complete -c orc-recover -s a -l all
complete -c orc-recover -l dry-run
complete -c orc-recover -l force
complete -c orc-recover -l fresh
complete -c orc-recover -s o -r
complete -c orc-recover -l reason -r
complete -c orc-recover -l help
complete -c orc-recover -l version
complete -c orc-run -l group -r
complete -c orc-run -s o -r
complete -c orc-run -l profile -xa 'aider claude codex demo gemini plain'
complete -c orc-run -l restart -xa 'never crash always'
complete -c orc-run -l role -r
complete -c orc-run -l session -r
complete -c orc-run -l supervisor -xa 'monitor team none'
complete -c orc-run -l window -r
complete -c orc-run -l help
complete -c orc-run -l version
complete -c orc-schedule -n __fish_use_subcommand -xa 'add list remove'
complete -c orc-schedule -l at -r
complete -c orc-schedule -l category -r
complete -c orc-schedule -l check-in
complete -c orc-schedule -l context -r
complete -c orc-schedule -l correlation-id -r
complete -c orc-schedule -l cron -r
complete -c orc-schedule -l every -r
complete -c orc-schedule -l file -r
complete -c orc-schedule -l from -r
complete -c orc-schedule -s g -l group -r
complete -c orc-schedule -l in -r
complete -c orc-schedule -l name -r
complete -c orc-schedule -s o -r
complete -c orc-schedule -s p -l priority -xa 'critical high normal low'
complete -c orc-schedule -l queue
complete -c orc-schedule -l requires-ack
complete -c orc-schedule -l subject -r
complete -c orc-schedule -l tag -r
complete -c orc-schedule -s t -l to -xa '(orc-agent list -o name)'
complete -c orc-schedule -l ttl -r
complete -c orc-schedule -l type -r
complete -c orc-schedule -l help
complete -c orc-schedule -l version
complete -c orc-state -n __fish_use_subcommand -xa 'restart start status stop'
complete -c orc-state -s f -l follow
complete -c orc-state -l json
complete -c orc-state -s o -l output -r
complete -c orc-state -l help
complete -c orc-state -l version
complete -c orc-stats -l json
complete -c orc-stats -l measure -r
complete -c orc-stats -l since -r
complete -c orc-stats -l help
complete -c orc-stats -l version
complete -c orc-status -l format -xa 'json text'
complete -c orc-status -l json
complete -c orc-status -l tmux
complete -c orc-status -s w -l watch
complete -c orc-status -l help
complete -c orc-status -l version
complete -c orc-task -n __fish_use_subcommand -xa 'cancel check depth done extend fail get limit limits list migrate pause performance prune release repair resume retry run send show slowest start'
complete -c orc-task -l account -r
complete -c orc-task -l after -r
complete -c orc-task -l at -r
complete -c orc-task -l attempts -r
complete -c orc-task -l correlation-id -r
complete -c orc-task -l dry-run
complete -c orc-task -l duration -r
complete -c orc-task -l error -r
complete -c orc-task -l exit -r
complete -c orc-task -l file -r
complete -c orc-task -l final
complete -c orc-task -l from -r
complete -c orc-task -l group -r
complete -c orc-task -l id -r
complete -c orc-task -l in -r
complete -c orc-task -l jobs -r
complete -c orc-task -l jsonl
complete -c orc-task -l lease -r
complete -c orc-task -s o -r
complete -c orc-task -l older-than -r
complete -c orc-task -l once
complete -c orc-task -l output -r
complete -c orc-task -l pid -r
complete -c orc-task -s p -l priority -xa 'critical high normal low'
complete -c orc-task -l reason -r
complete -c orc-task -s r -l recipient -r
complete -c orc-task -l status -r
complete -c orc-task -s n -l tail -r
complete -c orc-task -l to -xa '(orc-agent list -o name)'
complete -c orc-task -l token -r
complete -c orc-task -l ttl -r
complete -c orc-task -l type -r
complete -c orc-task -l until -r
complete -c orc-task -l wait
complete -c orc-task -l help
complete -c orc-task -l version
complete -c orc-team -n __fish_use_subcommand -xa 'bottlenecks events metrics queue restart start status stop'
complete -c orc-team -l agent -xa '(orc-agent list -o name)'
complete -c orc-team -l agents -r
complete -c orc-team -l debug
complete -c orc-team -l force
complete -c orc-team -l json
complete -c orc-team -l since -r
complete -c orc-team -l tail -r
complete -c orc-team -l help
complete -c orc-team -l version
complete -c tmux-orc -n __fish_use_subcommand -xa 'ack agent broker config daemon doctor heartbeat hook log monitor monitor publish pubsub ratelimit read recover restart run schedule state stats status task team'
complete -c tmux-orc -l help
complete -c tmux-orc -l version
complete -c orchestrator_manager.sh -n __fish_use_subcommand -xa 'clear-queues doctor logs restart setup start status stop'
complete -c orchestrator_manager.sh -l help
complete -c orchestrator_manager.sh -l version
