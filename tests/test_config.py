"""What a person can write wrong, and that each mistake is answered by one line that shows no secret."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import probe
from probe.config import ConfigError, load, parse_duration
from probe.core.settings import Account, Asking, OAuth, Page, Retention, Route, Secret, Server, Settings

DATA = Path(__file__).parent / "data" / "config"
OWN = """
[accounts.own]
address = "probe@example.org"
smtp = { host = "mail.example.org" }
imap = { host = "mail.example.org" }
"""
LOOP = """
[routes.a-to-b]
from = "own"
to = "own"
"""
PASSWORD = {"HOME": "/home/probe", "MAILPROBE_ACCOUNTS__OWN__PASSWORD": "correct horse"}

REFRESH_TOKEN = {"HOME": "/home/probe", "MAILPROBE_ACCOUNTS__OWN__REFRESH_TOKEN": "battery staple"}


def write(directory: Path, text: str = OWN + LOOP) -> Path:
    file = directory / "mailprobe.toml"
    file.write_text(text)
    return file


def mistakes(file: Path, environ: dict[str, str]) -> list[str]:
    """The lines of the error, the file's own name taken off."""
    with pytest.raises(ConfigError) as caught:
        load(file, environ)
    assert str(caught.value) == "\n".join(caught.value.lines)
    assert all(line.isprintable() for line in caught.value.lines)
    return [line.replace(f"{file}: ", "") for line in caught.value.lines]


# ---- one file per defect ----


@pytest.mark.parametrize("file", sorted(DATA.glob("invalid-*.toml")), ids=lambda file: file.stem)
def test_each_defect_is_answered_by_exactly_its_expected_lines(file: Path) -> None:
    text = file.read_text()
    expected = [line.removeprefix("# expected: ") for line in text.splitlines() if line.startswith("# expected: ")]
    environ = {"HOME": "/home/probe"}
    for name in "own", "g", "my own":
        if (f"[accounts.{name}]" in text or f'[accounts."{name}"]' in text) and not re.search(
            "password_file =|^oauth =", text, re.M
        ):
            environ[f"MAILPROBE_ACCOUNTS__{name.upper().replace('-', '_')}__PASSWORD"] = "correct horse"
    with pytest.raises(ConfigError) as caught:
        load(file, environ)
    assert list(caught.value.lines) == [line.replace("{file}", str(file)) for line in expected]
    assert expected
    assert "hunter2" not in str(caught.value)


# ---- what is valid ----


def test_the_smallest_file_gets_the_preset_and_the_defaults() -> None:
    password = {"MAILPROBE_ACCOUNTS__IONOS__PASSWORD": "correct horse", "HOME": "/home/probe"}
    found = load(DATA / "valid-minimal.toml", password)
    assert found == Settings(
        accounts={
            "ionos": Account(
                name="ionos",
                address="probe@example.de",
                username="probe@example.de",
                password=Secret("correct horse"),
                smtp=Server("smtp.ionos.de", 465, "implicit"),
                imap=Server("imap.ionos.de", 993, "implicit"),
                domains=("kundenserver.de", "perfora.net"),
            )
        },
        routes={"loop": Route("loop", "ionos", "ionos", 60.0, (30.0, 300.0), 432000.0)},
        state_dir=Path("/home/probe/.local/state/mailprobe"),
    )
    assert found.warnings == ()


