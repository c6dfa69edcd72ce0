"""`mailprobe demo`: the real daemon against the embedded provider (provider/), and what is played.

scenarios.py   the stories, as data
world.py       a clock of its own: an event loop on which days pass in minutes
stage.py       daemon, provider and story in one process; at the end, what was measured beside what was done
"""
