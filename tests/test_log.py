"""The log: lines for a person and for grep, into which nobody can write a second line."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probe.core.events import Stay
from probe.core.match import Verdict
from probe.core.outcome import Outcome
from probe.log import LogSink, configure, line, log

from .make import (
    BUSY,
    PROBE,
    accepted,
    after_reboot,
    arrived,
    bounced,
    deferred,
    expired,
    failed,
    judged,
    make_probe,
    notified,
    rejected,
    sending,
    traced,
    unconfirmed,
)


@pytest.fixture
def stderr(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What was written to standard error so far; the logging configuration is restored afterwards."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], (root.level, log.level)
    root.handlers[:] = []
    yield lambda: capfd.readouterr().err
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    log.setLevel(levels[1])


def journal() -> dict[str, str]:
    """What systemd sets when standard error is the journal's (systemd.exec(5)): its device and inode."""
    status = os.fstat(2)
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


# -- line() --------------------------------------------------------------------------------------------------------


def test_a_line_is_the_event_and_its_fields_in_order() -> None:
    assert line("accepted", route="r", code=250, queue_id=None, took=1.23456) == "accepted route=r code=250 took=1.235"
    assert line("stopped") == "stopped"


def test_texts_with_spaces_or_none_at_all_are_quoted() -> None:
    assert line("x", text="no such user", empty="") == 'x text="no such user" empty=""'
    assert line("x", text='said "no" twice') == "x text=\"said 'no' twice\""


@given(st.text())
@example("a\nevent=forged")
@example("a\r\nb")
@example("\u2028\u2029\x85\x0b\x0c\x1c")
@example("\x1b[31mred\ud800")
def test_no_text_makes_a_second_line_or_a_control_character(text: str) -> None:
    made = line("x", text=text)
    assert len(made.splitlines()) == 1
    assert made.isprintable()
    made.encode()


FIELD = re.compile(r' (\w+)=("[^"]*"|[^ "]*)')


@given(st.dictionaries(st.sampled_from("abcdef"), st.text(), max_size=4))
@example({"a": '"', "b": "x y"})
@example({"a": 'x="1', "b": "2"})
def test_the_fields_of_a_line_can_be_told_apart_whatever_stands_in_them(fields: dict[str, str]) -> None:
    made = line("x", **fields)
    assert FIELD.sub("", made) == "x"
    assert [name for name, _ in FIELD.findall(made)] == list(fields)


# -- where it goes -------------------------------------------------------------------------------------------------


def test_in_the_journal_each_line_begins_with_its_priority(stderr: Callable[[], str]) -> None:
    configure(journal())
    log.info("one")
    log.warning("two")
    log.error("three")
    log.debug("not shown")
    logging.getLogger("aiohttp").info("not shown either")
    logging.getLogger("aiohttp").warning("four")
    assert stderr().splitlines() == ["<6>one", "<4>two", "<3>three", "<4>four"]


def test_in_the_journal_each_line_of_a_traceback_begins_with_its_priority(stderr: Callable[[], str]) -> None:
    # Each line is an entry of its own there: without a priority, journalctl -p err shows the first and hides the rest.
    configure(journal())
    try:
        raise ValueError("first\n<0>second")
    except ValueError:
        log.exception("bug")
    lines = stderr().splitlines()
    assert len(lines) > 3
    assert all(it.startswith("<3>") for it in lines)


def test_elsewhere_each_line_begins_with_its_time(stderr: Callable[[], str]) -> None:
    configure({})
    log.warning("two")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING two\n", stderr())


