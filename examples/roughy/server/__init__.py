"""Running Roughy: its commands, its logs, how it is watched, and how it stops."""
