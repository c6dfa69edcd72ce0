"""How a panel is made.

Rules:
- No panel without title, description, unit and a text for "no data": each is an argument without default.
- Green, yellow, red mean fine, look, act, on every page; what is neither has a neutral colour.
- A panel says its width in 24ths of the page; the page puts it after the one before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as _Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import common, dashboard, heatmap, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale

from grafana.queries import rows

Panel = Builder[model.Panel]
Steps = Sequence[tuple[float | None, str]]  # from this value on, this colour; None: from the beginning
Mapping = _Mapping[int, tuple[str, str]]  # value → text, colour

PER_MINUTE = "suffix: /min"
DATASOURCE = kinds.DataSourceRef(type_val="prometheus", uid="${datasource}")
PLAIN: Steps = ((None, "text"),)
NONE_IS_GOOD: Steps = ((None, "green"), (1, "red"))
SHARE: Steps = ((None, "red"), (0.95, "yellow"), (0.99, "green"))
NOTHING = "no data: no prober, or not scraped"
ALARM, GREY = "orange", "#6e7077"  # of a figure without data: something is wrong, or nothing has happened yet
OUTCOMES = {"accepted": "green", "deferred": "yellow", "rejected": "red", "failed": "orange", "unconfirmed": "purple"}
MET = {"met": "green", "missed": "red", "unknown": "purple"}
LIMITS = {"shortest deadline": "yellow", "longest deadline": "red"}
PLACEMENTS = {"inbox": "green", "junk": "red", "other": "yellow"}

_P = TypeVar("_P", stat.Panel, timeseries.Panel, heatmap.Panel, table.Panel, statetimeline.Panel)


def _begin(
    panel: _P, title: str, text: str, queries: Sequence[Dataquery], unit: str, empty: str, size: tuple[int, int]
) -> _P:
    panel.title(title).description(text).datasource(DATASOURCE).unit(unit).no_value(empty)
    panel.span(size[0]).height(size[1])
    for number, query in enumerate(queries):
        panel.with_target(query.datasource(DATASOURCE).ref_id(chr(ord("A") + number)))
    return panel


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value, colour) for value, colour in steps])
    )


def _mappings(mapping: Mapping | None) -> list[model.ValueMapping]:
    nan = model.DashboardSpecialValueMapOptions(
        match=model.SpecialValueMatch.NA_N, result=model.ValueMappingResult(text="–", color="text", index=99)
    )
    values = {
        str(value): model.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate((mapping or {}).items())
    }
    found: list[model.ValueMapping] = [model.SpecialValueMap(nan)]  # no mail yet
    return [model.ValueMap(values), *found] if values else found


def _coloured(panel: timeseries.Panel, colours: _Mapping[str, str]) -> None:
    for name, colour in colours.items():
        # "met 30 s" is a "met"
        panel.override_by_regexp(
            f"/^{re.escape(name)}( |$)/", [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})]
        )


def figure(
    title: str,
    text: str,
    query: Dataquery,
    *,
    unit: str,
    empty: str,
    steps: Steps = PLAIN,
    mapping: Mapping | None = None,
    link: str | None = None,
    when_empty: str = ALARM,
    size: tuple[int, int] = (4, 4),
) -> Panel:
    """One number in large type, its background coloured: what is read first. `when_empty`: the colour of `empty`, which
    would else be that of the first step."""
    null = model.DashboardSpecialValueMapOptions(
        match=model.SpecialValueMatch.NULL, result=model.ValueMappingResult(color=when_empty, index=98)
    )
    panel = _begin(stat.Panel(), title, text, [query], unit, empty, size)
    panel.thresholds(_thresholds(steps)).mappings([*_mappings(mapping), model.SpecialValueMap(null)])
    panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    panel.color_mode(
        kinds.BigValueColorMode.NONE if steps is PLAIN and not mapping else kinds.BigValueColorMode.BACKGROUND
    )
    panel.graph_mode(kinds.BigValueGraphMode.NONE).text_mode(kinds.BigValueTextMode.AUTO)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if link:
        panel.data_links([dashboard.DashboardLink("More").url(link)])
    return panel


def lines(
    title: str,
    text: str,
    *queries: Dataquery,
    unit: str,
    empty: str,
    steps: Steps = (),
    log: bool = False,
    stacked: bool = False,
    colours: _Mapping[str, str] | None = None,
    size: tuple[int, int] = (12, 8),
) -> Panel:
    """Values over time. `steps` are drawn as lines; `log` for what spans milliseconds to days."""
    panel = _begin(timeseries.Panel(), title, text, queries, unit, empty, size)
    if not log:
        panel.min(0)
    # A line on top of a stack would be that of the last series, though it be zero.
    panel.line_width(0 if stacked else 1).fill_opacity(70 if stacked else 5).show_points(kinds.VisibilityMode.AUTO)
    if unit == PER_MINUTE:
        panel.axis_soft_max(1)  # an axis up to 100 for nothing but zeros says nothing
    panel.span_nulls(span_nulls=False)  # a gap is a fact: nobody measured then
    if stacked:
        panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL))
        panel.line_interpolation(kinds.LineInterpolation.STEP_AFTER)
    if log:
        panel.scale_distribution(common.ScaleDistributionConfig().type(kinds.ScaleDistribution.LOG).log(10))
    if steps:
        panel.thresholds(_thresholds(steps))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED))
    panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    panel.legend(
        common.VizLegendOptions()
        .display_mode(kinds.LegendDisplayMode.TABLE)
        .placement(kinds.LegendPlacement.RIGHT if size[0] > 8 else kinds.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
        .calcs(["lastNotNull", "max"])
        .sort_by("Max")
        .sort_desc(sort_desc=True)
    )
    panel.tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
    _coloured(panel, colours or {})
    return panel


def heat(title: str, text: str, query: Dataquery, *, unit: str, empty: str, size: tuple[int, int] = (12, 8)) -> Panel:
    """A histogram over time: the darker, the more. `unit` is the buckets'."""
    panel = _begin(heatmap.Panel(), title, text, [query], PER_MINUTE, empty, size)
    panel.calculate(calculate=False).cell_gap(1).exemplars_color("rgba(255,255,255,0.9)").show_legend()
    panel.filter_values(heatmap.FilterValueRange().le(1e-9))  # empty cells are not drawn
    panel.y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(kinds.AxisPlacement.LEFT))
    panel.cell_values(heatmap.CellValues().unit(PER_MINUTE))
    panel.color(
        heatmap.HeatmapColorOptions()
        .mode(HeatmapColorMode.SCHEME)
        .scheme("Spectral")
        .scale(HeatmapColorScale.EXPONENTIAL)
        .exponent(0.5)  # a single slow mail must be seen beside a thousand quick ones
        .steps(64)
    )
    panel.tooltip(heatmap.HeatmapTooltip().mode(kinds.TooltipDisplayMode.SINGLE).y_histogram(y_histogram=True))
    return panel


