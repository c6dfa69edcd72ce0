"""What the API promises, as an OpenAPI 3.1 document: made of the same names and limits that it keeps.

Rule: every field is there in every answer; what may be unknown, or is not for the public, may be null.
"""

from __future__ import annotations

from typing import Any, get_args

from probe.api.asked import CURSOR, MOST, PROBE, ROUTE, TIME, USUAL
from probe.core.events import Detection, Event, NoticeAction, Placement, Segment, Stage
from probe.core.state import State
from probe.core.trouble import Kind, Origin, RouteState, Toll

Schema = dict[str, Any]


def _type(name: str, about: str = "", **more: Any) -> Schema:
    return {"type": name, **more, **({"description": about} if about else {})}


def _or_null(of: Schema) -> Schema:
    if "$ref" in of:
        return {"oneOf": [of, {"type": "null"}]}
    return {**of, "type": [of["type"], "null"], **({"enum": [*of["enum"], None]} if "enum" in of else {})}


def _object(about: str = "", optional: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    required = [name for name in fields if name not in optional]
    return _type("object", about, properties=fields, required=required, additionalProperties=False)


def _list(of: Schema, about: str = "") -> Schema:
    return _type("array", about, items=of)


def _one_of(words: Any, about: str = "") -> Schema:
    return _type("string", about, enum=[str(word) for word in words])


def _text(about: str = "") -> Schema:
    return _type("string", about)


def _seconds(about: str = "") -> Schema:
    return _type("number", about or "Seconds.")


def _count(about: str = "") -> Schema:
    return _type("integer", about, minimum=0)


def _time(about: str = "") -> Schema:
    return _type("string", about, format="date-time", examples=["2007-01-26T09:00:00.000Z"])


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_HIDDEN = "Null on a public page."
_SPAN = {
    "low_seconds": _or_null(_seconds("At least so long.")),
    "high_seconds": _or_null(_seconds("At most so long.")),
    "resolution_seconds": _or_null(_seconds("Of the stamps that tell.")),
}
_DEMO = _object(
    "Null: the mail is real. Else an embedded provider plays a story, and all times are those of its clock.",
    begins=_time("Of the story."),
    speed=_or_null(_type("number", "At most so many of its seconds pass in one of ours; 1: it happens now; null: as "
                         "many as the machine can.")),
)  # fmt: skip
_HELD = _object("Who had these mails longest, per mail on average.", segment=_text(),
                low_seconds=_seconds(), high_seconds=_seconds())  # fmt: skip

_PROBE: dict[str, Schema] = {
    "id": _type("string", pattern=PROBE),
    "route": _text(),
    "state": _one_of(State),
    "started": _or_null(_time("When the submission began.")),
    "accepted": _or_null(_time("From when on the provider answers for the mail, or may have to.")),
    "seen": _or_null(_time("Its first arrival.")),
    "latency_seconds": _or_null(_seconds("From accepted to seen, by the boot clock where it can be.")),
    "doubtful": _type("boolean", "The latency says too little to be counted."),
    "missed_deadline_seconds": _or_null(_seconds("The longest deadline that it missed.")),
    "unknown_deadline_seconds": _or_null(_seconds("The longest deadline of which nobody could see.")),
    "placement": _or_null(_one_of(get_args(Placement))),
    "held_longest_by": _or_null(_one_of(get_args(Segment), "Who had the mail longest, by its header.")),
    "held_seconds": _or_null(_seconds("For so long: the middle of what is possible.")),
    "status": _or_null(_text(f"Of a bounce or refusal the status or code, of a failure the reason. {_HIDDEN}")),
}

_EVENT = _object(
    "Something that happened to a probe. Which fields there are depends on the kind.",
    ("due", "since", "not_before", "stored", "stage", "stages", "placement", "detection", "genuine", "action",
     "deadline_seconds", "met", "reply", "queue_id", "reason", "detail", "status", "text", "reporting_mta", "matched",
     "place"),
    kind=_one_of(kind.__name__.lower() for kind in get_args(Event)),
    at=_or_null(_time()),
    seconds=_seconds("Since the submission began, by the boot clock where it can be."),
    due=_or_null(_time("The schedule's instant.")),
    since=_or_null(_time("From when on the provider may have had it.")),
    not_before=_or_null(_time("The last moment at which the mailbox was known not to hold it.")),
    stored=_or_null(_time("The server's own stamp (INTERNALDATE).")),
    stage=_one_of(get_args(Stage)),
    stages=_list(_object(stage=_one_of(get_args(Stage)), seconds=_seconds())),
    placement=_one_of(get_args(Placement)),
    detection=_one_of(get_args(Detection)),
    genuine=_type("boolean", "To the letter our own mail."),
    action=_one_of(get_args(NoticeAction)),
    deadline_seconds=_or_null(_seconds()),
    met=_or_null(_type("boolean", "Null: nobody could see.")),
    reply=_object(code=_type("integer"), status=_text(), text=_text()),
    queue_id=_text(), reason=_text(), detail=_text(), status=_text(), text=_text(), reporting_mta=_text(),
    matched=_text(),
    place=_object(account=_text(), folder=_text(), uidvalidity=_type("integer"), uid=_type("integer")),
)  # fmt: skip

SCHEMAS: dict[str, Schema] = {
    "Error": _object(
        error=_one_of(("bad_request", "not_found", "method_not_allowed", "unavailable")),
        detail=_text("What is wrong, in one line."),
    ),
    "Share": _object(
        "What probes came to, each counted once.",
        sent=_count(),
        open=_count("Not decided yet."),
        refused=_count("Rejected, deferred, failed."),
        unknown=_count("Nobody could see whether they were in time."),
        in_time=_count("Came, and missed no deadline."),
        late=_count("Accepted, and missed a deadline, bounced or lost."),
        in_time_ratio=_or_null(_type("number", "in_time ÷ (in_time + late)", minimum=0, maximum=1)),
    ),
    "Totals": _object(
        states=_object(**{state.value: _count() for state in State}),
        placements=_object(**{name: _count() for name in get_args(Placement)}),
        held_longest_by=_list(_object(segment=_text(), probes=_count(), seconds=_seconds())),
        latency_seconds=_or_null(_object(count=_count(), median=_seconds(), p95=_seconds(), p99=_seconds(),
                                         max=_seconds())),
    ),
    "Incident": _object(
        id=_text(), route=_text(), kind=_one_of(get_args(Kind)), worst=_one_of(RouteState),
        begin=_or_null(_time("When it began for people who send mail.")),
        noticed=_or_null(_time("When it was noticed.")),
        end=_or_null(_time("Null: it lasts.")),
        open=_type("boolean"),
        duration_seconds=_seconds("Until its end, or until now."),
        peak_seconds=_seconds("The longest time a mail was held; of the other kinds, the longest time in which nothing "
                              "was taken, delivered or seen. With a route as of now, else as of the last event."),
        mails=_object(affected=_count(), **{name: _count() for name in Toll._fields}),
        held_longest_by=_or_null(_HELD),
        origin=_one_of(get_args(Origin), "live: told while it happened. left: the same, until its route was configured "
                       "no more; it lasted until its end at least. replayed: found again in what an older version "
                       "recorded. cut: the same, and open where that ends; it lasted until its end at least."),
    ),
    "Prober": _object(
        version=_or_null(_text(_HIDDEN)), since=_or_null(_time()), up_seconds=_seconds(),
        mailboxes=_list(_object(account=_or_null(_text(_HIDDEN)), watched=_type("boolean"),
                                reason=_or_null(_text(_HIDDEN)))),
        record_ok=_type("boolean", "Whether the ledger can be written."), record_error=_or_null(_text(_HIDDEN)),
        configuration_ok=_type("boolean", "Whether the configuration is the one that was read last."),
        configuration_error=_or_null(_text(_HIDDEN)),
        demo=_or_null(_DEMO),
    ),
    "Route": _object(
        **{"name": _text(), "from": _or_null(_text(_HIDDEN)), "to": _or_null(_text(_HIDDEN))},
        state=_one_of(RouteState), reason=_text("A key; docs/incidents.md has them all."),
        since=_or_null(_time()), in_flight=_count(), oldest_in_flight_since=_or_null(_time()),
        oldest_in_flight_seconds=_or_null(_seconds()), last_delivery=_or_null(_time()),
        last_latency_seconds=_or_null(_seconds()),
        totals=_object("All probes on record.", sent=_count(), **{state.value: _count() for state in State}),
        last_24_hours={**_or_null(_ref("Share")), "description": "Null: the record cannot be read now."},
        incidents=_list(_ref("Incident"), "Those that are open."),
    ),
    "Routes": _object(prober=_ref("Prober"), routes=_list(_ref("Route"))),
    "Probe": _object(**_PROBE),
    "Probes": _object(
        probes=_list(_ref("Probe"), "May be fewer than the limit, or none, where more follow."),
        next=_or_null(_text("The cursor of the next page; null: this was the last.")),
    ),
    "Incidents": _object(
        incidents=_list(_ref("Incident")), next=_or_null(_text("The cursor of the next page; null: this was the last."))
    ),
    "Event": _EVENT,
    "Life": _object(
        **_PROBE,
        **{"from": _or_null(_text(_HIDDEN)), "to": _or_null(_text(_HIDDEN))},
        segments=_list(_object("Who had the mail for how long.", ("resolution_seconds",),
                               segment=_one_of(get_args(Segment)), **_SPAN)),
        hosts=_or_null(_list(_object("", ("resolution_seconds",), host=_text(), **_SPAN), _HIDDEN)),
        authentication=_or_null(_list(_object(method=_text(), result=_text()), f"By the receiver's word. {_HIDDEN}")),
        spam=_or_null(_list(_text(), f"What the receiver's filters said. {_HIDDEN}")),
        headers=_or_null(_list(_text(), f"Header blocks of its mails and bounces, as far as they are kept. {_HIDDEN}")),
        timeline=_list(_ref("Event"), "In the order in which they were recorded."),
        complete=_type("boolean", "False: there is more than is told here (1,000 events, 20 headers of 64 KiB each)."),
    ),
}  # fmt: skip
SCHEMAS["RouteInFull"] = _object(
    **SCHEMAS["Route"]["properties"],
    last_24_hours_in_full={**_or_null(_ref("Totals")), "description": "Null: the record cannot be read now."},
)

_ERRORS = {
    400: ("BadRequest", "bad_request", "limit: 'x' is no number from 1 to 500"),
    404: ("NotFound", "not_found", "there is no route 'x'"),
    405: ("MethodNotAllowed", "method_not_allowed", "here only GET and HEAD are answered"),
    503: ("Unavailable", "unavailable", "the record cannot be read now; try again in a few seconds"),
}
_HEADERS = {"ETag": {"description": "Strong.", "schema": {"type": "string"}}}


def _query(name: str, about: str, schema: Schema, **more: Any) -> Schema:
    return {"name": name, "in": "query", "description": about, "schema": schema, **more}


QUERIES = {
    "route": _query("route", "Only this route's.", _type("string", pattern=ROUTE)),
    "since": _query("since", "RFC 3339. Nothing older.", _type("string", pattern=TIME, format="date-time")),
    "until": _query("until", "RFC 3339. Nothing of then or newer.", _type("string", pattern=TIME, format="date-time")),
    "limit": _query("limit", "At most so many.", _type("integer", minimum=1, maximum=MOST, default=USUAL)),
    "cursor": _query("cursor", "What `next` said on the page before; the rest of the query must stay the same.",
                     _type("string", pattern=CURSOR)),
    "state": _query("state", "Only these; may be there several times.",
                    _type("array", items=_one_of(State), minItems=1), style="form", explode=True),
    "open": _query("open", "Only those that last, or only those that do not.", _type("boolean")),
}  # fmt: skip


def _path(name: str, pattern: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": _type("string", pattern=pattern)}


# path → summary, schema of the answer, parameters, errors
_PATHS: dict[str, tuple[str, str, list[Schema], tuple[int, ...]]] = {
    "/api/v1/routes": ("Every configured route as it is now, and the prober itself", "Routes", [], ()),
    "/api/v1/routes/{name}": ("A route, with the last day in full", "RouteInFull", [_path("name", ROUTE)], (404,)),
    "/api/v1/probes": (
        "Probes, the newest first", "Probes",
        [QUERIES[name] for name in ("route", "state", "since", "until", "limit", "cursor")], (404, 503),
    ),
    "/api/v1/probes/{id}": ("All that is on record of a probe", "Life", [_path("id", PROBE)], (404, 503)),
    "/api/v1/incidents": (
        "Incidents of which a part lies in a span, the latest first", "Incidents",
        [QUERIES[name] for name in ("route", "since", "until", "open", "limit", "cursor")], (404, 503),
    ),
    "/api/v1/openapi.json": ("This document", "", [], ()),
}  # fmt: skip
PATHS = tuple(_PATHS)


def parameters(path: str) -> tuple[str, ...]:
    """The names that may stand in this path's query."""
    return tuple(it["name"] for it in _PATHS[path][2] if it["in"] == "query")


def _operation(path: str) -> Schema:
    summary, schema, asked, errors = _PATHS[path]
    body = {"application/json": {"schema": _ref(schema) if schema else {"type": "object"}}}
    responses: dict[str, Schema] = {
        "200": {"description": "OK", "headers": _HEADERS, "content": body},
        "304": {"description": "As the client has it already (If-None-Match).", "headers": _HEADERS},
    }
    for code in (400, *errors, 405):
        responses[str(code)] = {"$ref": f"#/components/responses/{_ERRORS[code][0]}"}
    tag = path.removeprefix("/api/v1/").partition("/")[0].removesuffix(".json")
    return {"summary": summary, "tags": [tag], "parameters": asked, "responses": dict(sorted(responses.items()))}


def document(version: str, examples: dict[str, Any] | None = None) -> Schema:
    """The document. `version`: the program's, "" where that is nobody's business; `examples`: answers, by schema."""
    paths: dict[str, Schema] = {}
    for path in PATHS:
        name = path.removeprefix("/api/v1/").replace("/{", "_by_").rstrip("}").replace(".json", "")
        get, head = _operation(path), _operation(path)
        if example := (examples or {}).get(_PATHS[path][1]):
            get["responses"]["200"]["content"]["application/json"]["example"] = example
        for response in head["responses"].values():
            response.pop("content", None)
        for code in [code for code in head["responses"] if int(code) >= 400]:
            head["responses"][code] = {"description": _ERRORS[int(code)][0]}
        paths[path] = {
            "get": {"operationId": f"get_{name}", **get},
            "head": {"operationId": f"head_{name}", **head, "summary": f"{get['summary']}: the headers alone"},
        }
    errors = {
        name: {
            "description": name,
            "content": {"application/json": {"schema": _ref("Error"), "example": {"error": word, "detail": detail}}},
        }
        for name, word, detail in _ERRORS.values()
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mailprobe",
            "version": version or "1",
            "summary": "How long mail providers hold mail, by test mails.",
            "description": "Times are RFC 3339 in UTC, durations are seconds.",
            "license": {"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": SCHEMAS, "responses": errors},
    }