def test_every_key_of_a_full_file_arrives_in_its_record() -> None:
    password = {"MAILPROBE_ACCOUNTS__IONOS__PASSWORD": "tr0ub4dor"}
    assert load(DATA / "valid-full.toml", password) == Settings(
        accounts={
            "ionos": Account(
                name="ionos",
                address="probe@example.de",
                username="probe@example.de",
                password=Secret("tr0ub4dor"),
                smtp=Server("smtp.ionos.de", 465, "implicit"),
                imap=Server("imap.example.de", 143, "starttls", DATA / "ca.pem"),
                domains=("kundenserver.de", "perfora.net"),
            ),
            "own": Account(
                name="own",
                address="first.last+tag@mail.example.org",
                username="probe",
                password=Secret("correct horse battery staple"),
                smtp=Server("192.0.2.1", 2525, "none"),
                imap=Server("2001:db8::1", 143, "none"),
                folders=("Junk", "Werbung & Spaß"),
                keep_mails=True,
                asking=Asking(0.1, 20),
                domains=("hoster.example", "relay.hoster.net"),
            ),
        },
        routes={"ionos-to-own": Route("ionos-to-own", "ionos", "own", 5400.0, (0.5, 30.0, 300.0), 172800.0)},
        state_dir=DATA / "state",
        listen_host="::1",
        listen_port=9999,
        retention=Retention(30 * 86400.0, 500_000_000),
        contact="postmaster@example.org, Zürich",
        page=Page(public=True),
    )


PROVIDERS = tomllib.loads((Path(probe.__file__).parent / "providers.toml").read_text())


def test_the_providers_promised_have_a_preset() -> None:
    promised = {"ionos", "gmail", "gmx", "web.de", "fastmail", "mailbox.org", "posteo", "t-online", "yahoo", "icloud"}
    assert promised | {"strato"} <= PROVIDERS.keys()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_preset_makes_an_encrypted_account(provider: str, tmp_path: Path) -> None:
    text = f'[accounts.own]\naddress = "a@example.org"\nprovider = "{provider}"\n'
    oauth = provider in {"microsoft365", "outlook"}
    text += f'oauth = {{ client_id = "us" }}\n{LOOP}every = "10m"' if oauth else f'{LOOP}every = "10m"'
    account = load(write(tmp_path, text), REFRESH_TOKEN if oauth else PASSWORD).accounts["own"]
    assert account.smtp
    assert account.imap
    starttls = provider in {"icloud", "microsoft365", "outlook"}
    assert (account.smtp.port, account.smtp.tls) == ((587, "starttls") if starttls else (465, "implicit"))
    assert (account.imap.port, account.imap.tls) == (993, "implicit")


@pytest.mark.parametrize(
    ("wire", "tls", "port"),
    [("smtp", "implicit", 465), ("smtp", "starttls", 587), ("smtp", "none", 25),
     ("imap", "implicit", 993), ("imap", "starttls", 143), ("imap", "none", 143)],
)  # fmt: skip
def test_the_port_follows_from_protocol_and_tls(wire: str, tls: str, port: int, tmp_path: Path) -> None:
    text = OWN.replace(wire + ' = { host = "mail.example.org"', f'{wire} = {{ host = "h", tls = "{tls}"') + LOOP
    server = getattr(load(write(tmp_path, text), PASSWORD).accounts["own"], wire)
    assert (server.host, server.port, server.tls) == ("h", port, tls)


@pytest.mark.parametrize("address", ["a@b", "a.b+c=d@xn--exmple-cua.org", "!#$%&'*+/=?^_`{|}~-@example.org"])
def test_unusual_but_deliverable_addresses_are_taken(address: str, tmp_path: Path) -> None:
    file = write(tmp_path, (OWN + LOOP).replace("probe@example.org", address))
    assert load(file, PASSWORD).accounts["own"].address == address


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"STATE_DIRECTORY": "/var/lib/mailprobe:/x", "XDG_STATE_HOME": "/xdg"}, "/var/lib/mailprobe"),
        ({"XDG_STATE_HOME": "/xdg", "HOME": "/h"}, "/xdg/mailprobe"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/mailprobe"),
        ({"MAILPROBE_STATE_DIR": "/elsewhere", "STATE_DIRECTORY": "/var/lib/mailprobe"}, "/elsewhere"),
        ({"MAILPROBE_STATE_DIR": "~/probe", "HOME": "/h"}, "/h/probe"),
    ],
)
def test_the_state_directory_comes_from_the_nearest_authority(environ: dict[str, str], path: str) -> None:
    password = {"MAILPROBE_ACCOUNTS__IONOS__PASSWORD": "correct horse"}
    assert load(DATA / "valid-minimal.toml", password | environ).state_dir == Path(path)