def test_a_journal_that_is_not_our_standard_error_is_none(stderr: Callable[[], str]) -> None:
    # systemd.exec(5): "it is generally not sufficient to only check whether $JOURNAL_STREAM is set at all", since
    # whoever runs us from a session's terminal inherits it.
    with tempfile.TemporaryFile() as other:
        status = os.fstat(other.fileno())
        configure({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    log.warning("two")
    assert not stderr().startswith("<")


def test_debug_is_shown_when_asked_for(stderr: Callable[[], str]) -> None:
    configure(journal(), logging.DEBUG)
    log.debug("one")
    assert stderr() == "<7>one\n"


# -- the sink ------------------------------------------------------------------------------------------------------


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    found = [(record.levelname, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return found


def test_each_outcome_is_one_line_at_its_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mailprobe")
    sink, about = LogSink(), f"route=r probe={PROBE}"
    for event, level, text in [
        (sending(), "DEBUG", f"sending {about}"),
        (accepted(), "INFO", f"accepted {about} queue_id=X1 code=250"),
        (deferred(), "WARNING", f"deferred {about} stage=envelope reason=greylisted code=451 text=greylisted"),
        (rejected(), "WARNING", f'rejected {about} stage=data reason=no_such_user code=550 text="no such user"'),
        (failed(), "WARNING", f'failed {about} stage=connect reason=refused detail="connection refused"'),
        (unconfirmed(), "WARNING", f"unconfirmed {about} stage=data reason=lost detail=EOF"),
        (expired(), "WARNING", f"lost {about}"),
        (expired(looked=False), "WARNING", f"lost {about} looked=False"),
    ]:
        sink.observe(Outcome(event, None, make_probe(sending())))
        assert said(caplog) == [(level, text)]


def test_an_arrival_is_told_with_its_latency_when_it_is_measured(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mailprobe")
    before, after = (
        make_probe(sending(), accepted(0.5)),
        make_probe(sending(), accepted(0.5), arrived(4.5, not_before=4.25)),
    )
    seen = arrived(4.5, not_before=4.25)
    LogSink().observe(Outcome(seen, before, after, Verdict.DELIVERED))
    LogSink().observe(Outcome(seen, after, after, Verdict.SEEN_BEFORE))
    LogSink().observe(Outcome(seen, None, None, Verdict.FOREIGN))
    about = f"route=r probe={PROBE}"
    assert said(caplog) == [
        ("INFO", f"delivered {about} latency=4.000 uncertainty=0.250 detection=idle folder=INBOX"),
        ("DEBUG", f"seen_before {about} detection=idle folder=INBOX"),
        ("DEBUG", f"foreign probe={PROBE} detection=idle folder=INBOX"),
    ]


def test_who_held_a_mail_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mailprobe")
    held = dataclasses.replace(traced(), stays=(Stay("a.example", 0.0, 1.0), Stay("mx.b.example", 18.0, 20.5)))
    LogSink().observe(Outcome(held, None, make_probe(sending(), accepted(), arrived(22.0), held)))
    way = "submission=0.500 sender=0.000..1.200 recipient=0.000..1.400"
    assert said(caplog) == [("INFO", f"traced route=r probe={PROBE} {way} held_by=mx.b.example spf=pass")]


def test_a_mail_hosts_clock_that_was_set_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mailprobe")
    LogSink().host_clock_set("mx.b.example", (29.5, 31.25))
    assert said(caplog) == [("INFO", "host_clock_set host=mx.b.example seconds=29.500..31.250")]


def test_a_servers_words_cannot_write_a_line_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mailprobe")
    nasty = "sorry\r\n<0>accepted route=r\x1b[2J\ud800"
    reply = BUSY._replace(text=nasty)
    sink = LogSink()
    sink.observe(Outcome(dataclasses.replace(deferred(), reply=reply), None, make_probe(sending())))
    sink.observe(Outcome(dataclasses.replace(failed(), detail=nasty), None, make_probe(sending())))
    sink.mailbox_down("own", "timeout", nasty, 2.0)
    sink.note("own", nasty)
    sink.committed(0, 0.0, nasty)
    lines = [text for _, text in said(caplog)]
    assert len(lines) == 5
    assert all(text.isprintable() for text in lines)


def test_trouble_with_the_disk_is_told_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    sink = LogSink()
    for error in (None, "full", "full", "full", None, None):
        sink.committed(1, 0.001, error)
    assert said(caplog) == [("ERROR", "ledger_unwritable reason=full"), ("WARNING", "ledger_writable_again")]


def test_a_deadline_that_was_missed_or_not_seen_is_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    probe = make_probe(sending(), accepted())
    for met in (True, None, False):
        LogSink().observe(Outcome(judged(met=met), probe, probe))
    assert said(caplog) == [
        ("WARNING", f"deadline_unknown route=r probe={PROBE} deadline=30.000"),
        ("WARNING", f"deadline_missed route=r probe={PROBE} deadline=30.000"),
    ]


def test_what_comes_back_is_told_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    probe, back = make_probe(sending(), accepted()), bounced()
    LogSink().observe(Outcome(notified(), probe, probe, Verdict.NOTICE))
    LogSink().observe(Outcome(back, probe, make_probe(sending(), accepted(), back), Verdict.BOUNCED))
    LogSink().observe(Outcome(back, None, None, Verdict.FOREIGN))
    about = f"route=r probe={PROBE}"
    assert said(caplog) == [
        ("WARNING", f'delayed {about} status=4.4.1 text="no answer from host" by=mx.example.org'),
        ("WARNING", f'bounced {about} status=5.1.1 text="no such user" by=mx.example.org'),
    ]


def test_a_measurement_by_the_wall_clock_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    late = dataclasses.replace(arrived(), at=after_reboot(60.5))
    before, after = make_probe(sending(), accepted(0.5)), make_probe(sending(), accepted(0.5), late)
    LogSink().observe(Outcome(late, before, after, Verdict.DELIVERED))
    [(_, text)] = said(caplog)
    assert "latency=60.000" in text
    assert "clock=wall" in text


def test_a_bug_and_a_jump_of_a_clock_are_told(caplog: pytest.LogCaptureFixture) -> None:
    LogSink().violated("route r: 5 probes were sent, and 6 are in some state")
    LogSink().clock_jumped("step", -3600.0)
    assert said(caplog) == [
        ("ERROR", 'bug violated="route r: 5 probes were sent, and 6 are in some state"'),
        ("WARNING", "clock_step seconds=-3600.000"),
    ]
