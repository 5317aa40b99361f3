"""What every Muster process shares: settings, logs, tasks, signals, health."""
