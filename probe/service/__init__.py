"""What a service manager is told of a daemon at work, systemd above all.

notify.py        sd_notify(3): readiness, status, watchdog
status.py        how it stands, in one line
supervision.py   when which of these is told; the watchdog is fed by progress
"""
