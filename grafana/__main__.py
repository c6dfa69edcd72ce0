"""Write dashboards/*.json. Rule: the same sources give the same bytes, so that a test can compare."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana import overview, prober, route

DIRECTORY = Path(__file__).parent / "dashboards"
PAGES = {"overview": overview.page, "route": route.page, "prober": prober.page}


def texts() -> dict[str, str]:
    """What is to be in dashboards/, by file name."""
    encoder = JSONEncoder(indent=1, sort_keys=True, ensure_ascii=False)
    return {f"{name}.json": encoder.encode(page()) + "\n" for name, page in PAGES.items()}


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in texts().items():
        (DIRECTORY / name).write_text(text, encoding="utf-8")