def test_without_a_home_the_state_directory_must_be_written(tmp_path: Path) -> None:
    environ = {"MAILPROBE_ACCOUNTS__OWN__PASSWORD": "correct horse"}
    line = 'state_dir: has no default without $HOME; write state_dir = "/var/lib/mailprobe"'
    assert mistakes(write(tmp_path), environ) == [line]


# ---- the file itself ----


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    line = "cannot be read (No such file or directory); check the path and its permissions"
    assert mistakes(tmp_path / "nowhere.toml", {}) == [line]


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    assert mistakes(tmp_path, {}) == ["cannot be read (Is a directory); check the path and its permissions"]


def test_a_file_that_is_not_utf_8_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "mailprobe.toml"
    file.write_bytes(b'contact = "Z\xfcrich"')
    assert mistakes(file, {}) == ["is not UTF-8 (byte 12); save it as UTF-8"]


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000])
def test_toml_beyond_what_the_parser_takes_is_a_mistake_and_no_crash(text: str, tmp_path: Path) -> None:
    (line,) = mistakes(write(tmp_path, text), {})
    assert line.startswith("is not TOML: ")


def test_an_empty_file_lacks_accounts_and_routes(tmp_path: Path) -> None:
    assert mistakes(write(tmp_path, ""), {"HOME": "/h"}) == [
        "accounts: there are none; write [accounts.NAME]",
        "routes: there are none; write [routes.NAME]",
    ]


@pytest.mark.parametrize("table", ["accounts", "routes"])
def test_names_that_pydantic_uses_itself_are_still_named_rightly(table: str, tmp_path: Path) -> None:
    text = f'[{table}."[key]"]\n"[key]" = 1\n'
    lines = mistakes(write(tmp_path, text), {"HOME": "/h"})
    assert any(line.startswith(f'{table}."[key]": is no name; ') for line in lines)
    assert any(line.startswith(f'{table}."[key]"."[key]": unknown key; ') for line in lines)


def test_keys_are_written_in_lower_case(tmp_path: Path) -> None:
    assert mistakes(write(tmp_path, 'Listen = "127.0.0.1:1"' + OWN + LOOP), PASSWORD) == [
        "Listen: unknown key; did you mean listen?"
    ]


# ---- environment ----


def test_the_environment_overrides_single_values(tmp_path: Path) -> None:
    environ = PASSWORD | {
        "MAILPROBE_LISTEN": "192.0.2.7:80",
        "MAILPROBE_ROUTES__A_TO_B__EVERY": "2m",
        "mailprobe_accounts__own__smtp__host": "relay.example.org",
        "MAILPROBE_ACCOUNTS__OWN__SMTP__PORT": "2525",
        "MAILPROBE_ACCOUNTS__OWN__KEEP_MAILS": "true",
        "MAILPROBE_ACCOUNTS__OWN__ASKING__BUDGET": "7",
        "MAILPROBE_CONFIG": "/etc/mailprobe.toml",
        "PATH": "/bin",
    }
    found = load(write(tmp_path), environ)
    assert (found.listen_host, found.listen_port) == ("192.0.2.7", 80)
    assert found.routes["a-to-b"].every == 120
    assert found.accounts["own"].smtp == Server("relay.example.org", 2525, "implicit")
    assert found.accounts["own"].keep_mails
    assert found.accounts["own"].asking == Asking(budget=7)


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("MAILPROBE_LISTN", "x", "MAILPROBE_LISTN: sets nothing; did you mean MAILPROBE_LISTEN?"),
        (
            "MAILPROBE_ACCOUNTS__OWM__PASSWORD",
            "x",
            "MAILPROBE_ACCOUNTS__OWM__PASSWORD: sets nothing; did you mean MAILPROBE_ACCOUNTS__OWN__PASSWORD?",
        ),
        (
            "MAILPROBE_ROUTES__A_TO_B__EVERY",
            "5",
            "MAILPROBE_ROUTES__A_TO_B__EVERY: routes.a-to-b.every: 5 has no unit; write 5s",
        ),
        (
            "MAILPROBE_ACCOUNTS__OWN__IMAP__TLS",
            "",
            "MAILPROBE_ACCOUNTS__OWN__IMAP__TLS: accounts.own.imap.tls: "
            "must be one of 'implicit', 'starttls' or 'none'",
        ),
        (
            "MAILPROBE_ROUTES__A_TO_B__FROM",
            "onw",
            'MAILPROBE_ROUTES__A_TO_B__FROM: routes.a-to-b.from: no account "onw"; did you mean own?',
        ),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(variable: str, value: str, line: str, tmp_path: Path) -> None:
    assert mistakes(write(tmp_path), PASSWORD | {variable: value}) == [line]


