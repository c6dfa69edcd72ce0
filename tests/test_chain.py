"""The hash chain: its text is RFC 8785's, and nothing in it can be changed without showing."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core.chain import Link, canonical, digest, genesis, link, record

from .chained import verify
from .make import ROOT

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def test_the_canonical_text_is_that_of_rfc_8785() -> None:
    # The example of its section 3.2.2, and the octets of 3.2.4.
    given_ = json.loads(
        r"""{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"""
    )
    assert canonical(given_).hex() == (
        "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e756d62657273223a5b3333333333333333332e33333333"
        "3333332c31652b33302c342e352c302e3030322c31652d32375d2c22737472696e67223a22e282ac245c75303030665c6e4127425c225c"
        "5c5c5c5c222f227d"
    )
    # Section 3.2.3: names are sorted by UTF-16 code units.
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    ordered = json.loads(canonical(dict.fromkeys(names)), object_pairs_hook=lambda pairs: [name for name, _ in pairs])
    assert ordered == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@pytest.mark.parametrize(
    ("number", "text"),
    [  # RFC 8785, appendix B, and the borders of ECMAScript's notations
        (0.0, "0"),
        (-0.0, "0"),
        (5e-324, "5e-324"),
        (-1.7976931348623157e308, "-1.7976931348623157e+308"),
        (9007199254740992.0, "9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (1e23, "1e+23"),
        (999999999999999700000.0, "999999999999999700000"),
        (1e21, "1e+21"),
        (9.999999999999997e-7, "9.999999999999997e-7"),
        (0.000001, "0.000001"),
        (0.0000123, "0.0000123"),
        (333333333.3333332, "333333333.3333332"),
        (-0.0000033333333333333333, "-0.0000033333333333333333"),
        (1424953923781206.2, "1424953923781206.2"),
        (float("inf"), '"Infinity"'),
        (float("-inf"), '"-Infinity"'),
        (float("nan"), '"NaN"'),
    ],
)
def test_numbers_are_written_as_ecmascript_does(number: float, text: str) -> None:
    assert canonical(number).decode() == text


def test_what_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(TypeError, match="JSON has no word for"):
        canonical({"a": object()})


def test_what_is_no_character_has_a_text_all_the_same() -> None:
    assert canonical({"\ud83d": "a\udcff"}) == rb'{"\ud83d":"a\udcff"}'


@given(JSON)
def test_the_canonical_text_means_the_same_and_has_one_form(value: object) -> None:
    text = canonical(value)
    again = json.loads(text, parse_int=float)
    assert again == value
    assert canonical(again) == text


def test_a_record_does_not_depend_on_the_order_in_which_fields_were_kept() -> None:
    one = record("p", [("Expired", {"probe": "p", "at": [1.0, 2.5, "b"]})])
    assert one == record("p", [("Expired", {"at": [1.0, 2.5, "b"], "probe": "p"})])
    assert one == b'{"events":[{"at":[1,2.5,"b"],"kind":"Expired","probe":"p"}],"probe":"p","version":1}'


def test_the_example_in_the_document_is_what_a_hash_function_says() -> None:
    text = (ROOT / "docs/ledger.md").read_text()
    [told] = re.findall(r"```json\n(.*)\n```", text)
    [origin] = re.findall(r"\| `(\{.*\})` \|", text)
    zero, one, last = re.findall(r"\| `([0-9a-f]{64})` \|", text)
    assert hashlib.sha256(origin.encode()).hexdigest() == zero
    assert hashlib.sha256(told.encode()).hexdigest() == one
    assert hashlib.sha256(bytes.fromhex(zero) + bytes.fromhex(one)).hexdigest() == last
    # … and what this program says.
    assert canonical(json.loads(told)) == told.encode()
    assert genesis(**{name: json.loads(origin)[name] for name in ("ledger", "route")}).hex() == zero


def chained(number: int, start: int = 1) -> tuple[bytes, list[Link], dict[str, list[bytes]]]:
    """A chain of so many records: its link 0, its links, its records."""
    before = first = genesis("l", "r")
    links, records = [], {}
    for place in range(start, start + number):
        records[f"p{place}"] = [text := record(f"p{place}", [("Expired", {"at": [place, 0.0, "b"]})])]
        before = link(before, digest(text))
        links.append(Link(place, f"p{place}", float(place), digest(text), before))
    return first, links, records


def test_a_chain_is_what_anybody_computes_with_a_hash_function() -> None:
    first, links, records = chained(2)
    assert first == hashlib.sha256(b'{"ledger":"l","route":"r","version":1}').digest()
    one = hashlib.sha256(first + hashlib.sha256(records["p1"][0]).digest()).digest()
    assert [it.link for it in links] == [one, hashlib.sha256(one + hashlib.sha256(records["p2"][0]).digest()).digest()]


def test_a_whole_chain_and_a_part_of_it_hold() -> None:
    first, links, records = chained(6)
    assert verify(first, links, records, links[-1].link) is None
    assert verify(links[2].link, links[3:], {"p5": records["p5"]}, links[-1].link) is None
    assert verify(first, [], {}, first) is None


@given(place=st.integers(0, 5), kind=st.sampled_from(["record", "digest", "link", "gone", "swapped", "added", "start"]))
def test_whatever_is_changed_shows_at_its_place_or_at_the_head(place: int, kind: str) -> None:
    first, links, records = chained(6)
    head = links[-1].link
    match kind:
        case "record":
            records[f"p{place + 1}"] = [records[f"p{place + 1}"][0].replace(b"[", b"[9")]
        case "digest":
            links[place] = links[place]._replace(digest=bytes(32))
        case "link":
            links[place] = links[place]._replace(link=bytes(32))
        case "gone":
            del links[place]
        case "swapped":
            other = (place + 1) % 6
            links[place], links[other] = links[other], links[place]
        case "added":
            links.insert(place, links[place]._replace(probe="new"))
        case "start":
            place, first = 0, bytes(32)
    broken = verify(first, links, records, head)
    assert broken is not None
    assert broken.number <= place + 2
    if kind in {"record", "digest", "link", "start"}:
        assert broken.number == place + 1


def test_a_chain_that_was_made_anew_from_a_place_on_does_not_end_at_the_head() -> None:
    first, links, _ = chained(6)
    _, others, records = chained(6)
    assert verify(first, others[:5], records | {"p6": []}, links[-1].link) is not None
    assert verify(genesis("another", "r"), links, records, links[-1].link) is not None
