"""Received fields: real ones of many servers, and the nastiest forms one by one."""

from __future__ import annotations

import json
import re
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.core.headers import parse_head
from probe.core.received import MOST_HOPS, Hop, as_json, hops, parse, stamp
from probe.core.trace import LIMIT

from .received_corpus import DATA, Record, records, same, verdicts

# Shares of what is asserted of the corpus; the least that is accepted.
LEAST = {
    **dict.fromkeys(("date", "by", "from", "id", "for", "protocol", "tls_version", "tls_cipher"), 1.0),
    **dict.fromkeys(("ident", "envelope_from"), 1.0),
    "ip": 0.995,
    "with": 0.995,
    "helo": 1.0,
    "rdns": 0.94,
    "via": 0.96,
    "auth": 0.92,
    "date_naive": 0.8,
}


def test_of_the_corpus_so_much_is_read() -> None:
    asserted, right, wrong = Counter[str](), Counter[str](), dict[str, list[str]]()
    for verdict in verdicts():
        asserted[verdict.field] += 1
        right[verdict.field] += verdict.right
        if not verdict.right:
            said = f"{verdict.record.id}: {verdict.read!r}, not {verdict.record.expected[verdict.field]!r}"
            wrong.setdefault(verdict.field, []).append(said)
    assert asserted.keys() == LEAST.keys()
    assert asserted["date"] == 660
    missed = {field: wrong[field] for field, least in LEAST.items() if right[field] < least * asserted[field]}
    assert not missed


def test_the_comparison_tells_right_from_wrong() -> None:
    assert same("by", "MX.example.", "mx.example")
    assert same("date", "2024-05-06T10:08:09.120Z", "2024-05-06T10:08:09.1204Z")
    assert same("tls_version", "TLSv1", "TLSv1_0")
    assert not same("date", "2024-05-06T10:08:09Z", "2024-05-06T10:08:09.002Z")
    assert not same("date", None, "2024-05-06T10:08:09Z")
    assert not same("ip", "192.0.2.1", None)
    assert not same("tls_version", "TLS1.2", "TLSv1_3")


# -- one form each -------------------------------------------------------------------------------------------------

NOON = "Mon, 6 May 2024 12:00:00 +0200"