def spans(
    title: str,
    text: str,
    query: Dataquery,
    *,
    empty: str,
    mapping: Mapping,
    size: tuple[int, int] = (12, 8),
) -> Panel:
    """States over time, a row each: since when."""
    panel = _begin(statetimeline.Panel(), title, text, [query], "none", empty, size)
    panel.mappings(_mappings(mapping)).show_value(kinds.VisibilityMode.NEVER).merge_values(merge_values=True)
    panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    panel.legend(
        common.VizLegendOptions()
        .display_mode(kinds.LegendDisplayMode.LIST)
        .placement(kinds.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
        .calcs([])
    )
    return panel


@dataclass(frozen=True)
class Column:
    """Of a table: the values of `query`, or the label `label` that the queries have. Without name it is not shown."""

    name: str
    query: str = ""
    label: str = ""
    unit: str = "none"
    steps: Steps = PLAIN
    mapping: Mapping | None = None
    link: str = ""
    width: int = 0
    decimals: int | None = None  # of counts: increase() extrapolates


def grid(
    title: str,
    text: str,
    *columns: Column,
    empty: str,
    sort: Sequence[str],
    size: tuple[int, int] = (12, 8),
) -> Panel:
    """A table of now. `sort`: names of columns, the greatest value first; a leading "-" turns it round."""
    asked = [column.query for column in columns if column.query]
    panel = _begin(table.Panel(), title, text, [rows(query) for query in asked], "none", empty, size)
    columns = tuple(column for column in columns if column.name)
    raw = {column.name: column.label or f"Value #{chr(ord('A') + asked.index(column.query))}" for column in columns}
    if len(asked) == 1:  # Grafana then says no number
        raw |= {column.name: "Value" for column in columns if column.query}
    # The queries share all their labels, so their rows become one; what has no column here is hidden.
    wanted = "|".join(map(re.escape, raw.values()))
    panel.with_transformation(model.DataTransformerConfig("merge", options={}))
    panel.with_transformation(
        model.DataTransformerConfig("filterFieldsByName", options={"include": {"pattern": f"^({wanted})$"}})
    )
    panel.with_transformation(
        model.DataTransformerConfig(
            "organize",
            options={
                "indexByName": {raw[column.name]: index for index, column in enumerate(columns)},
                "renameByName": {raw[column.name]: column.name for column in columns},
                "excludeByName": {},
            },
        )
    )
    panel.sort_by(
        [
            common.TableSortByFieldState().display_name(name.removeprefix("-")).desc(desc=not name.startswith("-"))
            for name in sort
        ]
    )
    panel.cell_height(kinds.TableCellHeight.SM)
    for column in columns:
        panel.override_by_name(column.name, _properties(column))
    return panel


def _properties(column: Column) -> list[model.DynamicConfigValue]:
    found = [model.DynamicConfigValue("unit", column.unit)]
    found.append(model.DynamicConfigValue("mappings", _mappings(column.mapping)))
    if column.decimals is not None:
        found.append(model.DynamicConfigValue("decimals", column.decimals))
    if column.steps is not PLAIN or column.mapping:
        quiet = [(value, "transparent" if colour == "green" else colour) for value, colour in column.steps]
        found += [
            model.DynamicConfigValue("thresholds", _thresholds(quiet).build()),
            model.DynamicConfigValue("color", {"mode": "thresholds"}),
            model.DynamicConfigValue("custom.cellOptions", {"type": "color-background", "mode": "basic"}),
        ]
    if column.link:
        found.append(model.DynamicConfigValue("links", [{"title": "More", "url": column.link}]))
    if column.width:
        found.append(model.DynamicConfigValue("custom.width", column.width))
    return found
