"""How things look on a terminal of 80 columns: renderables and lines for cli/, which prints them.

show.py     a probe's timeline, findings of `check`, what a replay came to
glance.py   all routes, the worst first: `mailprobe status`
traced.py   a mail's way: `mailprobe trace`
"""