FORMS = {
    "sendmail": (
        f"from pc7 (dsl-9.isp.example [198.51.100.9] (may be forged)) (authenticated bits=0)\n\tby mx.example"
        f" (8.17.1/8.17.1) with ESMTP id 446A00b1;\n\t{NOON} (CEST)",
        {"from": "pc7", "helo": "pc7", "rdns": "dsl-9.isp.example", "ip": "198.51.100.9", "by": "mx.example",
         "auth": "Sendmail", "id": "446A00b1"},
    ),
    "postfix": (
        "from a.example (unknown [IPv6:2001:db8::7]) (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)"
        ' key-exchange X25519) (Client CN "x (y)", Issuer "Z; 1" (verified OK)) (Authenticated sender: secret@a)'
        f" by b.example (Postfix) with ESMTPSA id 7C1F2A9 for <joe@b.example>; {NOON}",
        {"ip": "2001:db8::7", "rdns": None, "tls_version": "TLSv1.3", "tls_cipher": "TLS_AES_256_GCM_SHA384",
         "protocol": "ESMTPSA", "for": "joe@b.example", "auth": "ESMTPSA", "id": "7C1F2A9", "by": "b.example"},
    ),
    "exim": (
        "from h.example ([198.51.100.4]:51234 helo=me.local ident=ann)\n by mx.example with esmtps (TLS1.3)\n tls"
        f" TLS_AES_128_GCM_SHA256\n (Exim 4.97)\n (envelope-from <ann@h.example>)\n id 1s3xYz-00000000abc-0Q1z\n for"
        f" b@mx.example;\n {NOON}",
        {"from": "h.example", "rdns": "h.example", "helo": "me.local", "ident": "ann", "ip": "198.51.100.4",
         "with": "esmtps", "tls_version": "TLS1.3", "tls_cipher": "TLS_AES_128_GCM_SHA256", "for": "b@mx.example",
         "envelope_from": "ann@h.example", "id": "1s3xYz-00000000abc-0Q1z"},
    ),
    "exim, a subject with spaces": (
        "from h.example ([198.51.100.4]) by mx.example with esmtps (TLS1.2:ECDHE-RSA-AES256:256) from /C=DE/O=A by"
        f" B/CN=h (Exim 4.9) id 1; {NOON}",
        {"from": "h.example", "by": "mx.example", "id": "1", "tls_cipher": "ECDHE-RSA-AES256", "envelope_from": None},
    ),
    "qmail": (
        "from dns.example (HELO you) (root@198.51.100.8) by q.example with SMTP; 6 May 2024 10:00:00 -0000",
        {"from": "dns.example", "rdns": "dns.example", "helo": "you", "ident": "root", "ip": "198.51.100.8"},
    ),
    "qmail, a name and no HELO": (
        "from dns.example (198.51.100.8) by q.example with SMTP; 6 May 2024 10:00:00 -0000",
        {"from": "dns.example", "rdns": "dns.example", "helo": "dns.example"},
    ),
    "qmail, no name": (
        f"from unknown (198.51.100.8) by q.example with SMTP; {NOON}",
        {"from": "unknown", "helo": None, "rdns": None, "ip": "198.51.100.8"},
    ),
    "postfix, a login in a comment alone": (
        f"from a (unknown [198.51.100.1]) (Authenticated sender: secret) by b (Postfix) with ESMTP id 1; {NOON}",
        {"auth": "Postfix"},
    ),
    "exim 3, a HELO that differs": (
        f"from dns.example (you.example) [198.51.100.4] by mx.example with esmtp (Exim 3.35 #1) id 1k1R-00; {NOON}",
        {"from": "dns.example", "rdns": "dns.example", "helo": "you.example", "ip": "198.51.100.4"},
    ),
    "assp, that writes the HELO twice": (
        f"from lap ([198.51.100.4] helo=lap) by a.example with ESMTP (ASSP 1.9); {NOON}",
        {"helo": "lap", "rdns": None, "ip": "198.51.100.4"},
    ),
    "smap": (
        f"from dns.example(198.51.100.4) by s.example via smap (V1.3) id xma1; {NOON}",
        {"from": "dns.example", "rdns": "dns.example", "helo": None, "ip": "198.51.100.4", "via": "smap"},
    ),
    "smap, a HELO that differs": (
        f"from dns.example(198.51.100.4, HELO you.example) by s.example via smap (V1.3) id xma1; {NOON}",
        {"rdns": "dns.example", "helo": "you.example", "ip": "198.51.100.4"},
    ),
    "csmap, that asks no DNS": (
        f"from nodnsquery(198.51.100.4) by s.example via csmap (V4.1) id src1; {NOON}",
        {"rdns": None, "helo": None, "ip": "198.51.100.4"},
    ),
    "pp": (
        f"from you.example (actually host dns.example) by p.example with SMTP (PP) id <1@p>; {NOON}",
        {"from": "you.example", "rdns": "dns.example", "protocol": "SMTP"},
    ),
    "smail, really": (
        f"from you.example(really [198.51.100.4]) by s.example via sendmail with P:esmtp/R:smart/T:smtp (sender: <a@b>)"
        f" id <m1@s> for <c@s>; {NOON} (Smail-3.2 1997-Dec-17 #15 built 2001-Aug-30)",
        {"helo": "you.example", "rdns": None, "ip": "198.51.100.4", "protocol": "ESMTP", "envelope_from": "a@b"},
    ),
    "sendmail, who asked for the user": (
        f"from h (IDENT:ann@dns.example [198.51.100.4]) by s (8.9.0/8.9.0) with ESMTP id KAA1; {NOON}",
        {"ident": "ann", "rdns": "dns.example", "helo": "h"},
    ),
    "a scanner, whose client's address is no name": (
        f"from 127.0.0.1 (AVG SMTP 7.0.299 [265.6.8]); {NOON}",
        {"ip": "127.0.0.1", "rdns": None, "helo": None},
    ),
    "coremail, a user": (
        f"from joe$c.example ( [198.51.100.4] ) by ajax-webmail (Coremail) ; {NOON}",
        {"from": "joe$c.example", "helo": None, "rdns": None, "ip": "198.51.100.4"},
    ),
    "alibaba": (
        f"from lap.local(mailfrom:a@b.example fp:SMTPD_---0V cluster:ay36) by c.example(127.0.0.1); {NOON}",
        {"from": "lap.local", "by": "c.example", "envelope_from": "a@b.example", "ip": None, "rdns": None},
    ),
    "sgi": (
        f"from a (a.example [198.51.100.4]) by s (980309.SGI: SGI does not authorize; any) via ESMTP id SAA3; {NOON}"
        " mail_from (a@b.example)",
        {"by": "s", "via": "ESMTP", "id": "SAA3", "envelope_from": "a@b.example", "rdns": "a.example"},
    ),
    "mailchannels, no name": (
        f"from lap ([TEMPUNAVAIL]. [198.51.100.4]) by 10.0.0.9:2500 (trex/5.18); {NOON}",
        {"helo": "lap", "rdns": None, "ip": "198.51.100.4", "by": "10.0.0.9"},
    ),
    "smartermail": (
        f"from UnknownHost [198.51.100.4] by s with SMTP (version=TLS\\Tls12 cipher=Aes256 bits=256); {NOON}",
        {"helo": None, "rdns": None, "tls_version": "Tls12", "tls_cipher": "Aes256"},
    ),
    "debbugs": (
        f"via spool by 1-submit@d.example id=B1.1354 (code B ref 1); {NOON}",
        {"via": "spool", "by": "1-submit@d.example", "id": "B1.1354"},
    ),
    "bitnet": (
        f"from U (MUSIC) by U.example (Mailer R2.08 R208004) with BSMTP id 4734; {NOON}",
        {"from": "U", "by": "U.example", "with": "BSMTP", "protocol": "SMTP", "id": "4734", "rdns": None},
    ),
    "exim, from a program that says how it came": (
        f"from root (helo=h.example) by e.example with local-esmtps (tls_cipher TLS-1.0:RSA_X:32) (Exim 4.50) id 1;"
        f" {NOON}",
        {"protocol": "ESMTPS", "helo": "h.example", "tls_cipher": "RSA_X"},
    ),
    "getmail": (f"from p by h with POP3-SSL (getmail6 6.18) for joe; {NOON}", {"protocol": "POP3S", "for": "joe"}),
    "google's api": (f"from 12 named unknown by g with HTTPREST; {NOON}", {"from": "12", "protocol": "HTTPREST"}),
    "symantec, tls of no known version": (
        f"from x ( [198.51.100.4]) (using TLS with cipher DHE-X-256 (256/256 bits)) by y (S) with SMTP id 1; {NOON}",
        {"tls_version": None, "tls_cipher": "DHE-X-256"},
    ),
    "postini, whose name is nobody's": (
        f"from source ([198.51.100.8]) by p.example ([198.51.100.9]) with SMTP; {NOON}",
        {"from": "source", "rdns": None, "ip": "198.51.100.8", "by": "p.example"},
    ),
    "qmail, a note": ("(qmail 4711 invoked from network); 6 May 2024 10:00:00 -0000", {"from": None, "by": None}),
    "qmail-scanner": (
        "from 198.51.100.3 by q by uid 89 with qmail-scanner-2.08 (clam: 0.9/1. Clear:RC:0. Processed in 0.1 secs); "
        "6 May 2024 10:00:00 -0000",
        {"from": "198.51.100.3", "by": "q", "ip": "198.51.100.3", "with": "qmail-scanner-2.08", "protocol": None},
    ),
    "courier": (
        "from c.example ([::ffff:198.51.100.2]) (AUTH: PLAIN joe, TLS: TLSv1.2,256bits,X) by d.example with ESMTPA"
        f";{NOON}",
        {"ip": "198.51.100.2", "auth": "PLAIN", "tls_version": "TLSv1.2", "tls_cipher": "X", "by": "d.example"},
    ),
    "exchange": (
        "from A.corp.example (2001:db8::a) by B.corp.example (2001:db8::b) with Microsoft SMTP Server (version=TLS1_2,"
        f" cipher=TLS_X_384) id 15.20.7544.29 via Frontend Transport; {NOON}",
        {"ip": "2001:db8::a", "by": "B.corp.example", "via": "Frontend Transport", "protocol": "SMTP",
         "with": "Microsoft SMTP Server", "tls_version": "TLS1_2", "tls_cipher": "TLS_X_384", "id": "15.20.7544.29"},
    ),
    "zmailer": (
        'from n.example ([198.51.100.5]:42 "EHLO m.example" rhost-flags-OK-FAIL) by v.example with ESMTP id S17'
        f" (ORCPT <rfc822;list@v.example>); {NOON}",
        {"helo": "m.example", "ip": "198.51.100.5", "by": "v.example", "id": "S17", "for": None},
    ),
    "domino": (
        f"from f ([198.51.100.6]) by n.example (Lotus Domino Release 9) with ESMTP id 2024050612000042-77 ; {NOON}",
        {"by": "n.example", "id": "2024050612000042-77"},
    ),
    "ironport": (
        f"from unknown (HELO i.example) ([198.51.100.7]) by o.example with ESMTP/TLS/ECDHE-RSA-X; {NOON}",
        {"from": "unknown", "rdns": None, "protocol": "ESMTP", "with": "ESMTP/TLS/ECDHE-RSA-X",
         "tls_cipher": "ECDHE-RSA-X"},
    ),
    "messagelabs": (
        f"from u (HELO p) (198.51.100.1) by t.example with AES256-X encrypted SMTP; {NOON}",
        {"tls_cipher": "AES256-X", "protocol": "SMTP"},
    ),
    "communigate": (
        "from [198.51.100.1] (account joe@c.example HELO lap) by c.example (CommuniGate Pro SMTP 6) with ESMTPSA id 9"
        f"; {NOON}",
        {"ip": "198.51.100.1", "helo": "lap", "auth": "ESMTPSA", "rdns": None},
    ),
    "communigate, an account and its address": (
        f"from [198.51.100.1] (account joe@c.example [198.51.100.1] verified) by c.example (CommuniGate Pro SMTP 6)"
        f" with ESMTP id 9; {NOON}",
        {"ip": "198.51.100.1", "rdns": None, "ident": None, "auth": "CommuniGate"},
    ),
    "sun": (
        f"from lap ([unknown] [198.51.100.1]) by s.example (Sun Java(tm) System Messaging Server 7 (built May 1 2009))"
        f" with ESMTPA id <0N@s.example>; {NOON}",
        {"from": "lap", "helo": "lap", "ip": "198.51.100.1", "rdns": None, "id": "0N@s.example"},
    ),
    "pmdf": (
        f'from v.example ("port 1406"@[198.51.100.1]) by p.example (PMDF V5 #4) with ESMTP id <01@p.example>; {NOON}',
        {"from": "v.example", "ip": "198.51.100.1", "ident": None, "rdns": None},
    ),
    "pmdf, a name": (
        f'from v.example ("port 14"@v7.example) by p.example (PMDF V5 #4) id <01@p.example>; {NOON}',
        {"rdns": "v7.example", "ident": None, "ip": None},
    ),
    "zoho, no name": (
        f"from [10.1.1.1] (198.51.100.1 [198.51.100.1]) by z.example with SMTPS id 1.5; {NOON}",
        {"ip": "198.51.100.1", "rdns": None, "protocol": "SMTPS"},
    ),
    "symantec, no name": (
        f"from s (Unknown_Domain [198.51.100.1]) by y.example (Symantec Mail) with SMTP id 7A.BC; {NOON}",
        {"helo": "s", "ip": "198.51.100.1", "rdns": None},
    ),
    "ecelerity": (
        f"from [198.51.100.1] ([[198.51.100.1:1214]) by e.example (envelope-from <a@e.example>) (ecelerity 3 r(9)) with"
        f" ECSTREAM id xS/71; {NOON}",
        {"ip": "198.51.100.1", "rdns": None, "protocol": "ECSTREAM", "envelope_from": "a@e.example"},
    ),
    "yahoo, who logged in": (
        f"from unknown (HELO lap) (joe@198.51.100.1 with login) by y.example with SMTP; {NOON}",
        {"ip": "198.51.100.1", "helo": "lap", "ident": "joe", "auth": "login", "rdns": None},
    ),
    "yahoo, who logged in and said a name": (
        f"from lap (joe@198.51.100.1 with login) by y.example with SMTP; {NOON}",
        {"ip": "198.51.100.1", "helo": "lap", "auth": "login", "rdns": None},
    ),
    "yahoo, who did not": (
        f"from unknown (HELO ?10.1.1.1?) (198.51.100.1 with ) by y.example with SMTP; {NOON}",
        {"ip": "198.51.100.1", "auth": None, "rdns": None},
    ),
    "vpopmail": (
        f"from unknown (HELO lap) (joe@v.example@198.51.100.1_trustedrelay) by v.example with ESMTPA; {NOON}",
        {"ip": "198.51.100.1", "ident": "joe@v.example", "rdns": None, "auth": "ESMTPA"},
    ),
    "qpsmtpd": (
        f"from q.example (HELO q) (198.51.100.1) (smtp-auth username joe, mechanism cram-md5) by m.example (qpsmtpd/1)"
        f" with (TLS_AES_128_X encrypted) ESMTPS; {NOON}",
        {"rdns": "q.example", "auth": "cram-md5", "tls_cipher": "TLS_AES_128_X", "protocol": "ESMTPS"},
    ),
    "critical path": (
        f"from lap (198.51.100.1) by c.example (8.5.1) (authenticated as joe@c.example) id 4C1A; {NOON}",
        {"helo": "lap", "rdns": None, "auth": "CriticalPath", "id": "4C1A"},
    ),
    "webmail, in a comment": (
        f"from [198.51.100.1] by 3app.example (via HTTP); {NOON}",
        {"ip": "198.51.100.1", "auth": "HTTP", "by": "3app.example"},
    ),
    "webmail, via": (f"from [198.51.100.1] by w via HTTP; {NOON}", {"via": "HTTP", "auth": "HTTP", "helo": None}),
    "webmail, of exchange": (
        f"from x.example ([198.51.100.1]) by x ([198.51.100.2]) with Microsoft Exchange Server HTTP-DAV ; {NOON}",
        {"ip": "198.51.100.1", "auth": "HTTP-DAV", "with": "Microsoft Exchange Server HTTP-DAV"},
    ),
    "rfc 6531": (f"from a by b with UTF8SMTPSA id 1; {NOON}", {"protocol": "UTF8SMTPSA", "auth": "UTF8SMTPSA"}),
    "webmail, behind a proxy": (
        f"from 198.51.100.1 (proxying for 10.1.1.1) (SquirrelMail authenticated user joe) by w with HTTP; {NOON}",
        {"ip": "198.51.100.1", "auth": "HTTP"},
    ),
    "exim, a local sender": (
        f"from uucp (helo=alpha) by e.example with local-bsmtp (Exim 3.36 #1) id 1k1R; {NOON}",
        {"from": "uucp", "helo": "alpha", "rdns": None, "protocol": "SMTP"},
    ),
    "exim, tls of no known version": (
        f"from [198.51.100.1] (port=528 helo=[10.1.1.1]) by e.example with esmtpsa (UNKNOWN:DHE-X:256) (Exim 4.8) id 1;"
        f" {NOON}",
        {"helo": "[10.1.1.1]", "tls_version": None, "tls_cipher": "DHE-X", "auth": "esmtpsa"},
    ),
    "microsoft, a service": (
        f"from mail pickup service by m.example with Microsoft SMTPSVC; {NOON}",
        {"from": "mail pickup service", "by": "m.example", "protocol": "SMTP"},
    ),
    "a quoted name": (f'from "my pc" ([198.51.100.1]) by b with SMTP; {NOON}', {"from": "my pc", "helo": "my pc"}),
    "expurgate": (f"from a by b with ESMTP id 1 for <multiple-recipients>; {NOON}", {"for": None, "id": "1"}),
    "xmail": (
        f"from x.example (198.51.100.1:4711) by y.example (198.51.100.2:25) with [XMail 1.27 ESMTP Server] id <S1> for"
        f" <r@y.example> from <s@x.example>; {NOON}",
        {"by": "y.example", "ip": "198.51.100.1", "id": "S1", "for": "r@y.example", "envelope_from": "s@x.example",
         "with": "[XMail 1.27 ESMTP Server]", "protocol": "ESMTP"},
    ),
    "smail": (
        f"by s.example (/\\==/\\ Smail3.2) from r.example with smtp id <m0-1>; {NOON}",
        {"from": "r.example", "by": "s.example", "protocol": "SMTP", "id": "m0-1"},
    ),
    "cyrus": (
        f"from m ([unix socket]) by m.example (Cyrus 3.8) with LMTPA; {NOON}",
        {"from": "m", "ip": None, "protocol": "LMTPA", "auth": "LMTPA"},
    ),
    "haraka": (
        "from g ([198.51.100.1]) by h (Haraka/3.0) with ESMTPS id A.1\n envelope-from <a@g.example>\n (cipher=TLS_X);"
        f"\n {NOON}",
        {"envelope_from": "a@g.example", "tls_cipher": "TLS_X", "id": "A.1"},
    ),
    "opensmtpd": (
        f"from l (l [local]);\n\tby o (OpenSMTPD) with ESMTP id 1f;\n\tfor <a@o>;\n\t{NOON}",
        {"from": "l", "by": "o", "id": "1f", "for": "a@o", "ip": None},
    ),
    "webmail": (f"from 198.51.100.1 by w with HTTP; {NOON}", {"ip": "198.51.100.1", "auth": "HTTP", "helo": None}),
    "google, http": (f"by 10.1.2.3 with HTTP; {NOON}", {"by": "10.1.2.3", "with": "HTTP", "ip": None, "auth": None}),
    "no semicolon": (
        "from a by filter7 with SMTP id x.1 2024-05-06 10:00:00.25 +0000 UTC m=+77.1",
        {"by": "filter7", "date": "2024-05-06T10:00:00.25Z"},
    ),
    "semicolon in a comment and in a slogan": (
        f"from a (h; {NOON.replace('2024', '2001')}) by b (Say; hello); {NOON}; by the way; nice",
        {"by": "b"},
    ),
    "clauses behind the date": (f"by b id 1; {NOON} (CEST) (envelope-from a@b)", {"envelope_from": "a@b"}),
    "the date in the middle": (f"from a ([198.51.100.1]) at {NOON} by b with SMTP", {"by": "b", "protocol": "SMTP"}),
    "glued": (
        f"from a.example(h [198.51.100.1])by b.example(8.9/8.9)with ESMTP id 117for <x@b.example>;{NOON}",
        {"from": "a.example", "by": "b.example", "id": "117", "for": "x@b.example", "ip": "198.51.100.1"},
    ),
    "a name of several words": (f"from a by Mail Gate Server with ESMTP id 1; {NOON}", {"by": "Mail", "id": "1"}),
    "empty clauses": (f"from by (Postfix) with id for ; {NOON}", {"from": None, "by": None, "with": None, "id": None}),
    "in capitals": (f"FROM a BY b WITH smtp ID 1; {NOON}", {"from": "a", "by": "b", "protocol": "SMTP", "id": "1"}),
    "not closed": (f"from a (b [198.51.100.1] by c id 2; {NOON} (CEST)", {"ip": "198.51.100.1", "by": "c", "id": "2"}),
    "an address of its own": (f"from a.example 198.51.100.1 by b; {NOON}", {"from": "a.example", "ip": "198.51.100.1"}),
    "a comma behind the name": (f"from a (b.example, 198.51.100.1) by c; {NOON}", {"rdns": "b.example", "helo": "a"}),
    "a port": (f"from [198.51.100.1:50123] by b:25; {NOON}", {"from": "198.51.100.1", "ip": "198.51.100.1", "by": "b"}),
    "no address": (f"from a ([999.1.1.1]) by b; {NOON}", {"from": "a", "ip": None}),
    "a recipient's name": (f'from a by b for "Joe B" <j@b.example>; {NOON}', {"for": "j@b.example"}),
    "a weekday, not behind a semicolon": (f"from a by b with Some Server {NOON}", {"with": "Some Server"}),
    "several recipients": (f"from a by b for multiple; {NOON}", {"for": None}),
    "several, in brackets": (f"by b with SMTP id 1 for <multiple recipients>; {NOON}", {"for": None, "id": "1"}),
    "twice in brackets": (f"by b with SMTP id 1 for <<a@b>>; {NOON}", {"for": "a@b"}),
    "a protocol in a comment is no login": (f"from a ([198.51.100.1] with ESMTP) by b; {NOON}", {"auth": None}),
    "a day of the week glued to the id": (f"from a by b id s9E22140{NOON}", {"by": "b", "id": "s9E22140"}),
    "octets": (f"from \0a\xff by b\x1b[31m; {NOON}", {"from": "aÿ", "by": "b"}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_read(form: str) -> None:
    raw, expected = FORMS[form]
    said = as_json(parse(raw))
    assert {key: said.get(key) for key in expected} == expected
    assert said["date"] in {"2024-05-06T10:00:00Z", expected.get("date")}
    assert "secret" not in str(said)


@pytest.mark.parametrize(
    ("written", "date", "naive", "resolution"),
    [
        ("Mon, 06 May 2024 12:08:09 +0200", "2024-05-06T10:08:09Z", None, 1),
        ("06 May 24 10:08:09 GMT", "2024-05-06T10:08:09Z", None, 1),
        ("Fri, 31 Dec 99 23:59:60 UT", "2000-01-01T00:00:00Z", None, 1),
        ("6 May 124 10:08 Z", "2024-05-06T10:08:00Z", None, 60),
        ("Mon May  6 12:08:09 2024 +0200", "2024-05-06T10:08:09Z", None, 1),
        ("Mon May  6 06:08:09 EDT 2024", "2024-05-06T10:08:09Z", None, 1),
        ("Mon May 06 2024 12:08:09 GMT+0200 (CEST)", "2024-05-06T10:08:09Z", None, 1),
        ("2024-05-06T12:08:09.123456789+02:00", "2024-05-06T10:08:09.123456Z", None, 1e-6),
        ("Mon, 6 May 2024 10:08:09.5 +0000 (UTC)", "2024-05-06T10:08:09.5Z", None, 0.1),
        ("Mon, 06 May 2024 06:08:09 -0400 (Eastern Daylight Time)", "2024-05-06T10:08:09Z", None, 1),
        ("Monday, 6 May 2024 10:08:09 GMT", "2024-05-06T10:08:09Z", None, 1),
        ("Mon, 6 May 2024 18:08:09 +0800 (GMT-8)", "2024-05-06T10:08:09Z", None, 1),
        ("Sun  5 May 24 23:08:09-HST", "2024-05-06T09:08:09Z", None, 1),
        ("Mon, 6 May 2024 01:08:09 HDT", "2024-05-06T10:08:09Z", None, 1),
        ("Mon, 6 May 2024 12:08:9, +0200", "2024-05-06T10:08:09Z", None, 1),
        ("MONDAY, 6 MAY 2024 12:08:09 +0200", "2024-05-06T10:08:09Z", None, 1),
        ("Mon, 6 May 2024 12:08 MET DST", "2024-05-06T10:08:00Z", None, 60),
        ("Mon May  6 12:08:09 METDST 2024", "2024-05-06T10:08:09Z", None, 1),
        ("Mon, 6 May 2024 10:08:09 GMT Daylight Time", None, "2024-05-06T10:08:09", 1),
        ("6 May 24 12:08:09 GMT+2", "2024-05-06T10:08:09Z", None, 1),
        ("Mon, 6 May 2024 18:08:09 (GMT-8)", None, "2024-05-06T18:08:09", 1),
        ("(Mon, 6 May 2024 12:08:09 +0200)", "2024-05-06T10:08:09Z", None, 1),
        ("Mon, 6 May 2024 12:08:09 +2", None, "2024-05-06T12:08:09", 1),
        ("Mon, 6 May 2024 12:08:09 (CEST)", "2024-05-06T10:08:09Z", None, 1),
        ("5/6/2024 10:08:09 PM", "2024-05-06T22:08:09Z", None, 1),
        ("6 May 2024 10:08:09 -0000", "2024-05-06T10:08:09Z", None, 1),
        ("Mon May  6 10:08:09 2024", None, "2024-05-06T10:08:09", 1),
        ("Mon, 6 May 2024 10:08:09 by way of x (UTC)", None, "2024-05-06T10:08:09", 1),
        ("Mon, 6 May 2024 10:08:09", None, "2024-05-06T10:08:09", 1),
        ("Mon, 6 May 2024 10:08:09 +000", None, "2024-05-06T10:08:09", 1),
        ("Mon, 6 May 2024 10:08:09 -100", None, "2024-05-06T10:08:09", 1),  # Charon's, an hour east of Greenwich
        ("Mon, 6 May 2024 10:08:09 +9999", None, "2024-05-06T10:08:09", 1),
        ("Mon, 6 May 2024 10:08 MES", None, "2024-05-06T10:08:00", 60),
        ("Mon, 6 May 2024 10:08:09 IST", None, "2024-05-06T10:08:09", 1),  # of India, Ireland or Israel
        ("5/6/2024 10:08:09", None, None, 1),  # in May or in June
        ("Mon, 6 May 2024", None, None, 1),
        ("Mon, 31 Feb 2024 10:08:09 +0000", None, None, 1),
        ("Fri, 31 Dec 9999 23:59:59 -1200", None, None, 1),
        ("Mon, 6 May 2024 25:08:09 +0000", None, None, 1),
        ("just after ten", None, None, 1),
    ],
)
def test_a_stamp_is_read_as_far_as_it_is_one(
    written: str, date: str | None, naive: str | None, resolution: float
) -> None:
    hop = parse(f"from a by b with SMTP id 1; {written}")
    said = as_json(hop)
    assert (said["date"], said.get("date_naive"), hop.resolution) == (date, naive, resolution)
    assert (hop.by, hop.id) == ("b", "1")


# -- finer stamps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "at", "resolution"),
    [
        # Postfix's long ids, as found: seconds and microseconds, if they are of the written second
        ("by a (Postfix) with ESMTPSA id 4Rfh7v4WYWzFq9t; Mon,  4 Sep 2023 21:08:43 +0000", ":43.636975", 1e-6),
        ("by a (Postfix) with ESMTPS id 4YX2qM1nfgz2yys; Tue, 14 Jan 2025 06:47:57 +1100", ":57", 1),
        ("by a (Other) with ESMTPSA id 4Rfh7v4WYWzFq9t; Mon,  4 Sep 2023 21:08:43 +0000", ":43", 1),
        ("by a (Postfix) with ESMTP id A96E18BD97; Thu, 13 Mar 2003 15:23:15 -0500", ":15", 1),
        ("by 10.1.1.1 with SMTP id d6mr4501430hug.46.1208185388868; Mon, 14 Apr 2008 08:03:08 -0700", ":08.868", 1e-3),
        ("by 10.1.1.1 with SMTP id d6mr4501430hug.46.1208185388868; Mon, 14 Apr 2008 08:03:09 -0700", ":09", 1),
        ("by n (Domino Release 9) with ESMTP id 2019050615032991-10 ; Mon, 6 May 2019 15:03:29 +0800", ":29.91", 0.01),
        ("by n (Domino Release 9) with ESMTP id 2019050615032891-10 ; Mon, 6 May 2019 15:03:29 +0800", ":29", 1),
        ("by n (Domino Release 9) with ESMTP id 2019990615032991-10 ; Mon, 6 May 2019 15:03:29 +0800", ":29", 1),
        ("by s id 1; Mon, 6 May 2019 15:03:29.25 +0800", ":29.25", 0.01),
    ],
)  # fmt: skip
def test_an_id_tells_the_instant_if_it_is_within_what_is_written(raw: str, at: str, resolution: float) -> None:
    hop = parse(raw)
    assert hop.date is not None
    expected = hop.date // 60 * 60 + float(at[1:])
    assert stamp(hop) == pytest.approx((expected, resolution), abs=1e-6)


def test_what_has_no_date_has_no_stamp() -> None:
    assert stamp(parse("by a (Postfix) with ESMTPSA id 4Rfh7v4WYWzFq9t; 4 Sep 2023 21:08:43")) is None


def test_stamps_of_the_corpus_are_within_what_is_written() -> None:
    finer = 0
    for record in records():
        hop = parse(record.raw)
        got = stamp(hop)
        assert (got is None) == (hop.date is None)
        if got and hop.date is not None:
            assert hop.date <= got[0]
            assert got[0] + got[1] <= hop.date + hop.resolution + 1e-6
            finer += got[1] < hop.resolution
    assert finer >= 15  # Google's and Postfix's


# -- whole heads ---------------------------------------------------------------------------------------------------

MESSAGES = [json.loads(line) for line in (DATA / "messages.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message["id"])
def test_hops_are_told_oldest_first(message: dict[str, object]) -> None:
    found = hops(parse_head((DATA / str(message["file"])).read_bytes()))
    expected = message["hops_oldest_first"]
    assert isinstance(expected, list)
    assert [as_json(hop)["date"] for hop in found] == [hop["date"] for hop in expected]
    for key in ("from", "by"):
        told = [(as_json(hop).get(key), it[key]) for hop, it in zip(found, expected, strict=True) if it[key]]
        assert [pair for pair in told if not same(key, *pair)] == []


def test_dates_do_not_order_the_hops() -> None:
    late, early = "by b; Mon, 6 May 2024 12:00:00 +0000", "by a; Mon, 6 May 2024 13:00:00 +0000"
    assert [hop.by for hop in hops({"received": [late, early]})] == ["a", "b"]
    assert hops({}) == ()


def test_no_mail_has_more_hops_than_can_be() -> None:
    newest_first = [f"by h{number}; {NOON}" for number in range(MOST_HOPS + 9)]
    found = hops({"received": newest_first})
    assert (len(found), found[-1].by) == (MOST_HOPS, "h0")


# -- any text ------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from([
    *("from", "by", "with", "id", "for", "via", ";", "(", ")", "[", "]", "<", ">", "@", "HELO ", "helo="),
    *("198.51.100.1", "IPv6:2001:db8::1", "[::1%lo]", "a.example", "ESMTPS", "TLSv1.3:X:1", "version=", "cipher=", " "),
    *(NOON, "6 May 2024", "10:00", "+0200", "PM", "envelope-from=", "\n\t", "\0", "\ud800", "é", "\\"),
    *("ident=", "tls", "AUTH: X", "uid", "version=", ",", '"', '"port 1"@', "account ", "_x", "UNKNOWN:X:1"),
    *("GMT+1", "encrypted)", "with login)", "proxying for", "mechanism x"),
])  # fmt: skip


@given(st.lists(WORDS | st.text(max_size=4), max_size=40).map(" ".join) | st.text() | st.binary())
def test_any_text_is_borne(value: str | bytes) -> None:
    hop = parse(value)
    for said in as_json(hop).values():
        assert said is None or said.isprintable()
    assert hop.date is None or not hop.date_naive
    assert hop.resolution > 0
    assert stamp(hop) is None or hop.date is not None


@settings(max_examples=100)
@given(st.sampled_from(records()), st.randoms(use_true_random=False))
def test_folds_change_nothing(record: Record, rng: Random) -> None:
    unfolded = " ".join(record.raw.split())
    folded = re.sub(" ", lambda _: rng.choice([" ", "\n ", "\r\n\t", "  "]), unfolded)
    assert parse(folded) == parse(unfolded) == parse(record.raw)


def test_work_is_bounded() -> None:
    head = f"from a by b with SMTP id 1; {NOON} "
    assert parse(head + "(" * 10 * LIMIT) == parse((head + "(" * LIMIT)[:LIMIT])
    assert parse(head + "x " * 10 * LIMIT).by == "b"
    assert parse("x" * LIMIT + head) == Hop()
