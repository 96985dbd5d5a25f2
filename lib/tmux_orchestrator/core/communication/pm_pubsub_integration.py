"""The documented import path of the project manager's interface, which is `watch.pm`."""

from tmux_orchestrator.watch.pm import PMPubsubIntegration, create_pm_monitoring_script

__all__ = ["PMPubsubIntegration", "create_pm_monitoring_script"]
