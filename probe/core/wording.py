"""What mail systems say in bounces, where no machine-readable part says it.

Rule: every pattern here takes linear time, and none decides alone that a mail is a bounce.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Action = Literal["failed", "delayed", "relayed", "delivered", "expanded"]  # RFC 3464 §2.3.3

UNDELIVERED = re.compile(
    r"undeliver(?:able|ed)|non-?deliver|not (?:yet )?(?:been )?delivered|not deliverable|was ?n.t delivered"
    r"|(?:could ?n.t|could not|cannot|can.t|not) be delivered|(?:unable|was ?n.t able|not possible) to deliver"
    r"|deliver[a-z]* (?:has |is |was )?(?:fail|problem|status|report|notif|incomplete|delay|warning|attempt|error)"
    r"|mail delivery|failed to deliver|failure notice|failed mail|returned mail|mail returned|returning message"
    r"|did not reach (?:some|the following)|still being retried|mail system error|message (?:rejected|blocked)"
    r"|(?:mail|message|recipients?)(?: [\w-]{1,40})? (?:has been |have been |is |was )?delayed"
    r"|delayed (?:mail|message|delivery)"
    r"|unzustellbar|nicht (?:zugestellt|zustellbar|übermittelt)|zustell(?:ung fehl|fehler|ung verzögert)"
    r"|empfänger nicht erreicht"
    r"|non remis|non distribu|échec de (?:la )?(?:remise|distribution|livraison)|n.a pas pu être (?:remis|distribu)"
    r"|(?:remise|livraison) retardée|no se (?:puede|pudo|ha podido) entregar|no entregad|correo devuelto"
    r"|entrega retrasada"
    r"|mancat[oa] (?:recapito|consegna)|impossibile (?:recapitare|consegnare)|non recapitabile|recapito ritardato"
    r"|não (?:foi )?(?:entregue|pôde ser entregue)|não é possível entregar|falha na entrega"
    r"|onbestelbaar|niet (?:worden )?(?:bezorgd|afgeleverd)|bezorging vertraagd"
    r"|nie (?:można|udało się) dostarczyć|niedostarczon|nedoručiteln|kézbesíthetetlen|teslim edilemedi"
    r"|(?:kan|kunne) (?:inte|ikke) lever|går inte att leverera|ei voida toimittaa"
    r"|не ?доставлен|не удалось доставить|недоставлен|配信不能|配信できません|退信|无法投递|未送达|無法傳遞",
    re.I,
)
# By subject first: the text of a warning tells what will happen in the end, that of a failure what happened before.
_DELAY = re.compile(
    r"delay|warning|still being retried|will (?:be )?(?:retr|keep trying)|will continue|not yet been delivered"
    r"|verzögert|weiterhin versuch|retardé|retrasad|ritard|vertraagd|atrasad|opóźni|försen|forsink|задерж|отложен",
    re.I,
)
_SUCCESS = re.compile(r"\bsuccessful|\(success\)|\(relay\)|^(?:relayed|delivered|zugestellt|remis|entregado)\b", re.I)
_FAILURE = re.compile(r"fail|not success|undeliver|unzustellbar|returned|returning|non remis|no se puede", re.I)

# Where the mail itself begins within the text. One class for what leads up to the words: two would backtrack.
_COPY = re.compile(
    r"^[-=_*|+ \t]*(?:below this line is (?:a|the) copy|this is a copy of (?:the|your) (?:message|headers)"
    r"|(?:here is )?a copy of the (?:message|headers)|the headers? of the original|original message"
    r"|returned message|unsent message|message headers? follow|header of the (?:original|message)"
    r"|ursprüngliche nachricht|kopfzeilen der ursprünglichen|en-têtes de message d'origine|en-têtes du message)",
    re.I | re.M,
)

_ENHANCED = r"([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)"  # RFC 3463; no piece of an IP address
_CODE_IN_BRACKETS = re.compile(rf"#{_ENHANCED}")  # qmail's "(#5.1.1)", Exchange's "<exch01.example.org #5.1.1>"
_CODES = (
    re.compile(rf"(?<![\d.])[245]\d\d[ :-]+#?{_ENHANCED}"),  # beside a reply code: nearly everybody
    _CODE_IN_BRACKETS,
    re.compile(rf"^[ \t]*{_ENHANCED}[ \t]", re.M),  # GMX and 1&1, which drop the reply code
    re.compile(r"(?:^|[:'\"(])[ \t]*([45]\d\d)[ -]", re.M),  # a server without enhanced codes
)
_ADDRESS = re.compile(r"^[ \t]*[\"'<]?([^\s\"'<>@]{1,64}@[^\s\"'<>@:,;]{1,253})", re.M)
_REPORTING = re.compile(r"(?:qmail-send program at|generating server:|notification from) ([\w.-]*\w)", re.I)
_REMOTE = re.compile(
    r"(?<!at )\bhost:? ([\w.-]+\.\w+)|connect to ([\w.-]+\w)\[|while talking to ([\w.-]+\w)"
    r"|^([\w.-]+\.\w+) (?:does not like|failed after i sent)"
    r"|\bby ([\w.-]+\w)\.? \[|^ *([\w.-]+\.\w+) \[[\d.a-f:]+\]:",
    re.I | re.M,
)


class Spoken(NamedTuple):
    """What a text says, each "" where it does not; nothing is cleaned yet."""

    status: str
    diagnostic: str
    reporting_mta: str
    remote_mta: str
    recipient: str


def split_copy(text: str) -> tuple[str, str]:
    """The explanation, and the copy of the mail that follows it within the same text."""
    match = _COPY.search(text)
    return (text[: match.start()], text[match.start() :]) if match else (text, "")


def listen(text: str) -> Spoken:
    """What an explanation says."""
    code = next((match for pattern in _CODES if (match := pattern.search(text))), None)
    recipient = _ADDRESS.search(text)
    return Spoken(
        status=code[1] if code and "." in code[1] else "",
        diagnostic=_reason(text, code, recipient),
        reporting_mta=_one_of(_REPORTING.search(text)),
        remote_mta=_one_of(_REMOTE.search(text)),
        recipient=recipient[1] if recipient else "",
    )


def action(subject: str, text: str, status: str) -> Action:
    """What has become of the mail, by the words of a notice that has been recognised as one."""
    if _DELAY.search(subject):
        return "delayed"
    if status.startswith("5") or _FAILURE.search(subject):
        return "failed"
    if _SUCCESS.search(subject):
        return "delivered"
    return "delayed" if _DELAY.search(text) else "failed"


def _reason(text: str, code: re.Match[str] | None, recipient: re.Match[str] | None) -> str:
    """What the server replied, as far as the next blank line; what follows the recipient, where no reply is quoted."""
    if code and code.re is not _CODE_IN_BRACKETS:  # these end a sentence
        return text[code.start() :].lstrip(" \t\n:'\"(").partition("\n\n")[0]
    return text[recipient.end() if recipient else 0 :].lstrip(" \t\n:'\">") or text


def _one_of(match: re.Match[str] | None) -> str:
    return next(filter(None, match.groups()), "") if match else ""
