"""Who lives, who works, who waits, and what is done about it. Begin with `monitor`, which calls the others:

- looking: `strategies`, `rollout`, `looking`; `deaths`, which the kernel tells of; `lives`, what is known over time
- telling: `matters` (what stands), `notices` (what is told, once), `health`, `questions`, `escalation`
- heartbeats: `pulse` sends, `datagram` is their form, `heartbeat` listens, `judge` says which count, `silence` and
  `hearing` what follows when none come
- coming back: `recovery` by the rules of `agents.policy`; `succession`, `incidents`, `briefing`, `reports`
- components that fall: `revival`
- time: `schedule` by `ground.timetable`, `checkins`; `tail` and `gleaned`, what the monitor goes by in the log
- the project manager's Python: `pm`, `notifications`
- the state updater, a process of its own: `updater`, `changes`, `sessions`
"""