def test_a_variable_that_means_two_routes_is_a_mistake(tmp_path: Path) -> None:
    file = write(tmp_path, OWN + LOOP + LOOP.replace("a-to-b", "A_to_b"))
    line = "MAILPROBE_ROUTES__A_TO_B__EVERY: means both a-to-b and A_to_b; rename one of them"
    assert mistakes(file, PASSWORD | {"MAILPROBE_ROUTES__A_TO_B__EVERY": "5m"}) == [line]


@contextmanager
def in_the_process(variable: str, value: str) -> Iterator[None]:
    os.environ[variable] = value
    try:
        yield
    finally:
        del os.environ[variable]


def test_the_environment_of_the_process_is_not_looked_at(tmp_path: Path) -> None:
    with in_the_process("LISTEN", "0.0.0.0:1"), in_the_process("MAILPROBE_LISTEN", "0.0.0.0:2"):
        assert load(write(tmp_path), PASSWORD).listen_port == 10925


# ---- secrets ----


def credentials(directory: Path, **files: str) -> dict[str, str]:
    folder = directory / "credentials"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return {"HOME": "/h", "CREDENTIALS_DIRECTORY": str(folder)}


def with_password_file(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    (directory / "secret").write_bytes(content)
    (directory / "secret").chmod(mode)
    return write(directory, OWN + 'password_file = "secret"\n' + LOOP)


def test_a_systemd_credential_is_the_password_and_other_credentials_are_ignored(tmp_path: Path) -> None:
    environ = credentials(tmp_path, accounts__own__password="correct horse\n", tls_key="x")
    found = load(write(tmp_path), environ)
    assert found.accounts["own"].password == Secret("correct horse")
    assert found.warnings == ()


def test_credentials_of_a_directory_that_is_loaded_as_a_whole_are_found_and_single_ones_count_more(
    tmp_path: Path,
) -> None:
    environ = credentials(tmp_path, mailprobe_accounts__own__password="of the directory")
    assert load(write(tmp_path), environ).accounts["own"].password == Secret("of the directory")
    (tmp_path / "credentials" / "accounts__own__password").write_text("of its own")
    assert load(write(tmp_path), environ).accounts["own"].password == Secret("of its own")


def test_a_credential_for_an_unknown_account_is_a_mistake(tmp_path: Path) -> None:
    environ = credentials(tmp_path, accounts__own__password="x", accounts__onw__password="y")
    line = "CREDENTIALS_DIRECTORY: accounts__onw__password is for no account; did you mean accounts__own__password?"
    assert mistakes(write(tmp_path), environ) == [line]


def test_a_strange_name_of_a_credential_stays_on_its_line(tmp_path: Path) -> None:
    environ = credentials(tmp_path, **{"accounts__own__password": "x", "accounts__\nfile: all is well": "y"})
    (line,) = mistakes(write(tmp_path), environ)
    assert r"accounts__\nfile: all is well is for no account" in line


def test_a_credentials_directory_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    line = "CREDENTIALS_DIRECTORY: cannot be read (No such file or directory); set it to a directory"
    assert mistakes(write(tmp_path), PASSWORD | {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}) == [line]


@pytest.mark.parametrize(("content", "secret"), [(b"a b\n", "a b"), (b"a b\r\n", "a b"), (b" a ", " a ")])
def test_one_trailing_newline_is_no_part_of_the_password(content: bytes, secret: str, tmp_path: Path) -> None:
    found = load(with_password_file(tmp_path, content), {"HOME": "/h"})
    assert found.accounts["own"].password == Secret(secret)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty; write the password"),
        (b"\n", "is empty; write the password"),
        (b"correct\nhorse\n", "has more than one line; write only the password"),
        (b"correct\xffhorse\n", "is not UTF-8; write the password in UTF-8"),
    ],
)
def test_a_useless_password_file_is_a_mistake(content: bytes, problem: str, tmp_path: Path) -> None:
    file = with_password_file(tmp_path, content)
    assert mistakes(file, {"HOME": "/h"}) == [f"accounts.own.password: password_file {problem}"]


