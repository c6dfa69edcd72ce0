"""What the receiver found of a mail's authenticity: SPF, DKIM, DMARC, ARC (RFC 8601), and what its filters said.

Rule: only the receiver's own words are results, and core/authserv.py says which they are; all others' are claims.

To read ARC-Authentication-Results or Authentication-Results-Original as results would be to believe in the chain, which
the receiver has judged already ("arc="); a seal's "cv=" is the sealer's claim about itself. Filters' headers have no
name that could be checked: the topmost of each counts if it stands where the receiver writes. A sender can forge one
that the receiver does not write, and wins nothing: where the mail was put is measured, not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from probe.core.authserv import Fields, Learner, Own, Placed, organisation, place, said, sight
from probe.core.resinfo import Result, authentication_results
from probe.core.spam import AT_THE_END, Spam, read_spam

__all__ = ["METHODS", "Claim", "Fields", "Learner", "Own", "Result", "Spam", "Verdicts", "read"]

METHODS: Final = ("spf", "dkim", "dmarc", "arc")

_CLAIMS = {"authentication-results", "arc-authentication-results", "authentication-results-original"}
_MOST_CLAIMS = 20
# Of several results the first here. RFC 6376 §6.1: one good signature is enough; a passing trouble may hide one.
_RANK = ("pass", "temperror", "fail", "softfail", "permerror", "policy", "neutral", "other", "none")


class Claim(NamedTuple):
    """What somebody else, or who knows who, wrote about the mail: evidence of their words only."""

    field: str
    authserv_id: str
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """`trusted`: the results stand where the receiver's are known to stand; without it they are the likeliest guess,
    for people to look at and not to be counted."""

    authserv_id: str = ""
    results: tuple[Result, ...] = ()
    spam: tuple[Spam, ...] = ()
    claims: tuple[Claim, ...] = ()
    trusted: bool = False

    def summary(self) -> dict[str, str]:
        """The result of each method of METHODS that was tried."""
        best = {method: self.best(method) for method in METHODS}
        return {method: result.result for method, result in best.items() if result}

    def best(self, method: str) -> Result | None:
        """Of several DKIM signatures one that passed, and of these one of the author's domain (RFC 7489 §3.1.1); of the
        other methods the topmost result, as each field after the first may be of an earlier hop."""
        found = [result for result in self.results if result.method == method]
        if method == "dkim":
            authors = {organisation(result.domain) for result in self.results if result.method == "dmarc"} - {""}
            found.sort(key=lambda it: (_RANK.index(it.result), organisation(it.domain) not in authors))
        return next(iter(found), None)


def read(fields: Fields, own: Own | None, hosts: Iterable[str] = ()) -> Verdicts:
    """What the header fields (in their order, from the top) say.

    `own`: what Learner.own() knows of the mailbox. Without it, `hosts` (as for Learner.learn) help to guess.
    """
    placed = place(fields)
    where = own or sight(placed, hosts)
    mine = said(placed, where) if where else []
    used = {id(each) for each, _ in mine}
    return Verdicts(
        next((what.by for _, what in mine), ""),
        tuple(result for _, what in mine for result in what.results),
        _spam(placed, where),
        _claims(each for each in placed if id(each) not in used),
        trusted=own is not None and bool(mine),
    )


def _claims(placed: Iterable[Placed]) -> tuple[Claim, ...]:
    claims = (Claim(each.name, *authentication_results(each.value)) for each in placed if each.name in _CLAIMS)
    return tuple(islice(claims, _MOST_CLAIMS))


def _spam(placed: Sequence[Placed], where: Own | None) -> tuple[Spam, ...]:
    """The topmost of each name, not below the receiver's results; where these are unknown, not below its last hop."""
    depth, names = (where.depth, where.names) if where else (1, ())
    found: dict[str, Spam] = {}
    for each in placed:
        last = not AT_THE_END.get(each.name, set()).isdisjoint(names)
        counts = last or (each.depth <= depth and each.name not in found)
        if counts and (spam := read_spam(each.name, each.value)):
            found[each.name] = spam
    return tuple(found.values())
