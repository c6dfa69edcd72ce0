"""Tokens: what was minted verifies, and nothing else does."""

from __future__ import annotations

import base64
import hmac
import string

from hypothesis import example, given
from hypothesis import strategies as st

from probe.core.token import (
    ROUTE_NAME,
    Token,
    candidates,
    mint,
    mint_envelope_id,
    verify,
    verify_envelope_id,
    without_tokens,
)

KEY = b"k" * 32
MICROSECONDS = st.integers(0, int(4.1e15)).map(lambda number: number / 1e6)  # until the year 2099
ROUTES = st.from_regex(ROUTE_NAME, fullmatch=True)
TOKENS = st.builds(Token, st.from_regex(r"[0-9a-f]{16}", fullmatch=True), ROUTES, MICROSECONDS, MICROSECONDS)
TOKEN = Token("0123456789abcdef", "gmx-to_own", 1_700_000_000.0, 1_700_000_000.123456)


@given(TOKENS, st.binary(min_size=32, max_size=32))
def test_a_minted_token_verifies_to_itself(token: Token, key: bytes) -> None:
    assert verify(key, mint(key, token)) == token


@given(TOKENS)
def test_a_token_is_of_letters_that_survive_gateways_and_fits_into_a_header_line(token: Token) -> None:
    text = mint(KEY, token)
    assert set(text) <= set(string.ascii_letters + string.digits + "._-")
    assert len(text) < 160


@given(TOKENS, st.data())
def test_any_single_changed_character_fails(token: Token, data: st.DataObject) -> None:
    text = mint(KEY, token)
    index = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(string.printable).filter(lambda c: c != text[index]) | st.characters())
    if other != text[index]:
        assert verify(KEY, text[:index] + other + text[index + 1 :]) is None


def test_no_other_last_character_of_the_mac_verifies() -> None:
    # 22 characters of base64 hold 132 bits: a decoder would take four different last characters for the same MAC.
    text = mint(KEY, TOKEN)
    alphabet = string.ascii_letters + string.digits + "-_"
    assert [c for c in alphabet if verify(KEY, text[:-1] + c)] == [text[-1]]


@given(TOKENS, st.data())
def test_a_missing_or_additional_character_fails(token: Token, data: st.DataObject) -> None:
    text = mint(KEY, token)
    index = data.draw(st.integers(0, len(text)))
    assert verify(KEY, text[:index] + data.draw(st.sampled_from(string.printable)) + text[index:]) is None
    assert verify(KEY, text[: max(0, index - 1)] + text[index:]) in ({None} if index else {token})


@given(TOKENS, st.binary(min_size=1, max_size=64))
def test_another_key_fails(token: Token, key: bytes) -> None:
    if key != KEY:
        assert verify(key, mint(KEY, token)) is None


def test_the_fields_of_two_tokens_cannot_be_mixed() -> None:
    other = Token("fedcba9876543210", "other", 1_700_000_060.0, 1_700_000_060.5)
    ours, theirs = (mint(KEY, token).split(".") for token in (TOKEN, other))
    for index in range(1, 6):
        mixed = [*ours[:index], theirs[index], *ours[index + 1 :]]
        assert verify(KEY, ".".join(mixed)) is None


@given(st.text())
@example("mp1.0123456789abcdef.r.1.1." + "A" * 22)
@example("mp1.0123456789abcdef.r.1.1." + "A" * 22 + "\n")
@example("mp1.٠123456789abcdef.r.1.1." + "A" * 22)
@example("mp1.\ud800")
def test_text_that_we_did_not_sign_never_verifies_and_never_raises(text: str) -> None:
    assert verify(KEY, text) is None
    assert all(verify(KEY, candidate) is None for candidate in candidates(text))


@given(
    TOKENS,
    st.text().map(lambda text: text + " "),
    st.sampled_from(["", " ", "\n", "\r\n", ".", ",", ">", "<br>", "=", '"', ")", "\u00a0"]),
)
def test_a_token_is_found_in_running_text(token: Token, before: str, after: str) -> None:
    assert mint(KEY, token) in candidates(before + mint(KEY, token) + after)


def test_all_tokens_of_a_text_are_found_in_order() -> None:
    texts = [mint(KEY, TOKEN._replace(probe=f"{number:016x}")) for number in range(3)]
    assert list(candidates(f"<{texts[0]}> {texts[1]}\n{texts[2]}.")) == texts


def test_a_token_inside_a_longer_word_is_none() -> None:
    text = mint(KEY, TOKEN)
    assert not list(candidates(f"x{text}"))
    assert not list(candidates(f"{text}x"))


# -- the envelope id -----------------------------------------------------------------------------------------------

PROBES = st.from_regex(r"[0-9a-f]{16}", fullmatch=True)


@given(PROBES, st.binary(min_size=1, max_size=64))
def test_a_minted_envelope_id_verifies_to_its_probe_with_its_key_only(probe: str, key: bytes) -> None:
    text = mint_envelope_id(KEY, probe)
    assert verify_envelope_id(KEY, text) == probe
    assert key == KEY or verify_envelope_id(key, text) is None


@given(PROBES)
def test_an_envelope_id_fits_smtp_and_xtext_leaves_it_alone(probe: str) -> None:
    text = mint_envelope_id(KEY, probe)
    assert len(text) <= 100  # RFC 3461 §4.4
    assert set(text) <= set(string.ascii_letters + string.digits + "._-")


@given(PROBES, st.data())
def test_a_changed_envelope_id_fails(probe: str, data: st.DataObject) -> None:
    text = mint_envelope_id(KEY, probe)
    index = data.draw(st.integers(0, len(text)))
    inserted = data.draw(st.sampled_from(string.printable) | st.characters())
    assert verify_envelope_id(KEY, text[:index] + inserted + text[index:]) is None
    assert (
        inserted == text[index : index + 1]
        or verify_envelope_id(KEY, text[:index] + inserted + text[index + 1 :]) is None
    )


def test_tokens_and_envelope_ids_never_pass_for_one_another() -> None:
    text, envelope_id = mint(KEY, TOKEN), mint_envelope_id(KEY, TOKEN.probe)
    assert verify(KEY, envelope_id) is None
    assert verify_envelope_id(KEY, text) is None
    assert list(candidates(envelope_id)) == []
    # The same MAC over the visible text alone would be a signature of anything that begins so.
    bare = (
        base64.urlsafe_b64encode(hmac.digest(KEY, f"mp1.{TOKEN.probe}".encode(), "sha256")[:16]).rstrip(b"=").decode()
    )
    assert verify_envelope_id(KEY, f"mp1.{TOKEN.probe}.{bare}") is None


def test_a_text_without_tokens_keeps_the_rest() -> None:
    assert without_tokens(f"a {mint(KEY, TOKEN)} b") == "a   b"


def test_a_text_without_tokens_has_none_that_was_wrapped_around_another() -> None:
    text = f"mp1.{TOKEN.probe}.a-{mint(KEY, TOKEN)}.1.1.{'A' * 22}"
    assert list(candidates(without_tokens(text))) == []