def test_an_empty_password_in_the_environment_is_a_mistake(tmp_path: Path) -> None:
    environ = PASSWORD | {"MAILPROBE_ACCOUNTS__OWN__PASSWORD": ""}
    line = "accounts.own.password: MAILPROBE_ACCOUNTS__OWN__PASSWORD is empty; write the password"
    assert mistakes(write(tmp_path), environ) == [line]


def test_a_secret_given_in_several_places_is_a_mistake_that_names_them(tmp_path: Path) -> None:
    environ = credentials(tmp_path, accounts__own__password="correct horse") | PASSWORD
    assert mistakes(with_password_file(tmp_path, b"correct horse"), environ) == [
        "accounts.own.password: is given twice, by the credential accounts__own__password and by password_file "
        "and by MAILPROBE_ACCOUNTS__OWN__PASSWORD; keep one"
    ]


def test_the_same_secret_in_two_places_is_still_a_mistake(tmp_path: Path) -> None:
    line = "accounts.own.password: is given twice, by password_file and by MAILPROBE_ACCOUNTS__OWN__PASSWORD; keep one"
    assert mistakes(with_password_file(tmp_path, b"correct horse"), PASSWORD) == [line]


def test_imap_needs_a_password_and_smtp_alone_does_not(tmp_path: Path) -> None:
    sink = OWN.replace("own", "sink").replace('smtp = { host = "mail.example.org" }\n', "")
    source = OWN.replace('imap = { host = "mail.example.org" }\n', "")
    file = write(tmp_path, source + sink + LOOP.replace('to = "own"', 'to = "sink"'))
    assert mistakes(file, {"HOME": "/h"}) == [
        "accounts.sink.password: is missing, and IMAP needs one; use password_file, "
        "the credential accounts__sink__password or MAILPROBE_ACCOUNTS__SINK__PASSWORD"
    ]
    found = load(file, {"HOME": "/h", "MAILPROBE_ACCOUNTS__SINK__PASSWORD": "correct horse"})
    assert found.accounts["own"].password is None


# ---- OAuth ----

GMAIL = '[accounts.own]\naddress = "a@gmail.com"\nprovider = "gmail"\noauth = { client_id = "us" }\n'
HOURLY = LOOP + 'every = "1h"\n'


def test_a_preset_knows_where_tokens_come_from(tmp_path: Path) -> None:
    found = load(write(tmp_path, GMAIL + HOURLY), REFRESH_TOKEN).accounts["own"]
    assert found.password is None
    assert found.oauth == OAuth(
        "https://oauth2.googleapis.com/token", "us", Secret("battery staple"), "https://mail.google.com/"
    )


