"""The dashboards, written in Python: `make dashboards` writes dashboards/*.json, which is what Grafana reads.

Rule: a page's file (overview, route, prober) says what is on the page and why; how a panel is made stands in panels.py,
and what all pages share in page.py.
"""
