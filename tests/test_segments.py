"""Whose host is it: every boundary is told by a name, and where none tells, that is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core.segments import domains, organisation, owners
from probe.core.settings import Account, Server


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("mx3.eu.provider.example", "provider.example"),
        ("MX.Provider.Example.", "provider.example"),
        ("provider.example", "provider.example"),
        ("mail.provider.co.uk", "provider.co.uk"),
        ("mail.provider.com.au", "provider.com.au"),
        ("provider.co.uk", "provider.co.uk"),
        ("imap.mail.me.com", "me.com"),
        ("localhost", ""),
        ("localhost.localdomain", ""),
        ("store7.internal", ""),
        ("192.0.2.7", ""),
        ("2001:db8::1", ""),
        ("2002:a05:6402:1d1::", ""),
        ("mailserver", ""),
        ("", ""),
        ("..", ""),
    ],
)
def test_an_organisation_is_told_by_a_hosts_name(host: str, wanted: str) -> None:
    assert organisation(host) == wanted


def test_an_accounts_domains_are_those_of_its_address_its_servers_and_its_configuration() -> None:
    account = Account(
        "a", "probe@Customer.example", "u", None, Server("smtp.hoster.net", 465, "implicit"),
        Server("192.0.2.1", 993, "implicit"), domains=("relay.example.com",),
    )  # fmt: skip
    assert domains(account) == {"customer.example", "hoster.net", "relay.example.com"}


S, B, R, P, U = "sender", "between", "recipient", "provider", "unresolved"
MINE, THEIRS = {"a.example"}, {"b.example"}


@pytest.mark.parametrize(
    ("hosts", "wanted"),
    [
        (["mail.a.example", "mx.b.example"], [S, R]),
        (["mail.a.example", "out.a.example", "mx.b.example", "store.b.example"], [S, S, R, R]),
        (["mail.a.example", "gate.c.example", "mx.b.example"], [S, B, R]),
        (["mail.a.example", "gate.c.example", "gate2.c.example", "mx.b.example"], [S, B, B, R]),
        # nameless hosts are whose the mail was
        (["mail.a.example", "localhost", "out.a.example", "10.0.0.1", "mx.b.example", "localhost"], [S, S, S, S, R, R]),
        (["mail.a.example", "gate.c.example", "10.1.1.1", "mx.b.example"], [S, B, B, R]),
        # the ends are known whatever their names: customers' domains at hosters that the configuration does not name
        (["smtp.hoster.example", "out.hoster.example", "mx.other.example", "store.other.example"], [S, S, R, R]),
        (["submit", "out.a.example", "mx.b.example"], [S, S, R]),
        # Google's own hosts go by addresses
        (["mail.a.example", "mx.google.com", "2002:a05:6402:1d1::"], [S, R, R]),
        # between is between, though it comes back
        (["mail.a.example", "gate.c.example", "back.a.example", "mx.b.example"], [S, B, B, R]),
        # one stamp alone: the recipient's provider did not write any
        (["mail.a.example"], [U]),
        (["mail.a.example", "out.a.example"], [U, U]),
        ([], []),
    ],
)
def test_hosts_belong_to_who_had_the_mail(hosts: list[str], wanted: list[str]) -> None:
    assert owners(hosts, MINE, THEIRS) == wanted


def test_where_both_accounts_are_at_one_provider_it_has_all() -> None:
    both = {"hoster.example"}
    assert owners(["smtp.hoster.example", "localhost", "store.hoster.example"], both | MINE, both | THEIRS) == [P] * 3
    assert owners(["mail.a.example"], MINE, MINE) == [P]
    assert owners(["mail.a.example", "gate.c.example", "in.a.example"], MINE, MINE) == [S, B, R]


@given(
    st.lists(st.sampled_from(["x.a.example", "x.b.example", "c.c.example", "localhost", "10.0.0.1", ""]), max_size=8)
)
def test_every_host_has_one_owner_and_the_owners_follow_one_another(hosts: list[str]) -> None:
    found = owners(hosts, MINE, THEIRS)
    assert len(found) == len(hosts)
    order = [[S, B, R].index(owner) for owner in found if owner not in (P, U)]
    assert order == sorted(order)
    assert set(found) <= {S, B, R} or len(set(found)) == 1
