"""Where a probe can land: what LIST says, read by the real parser, and what is made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core.events import Placement
from probe.mail.folders import INBOX, Watched, choose
from probe.mail.imap_syntax import Folder, parse_list

from .fake_imap import encode_utf7


def listed(*lines: bytes) -> list[Folder]:
    """What Connection.list_folders makes of these answers (without their "* LIST ")."""
    return [folder for line in lines if (folder := parse_list([b"* LIST " + line]))]


def named(*names: str, delimiter: str = "/") -> list[Folder]:
    """Folders without special uses, their names as a server writes them."""
    return listed(*(b'(\\HasNoChildren) "%s" "%s"' % (delimiter.encode(), encode_utf7(n).encode()) for n in names))


def watched(*folders: Folder, wanted: tuple[str, ...] = ()) -> list[tuple[str, Placement]]:
    return [(folder.name, folder.placement) for folder in choose(folders, wanted)]


# ---------------------------------------------------------------- the server's own word


@pytest.mark.parametrize("use", [b"\\Junk", b"\\junk", b"\\JUNK", b"\\jUnK"])
def test_a_special_use_is_known_in_any_letter_case(use: bytes) -> None:
    folders = listed(b'() "/" INBOX', b'(\\HasNoChildren %s) "/" Kladde' % use, b'() "/" Archive')
    assert watched(*folders) == [("INBOX", "inbox"), ("Kladde", "junk")]


def test_a_special_use_counts_more_than_a_name_that_is_listed_before_it() -> None:
    folders = listed(b'() "/" INBOX', b'() "/" Spam', b'(\\Junk) "/" Kladde', b'() "/" Junk')
    assert watched(*folders) == [("INBOX", "inbox"), ("Kladde", "junk")]


def test_other_special_uses_are_not_junk() -> None:
    uses = (b"\\Trash", b"\\Sent", b"\\Drafts", b"\\All", b"\\Archive", b"\\Flagged", b"\\Important")
    folders = listed(b'() "/" INBOX', *(b'(%s) "/" Folder%d' % (use, count) for count, use in enumerate(uses)))
    assert watched(*folders) == [("INBOX", "inbox")]


@pytest.mark.parametrize(
    "line",
    [
        b'(\\HasNoChildren \\Junk) "/" "[Gmail]/Spam"',
        b'(\\Junk) "." INBOX.spam',
        b'(\\Junk) NIL "Spam"',
        b'(\\Junk) "" "Spam"',
        b'(\\Junk) "\\\\" "Old\\\\Spam"',
        b'(\\Junk) "/" {4}',
    ],
)
def test_a_marked_folder_is_found_however_its_name_is_written(line: bytes) -> None:
    parts = [b"* LIST " + line, b"Spam", b""] if line.endswith(b"{4}") else [b"* LIST " + line]
    folder = parse_list(parts)
    assert folder
    assert choose([folder]) == [INBOX, Watched(folder.name, folder.raw, "junk")]


@pytest.mark.parametrize("attribute", [b"\\Noselect", b"\\NoSelect", b"\\NOSELECT", b"\\NonExistent"])
@pytest.mark.parametrize("wanted", [(), ("Spam",)])
def test_a_folder_that_cannot_be_selected_is_not_watched(attribute: bytes, wanted: tuple[str, ...]) -> None:
    only = listed(b'() "/" INBOX', b'(%s \\Junk) "/" Spam' % attribute)
    assert watched(*only, wanted=wanted) == [("INBOX", "inbox")]
    if not wanted:
        assert watched(*only, *named("Junk")) == [("INBOX", "inbox"), ("Junk", "junk")]


# ---------------------------------------------------------------- well-known names


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Junk",
            "JUNK",
            "Spam",
            "spam",
            "Junk E-Mail",
            "Junk-E-Mail",
            "Junk Email",
            "Bulk Mail",
            "Bulk",
            "Quarantine",
        ),
        *("Spamverdacht", "Unerwünscht", "UNERWÜNSCHT", "Werbung"),
        *("Courrier indésirable", "Indésirables", "Correo no deseado", "Posta indesiderata", "Lixo Eletrônico"),
        *("Ongewenste e-mail", "Skräppost", "Uønsket e-mail", "Søppelpost", "Roskaposti"),
        *("Wiadomości-śmieci", "Nevyžádaná pošta", "Levélszemét", "Önemsiz", "Спам", "Нежелательная почта"),
        *("Ανεπιθύμητα", "ΑΝΕΠΙΘΎΜΗΤΑ", "垃圾邮件", "垃圾郵件", "迷惑メール", "스팸", "정크 메일"),
    ],
)
def test_a_well_known_name_is_found_in_any_language(name: str) -> None:
    assert watched(*named("INBOX", "Archive", name, "Sent")) == [("INBOX", "inbox"), (name, "junk")]


def test_the_turkish_name_is_found_as_the_turkish_write_it() -> None:
    """Its capital has a dot, and str.lower() leaves that dot behind: "İ".lower() is two characters."""
    assert watched(*named("İstenmeyen")) == [("INBOX", "inbox"), ("İstenmeyen", "junk")]


def test_the_name_on_the_wire_is_kept_to_the_letter_for_select() -> None:
    folders = listed(b'() "." "INBOX.Unerw&APw-nscht"')
    assert choose(folders) == [INBOX, Watched("INBOX.Unerwünscht", "INBOX.Unerw&APw-nscht", "junk")]


@pytest.mark.parametrize(
    ("name", "delimiter"),
    [
        *(("INBOX.Junk", "."), ("INBOX/Spam", "/"), ("INBOX.INBOX.spam", "."), ("[Google Mail]/Spam", "/")),
        *(("INBOX.Junk", "/"), ("INBOX/Spam", "."), ("INBOX^Junk", "^"), ("Mail|Junk E-mail", "|")),
    ],
)
def test_junk_is_found_below_another_folder_whatever_separates_them(name: str, delimiter: str) -> None:
    assert watched(*named("INBOX", name, delimiter=delimiter)) == [("INBOX", "inbox"), (name, "junk")]


@pytest.mark.parametrize("delimiter", [b"NIL", b'""', b'"NIL"'])
def test_junk_is_found_where_the_server_tells_no_delimiter(delimiter: bytes) -> None:
    folders = listed(b"() %s INBOX" % delimiter, b"() %s INBOX.Junk" % delimiter)
    assert watched(*folders) == [("INBOX", "inbox"), ("INBOX.Junk", "junk")]


@pytest.mark.parametrize("name", ["Junkyard", "Spam reports", "Not Spam", "Spam/2023", "anti-spam", "Spam.Rules", ""])
def test_a_name_that_only_resembles_junk_is_not_junk(name: str) -> None:
    assert watched(*named("INBOX", name)) == [("INBOX", "inbox")]


def test_of_several_junk_folders_the_first_is_watched() -> None:
    assert watched(*named("Junk", "Spam")) == [("INBOX", "inbox"), ("Junk", "junk")]


# ---------------------------------------------------------------- INBOX


@pytest.mark.parametrize("inbox", [b"INBOX", b"Inbox", b"inbox", b'"INBOX"'])
@pytest.mark.parametrize("wanted", [(), ("INBOX",), ("inbox",), ("INBOX", "Inbox")])
def test_inbox_is_watched_once_in_whatever_case_it_is_written(inbox: bytes, wanted: tuple[str, ...]) -> None:
    folders = listed(b'() "/" ' + inbox, b'(\\Junk) "/" ' + inbox)
    assert choose(folders, wanted) == [INBOX]


def test_inbox_is_watched_although_it_is_not_listed() -> None:
    assert choose([]) == [INBOX]
    assert choose([], ["Spam"]) == [INBOX]


# ---------------------------------------------------------------- the setting


def test_a_setting_overrides_what_the_server_says() -> None:
    folders = listed(b'() "/" INBOX', b'(\\Junk) "/" Spam', b'() "/" Lists', b'() "/" "Courrier ind&AOk-sirable"')
    assert watched(*folders, wanted=("Lists",)) == [("INBOX", "inbox"), ("Lists", "other")]
    both = watched(*folders, wanted=("Lists", "Spam"))
    assert both == [("INBOX", "inbox"), ("Spam", "junk"), ("Lists", "other")]
    accented = watched(*folders, wanted=("Courrier indésirable",))
    assert accented == [("INBOX", "inbox"), ("Courrier indésirable", "junk")]


def test_a_wanted_folder_that_is_not_listed_is_left_out() -> None:
    assert watched(*named("INBOX", "Spam"), wanted=("Spum",)) == [("INBOX", "inbox")]


@given(st.lists(st.text(max_size=12), max_size=8), st.lists(st.text(max_size=12), max_size=3))
def test_whatever_is_listed_inbox_comes_first_and_no_other_folder_is_made_up(
    names: list[str], extra: list[str]
) -> None:
    folders = [Folder(name, encode_utf7(name), "/", frozenset()) for name in names]
    for wanted in ([], extra, names[:2]):
        chosen = choose(folders, wanted)
        assert chosen[0] is INBOX
        assert {folder.name for folder in chosen[1:]} <= set(names)
        assert not any(folder.name.upper() == "INBOX" for folder in chosen[1:])
