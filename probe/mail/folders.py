"""Which folders of a mailbox a probe can land in: INBOX, and wherever this server puts junk.

Rule: the server's own word first (SPECIAL-USE, RFC 6154), then well-known names, and a setting overrides both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from probe.core.events import Placement
from probe.mail.imap import Folder

# The last part of the name, in lower case. Gathered from what Exchange, Dovecot, Courier, Cyrus, GMX, T-Online, Yahoo,
# Zimbra and mail programs create in these languages.
_JUNK_NAMES = frozenset(
    name.strip()
    for name in """
    junk|spam|junk e-mail|junk email|junk-e-mail|junk mail|bulk|bulk mail|quarantine
    spamverdacht|spam-verdacht|unerwünscht|unerwünschte werbung|werbung
    courrier indésirable|indésirables|pourriel|correo no deseado|correo basura|posta indesiderata
    lixo eletrônico|lixo eletrónico|lixo|ongewenst|ongewenste e-mail|ongewenste post|ongewenst postvak
    skräppost|uønsket e-mail|uønsket post|søppelpost|søppel-e-post|roskaposti|roskapostit
    wiadomości-śmieci|niechciane|nevyžádaná pošta|nevyžiadaná pošta|levélszemét|önemsiz|gereksiz|istenmeyen
    спам|нежелательная почта|небажана пошта|ανεπιθύμητα|垃圾邮件|垃圾郵件|迷惑メール|스팸|정크 메일
    """.strip()
    .replace("\n", "|")
    .split("|")
)


class Watched(NamedTuple):
    """A folder to watch. `raw` is its name on the wire (modified UTF-7)."""

    name: str
    raw: str
    placement: Placement


INBOX = Watched("INBOX", "INBOX", "inbox")


def choose(folders: Sequence[Folder], wanted: Iterable[str] = ()) -> list[Watched]:
    """INBOX, and the folders named in `wanted`, else the junk folder if one can be found.

    A wanted folder that the server does not list is left out; the caller compares and says so.
    """
    usable = [f for f in folders if not f.attributes & {"\\noselect", "\\nonexistent"} and f.name.upper() != "INBOX"]
    names = {name for name in wanted if name.upper() != "INBOX"}
    if names:
        return [INBOX, *(Watched(f.name, f.raw, "junk" if _is_junk(f) else "other") for f in usable if f.name in names)]
    marked = [f for f in usable if "\\junk" in f.attributes] or [f for f in usable if _is_junk(f)]
    return [INBOX, *(Watched(f.name, f.raw, "junk") for f in marked[:1])]


def _is_junk(folder: Folder) -> bool:
    if "\\junk" in folder.attributes:
        return True
    # Some servers give no delimiter for INBOX.Junk, others give one that the name does not use.
    separators = {folder.delimiter, "/", "."} - {"", "NIL"}
    return any(_folded(folder.name.rpartition(separator)[2]) in _JUNK_NAMES for separator in separators)


def _folded(name: str) -> str:
    """Without case, and without the dot that lower() leaves behind a Turkish capital İ."""
    return name.lower().replace("i\N{COMBINING DOT ABOVE}", "i")