def test_what_the_account_says_goes_before_the_preset(tmp_path: Path) -> None:
    environ = REFRESH_TOKEN | {
        "MAILPROBE_ACCOUNTS__OWN__CLIENT_SECRET": "hush",
        "MAILPROBE_ACCOUNTS__OWN__OAUTH__TOKEN_URL": "https://id.example.org:8443/t?x=1",
        "MAILPROBE_ACCOUNTS__OWN__OAUTH__SCOPE": "",
    }
    found = load(write(tmp_path, GMAIL + HOURLY), environ).accounts["own"]
    assert found.oauth == OAuth("https://id.example.org:8443/t?x=1", "us", Secret("battery staple"), "", Secret("hush"))


def test_a_provider_with_a_token_endpoint_still_takes_a_password(tmp_path: Path) -> None:
    found = load(write(tmp_path, GMAIL.replace("oauth =", "# oauth =") + HOURLY), PASSWORD).accounts["own"]
    assert (found.password, found.oauth) == (Secret("correct horse"), None)


def test_the_secrets_of_oauth_come_as_credentials_too(tmp_path: Path) -> None:
    environ = credentials(
        tmp_path, accounts__own__refresh_token="battery staple\n", accounts__own__client_secret="hush"
    )
    oauth = load(write(tmp_path, GMAIL + HOURLY), environ).accounts["own"].oauth
    assert oauth
    assert (oauth.refresh_token, oauth.client_secret) == (Secret("battery staple"), Secret("hush"))


def test_a_refresh_token_given_twice_is_a_mistake(tmp_path: Path) -> None:
    environ = credentials(tmp_path, accounts__own__refresh_token="battery staple") | REFRESH_TOKEN
    assert mistakes(write(tmp_path, GMAIL + HOURLY), environ) == [
        "accounts.own.refresh_token: is given twice, by the credential accounts__own__refresh_token "
        "and by MAILPROBE_ACCOUNTS__OWN__REFRESH_TOKEN; keep one"
    ]


def test_an_access_token_without_encryption_is_warned_of(tmp_path: Path) -> None:
    clear = 'imap = { host = "h", tls = "none" }\n'
    file = write(tmp_path, GMAIL + clear + HOURLY)
    line = f'{file}: accounts.own.imap.tls: "none" sends the access token in clear; write "implicit" or "starttls"'
    assert load(file, REFRESH_TOKEN).warnings == (line,)


SECRETS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=30).map(
    lambda text: f"s3cr3t{text}t3rc3s"
)
DEFECTS = ["", "every = 60", 'password = "x"', "nonsense =", 'from = "own"', 'evry = "1m"']


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(secret=SECRETS, defect=st.sampled_from(DEFECTS), place=st.sampled_from(["env", "typo", "file", "toml", "oauth"]))
def test_no_secret_shows_in_an_error_or_in_the_settings(secret: str, defect: str, place: str, tmp_path: Path) -> None:
    own = OWN
    environ = {"HOME": "/h"}
    match place:
        case "env":
            environ["MAILPROBE_ACCOUNTS__OWN__PASSWORD"] = secret
        case "typo":
            environ["MAILPROBE_ACCOUNTS__OWN__PASWORD"] = secret
        case "file":
            (tmp_path / "secret").write_text(secret)
            own += 'password_file = "secret"\n'
        case "oauth":
            environ |= dict.fromkeys(
                ("MAILPROBE_ACCOUNTS__OWN__REFRESH_TOKEN", "MAILPROBE_ACCOUNTS__OWN__CLIENT_SECRET"), secret
            )
            own += 'oauth = { client_id = "us", token_url = "https://h/" }\n'
        case "toml":
            own += "password = '" + secret.replace("'", "") + "'\nusername = 7\n"
    try:
        found = load(write(tmp_path, own + LOOP + defect), environ)
        shown = [str(found), repr(found), f"{found.accounts['own'].password}", *found.warnings]
    except ConfigError as error:
        shown = [str(error), repr(error), *error.lines, repr(error.__context__), repr(error.__cause__)]
    assert not any("s3cr3t" in text or secret in text for text in shown)


