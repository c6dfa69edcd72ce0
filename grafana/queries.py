"""How the metrics are asked for.

Rules:
- Every metric is filtered by the page's variables: job and instance, and route or account where it has that label.
- Counters are shown as mails per minute: their area is the number of mails at any zoom, which `increase` over
  $__rate_interval, being longer than a step, is not.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROBER = 'job=~"$job",instance=~"$instance"'


def of_prober(metric: str, *more: str) -> str:
    """Series of the prober as a whole."""
    return f"mailprobe_{metric}{{{','.join((PROBER, *more))}}}"


def of_route(metric: str, *more: str) -> str:
    """Series of the routes that are looked at."""
    return of_prober(metric, 'route=~"$route"', *more)


def of_account(metric: str, *more: str) -> str:
    """Series of the accounts that are looked at."""
    return of_prober(metric, 'account=~"$account"', *more)


def _sum(by: tuple[str, ...]) -> str:
    return f"sum by ({', '.join(by)}) " if by else "sum"


def per_minute(selected: str, *by: str) -> str:
    """How often, summed over all else."""
    return f"60 * {_sum(by)}(rate({selected}[$__rate_interval]))"


def within(window: str, selected: str, *by: str) -> str:
    """How many in the last `window`."""
    return f"{_sum(by)}(increase({selected}[{window}]))"


def quantile(q: float, buckets: str, *by: str) -> str:
    """Of a histogram, in each interval."""
    return f"histogram_quantile({q}, sum by ({', '.join((*by, 'le'))}) (rate({buckets}[$__rate_interval])))"


def deadlines(window: str, met: str, *by: str) -> str:
    """How many deadlines passed in the last `window`, met = "true", "false" or, as a pattern, both."""
    return within(window, of_route("deadline_probes_total", f'met=~"{met}"'), *by)


def share(window: str, met: str, *by: str) -> str:
    """Which part of those whose end is known; nothing where there was no mail, which would be 0/0."""
    return f"{deadlines(window, met, *by)} / ({deadlines(window, 'true|false', *by)} > 0)"


UP = f"up{{{PROBER}}}"  # Prometheus' own
# 1 while the mailbox at a route's end is watched: route:mailprobe_watched:bool, for those who do not record it.
WATCHED = (
    f"{of_route('route_info')} * on (job, instance, recipient_account) group_left () "
    f'label_join({of_prober("mailbox_up")}, "recipient_account", "", "account")'
)
DEADLINE = of_route("route_deadline_seconds")


# -- as a panel takes them -----------------------------------------------------------------------------------------


def series(expr: str, legend: str) -> Dataquery:
    """Lines over time."""
    return Dataquery().expr(expr).legend_format(legend).range()


def limits() -> list[Dataquery]:
    """The deadlines of the routes that are looked at, to draw beside what they limit."""
    return [series(f"min({DEADLINE})", "shortest deadline"), series(f"max({DEADLINE})", "longest deadline")]


def traced(expr: str, legend: str) -> Dataquery:
    """Lines over time, with the probes that made them: an exemplar's `probe` is the id in the log and the ledger."""
    return series(expr, legend).exemplar(exemplar=True)


def buckets(expr: str) -> Dataquery:
    """A histogram's buckets over time, for a heatmap."""
    return traced(expr, "{{le}}").format(PromQueryFormat.HEATMAP)


def now(expr: str, legend: str = "") -> Dataquery:
    """The values of this moment."""
    return Dataquery().expr(expr).legend_format(legend).instant()


def rows(expr: str) -> Dataquery:
    """The values of this moment as a table's column."""
    return now(expr).format(PromQueryFormat.TABLE)