def test_a_password_written_into_the_wrong_key_does_not_show(tmp_path: Path) -> None:
    lines = mistakes(write(tmp_path, OWN + 'password_file = "hunter2"\n' + LOOP), {"HOME": "/h"})
    assert len(lines) == 1
    assert "hunter2" not in lines[0]


# ---- warnings: it works, but ----


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_password_file_others_can_read_is_warned_of(mode: int, tmp_path: Path) -> None:
    file = with_password_file(tmp_path, b"correct horse", mode)
    line = f"{file}: accounts.own.password: password_file can be read by others than its owner; chmod it to 0600"
    assert load(file, {"HOME": "/h"}).warnings == (line,)


def test_a_password_without_encryption_is_warned_of(tmp_path: Path) -> None:
    file = write(tmp_path, OWN.replace('{ host = "mail.example.org" }', '{ host = "h", tls = "none" }', 1) + LOOP)
    line = f'{file}: accounts.own.smtp.tls: "none" sends the password in clear; write "implicit" or "starttls"'
    assert load(file, PASSWORD).warnings == (line,)


def test_an_unused_account_is_warned_of(tmp_path: Path) -> None:
    file = write(tmp_path, OWN + OWN.replace("own", "spare") + LOOP)
    line = f"{file}: accounts.spare: no route uses it; write a route or remove the account"
    assert load(file, PASSWORD | {"MAILPROBE_ACCOUNTS__SPARE__PASSWORD": "x"}).warnings == (line,)


def test_a_schedule_exactly_at_the_limit_is_allowed(tmp_path: Path) -> None:
    text = f'[accounts.own]\naddress = "a@gmail.com"\nprovider = "gmail"\n{LOOP}every = "172.8s"'
    assert load(write(tmp_path, text), PASSWORD).routes["a-to-b"].every == 172.8


# ---- durations ----


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("5d", 432000), ("1h30m", 5400), ("500ms", 0.5), ("0.1s", 0.1),
     ("1d2h3m4s5ms", 93784.005)],
)  # fmt: skip
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "s", "-1s", "+1s", "1 s", "1s1m", "1m1m", "1S", "1e3s", "1w", "٣s", "1s\n", "nan", "infs", ".5s"]
)
def test_what_is_no_duration_is_refused_with_the_mend(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no duration; write it like 30s, 5m or 1h30m$"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0s", "0d0h", "0.0ms", "3651d", "999999999d"])
def test_a_duration_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not between 0 and ten years"):
        parse_duration(text)


@given(st.integers(0, 10**6))
def test_a_bare_number_is_refused_and_the_mend_is_the_number_in_seconds(number: int) -> None:
    with pytest.raises(ValueError, match=f"^{number} has no unit; write {number}s$"):
        parse_duration(str(number))


@given(st.integers(0, 99), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(1, 999))
def test_the_parts_of_a_duration_add_up(days: int, hours: int, minutes: int, seconds: int, ms: int) -> None:
    total = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + ms
    assert parse_duration(f"{days}d{hours}h{minutes}m{seconds}s{ms}ms") == total / 1000
    assert parse_duration(f"{total}ms") == total / 1000 if total < 10**9 else True


@given(st.text(max_size=12) | st.from_regex(r"\A[0-9.]{1,4}[dhms]{0,2}\Z"))
def test_any_text_is_a_positive_duration_or_refused_in_one_line(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError as refused:
        seconds, line = 1.0, str(refused)
    else:
        line = ""
    assert 0 < seconds <= 3650 * 86400
    assert all(character.isprintable() for character in line)
