"""All words of a report, in English and German: one table per language.

Rule: both tables have the same keys, and the same fields in braces under each.
"""

from __future__ import annotations

from probe.core.phrases import Language

TEXTS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "Report on the delivery of e-mail",
        "subtitle": "{sender} to {recipient}",
        "span": "Span",
        "from_to": "{since} to {until}",
        "made": "Made",
        "by": "by {program}",
        "times": "Times",
        "in_utc": "in UTC",
        "in_zone": "in UTC and in {zone}",
        "seal": "Seal of this report",
        "missing": "The ledger was being brought up to date: what was sent after {at} is not yet in this report.",
        "route": "Route {route}",
        "summary": "Summary",
        "sent": "From {since} to {until} mailprobe sent {sent} from {sender} to {recipient}; of these, "
        "{accepted} went to the sender's provider for delivery.",
        "all_well": "None of them was late, lost or returned.",
        "bad": "{late} of {accepted} mails were not there in time: {fates}.",
        "deadlines": "In time means: within {deadlines} after the sender's server had accepted the mail.",
        "worst.arrived": "The mail that was held longest was accepted on {accepted} and arrived {held} later.",
        "worst.between": "The mail that was held longest was accepted on {accepted} and arrived {held} later, between "
        "{low} and {high}.",
        "worst.away": "The mail that was held longest was accepted on {accepted} and was not there after {held}, as "
        "of {made}.",
        "fault": "What the mails' own headers tell: {segment} held them longest, {each} on average of {mails}.",
        "refused": "Not accepted at all: {refused}; they have a table of their own.",
        "in_flight": "Not there yet when this report was made: {number}.",
        "latencies": "Of all {number} deliveries that were measured, half took at most {median}, 95 of 100 at most "
        "{p95}, 99 of 100 at most {p99}, and the longest {most}.",
        "unknown": "Nobody can say of {number} whether they came in time: mailprobe itself was not looking.",
        "junk": "Put into the junk folder: {number}.",
        "mail": "1 mail",
        "mails": "{number} mails",
        "fate.late": "late",
        "fate.found": "given up as lost, but came later",
        "fate.lost": "lost",
        "fate.bounced": "returned",
        "fate.in_flight": "not there yet",
        "fate.unconfirmed": "acceptance not confirmed",
        "fate.delivered": "delivered, and reported as failed",
        "fate.sending": "being sent",
        "fate.rejected": "rejected for good",
        "fate.deferred": "refused for now",
        "fate.failed": "not sent",
        "segment.submission": "the submission",
        "segment.sender": "the sender's provider",
        "segment.between": "a server between both providers",
        "segment.recipient": "the recipient's provider",
        "segment.provider": "the provider of both",
        "segment.unresolved": "one of the providers, it cannot be told which,",
        "segment.mailbox": "the recipient's mailbox",
        "chart": "Delivery time",
        "chart.text": "Each mail stands where it was sent; its height is the time until it arrived, on a logarithmic "
        "scale. Grey: all deliveries, from the quickest to the slowest of each stretch of time, the dot is their "
        "median. Filled circles: late mails. Open bars: mails that never came, or had not come when this report was "
        "made. Dashed: the deadlines.",
        "strip": "Mails per {width}",
        "strip.text": "Each column is one {width}; its height is how many mails were sent. Dark: late, lost or "
        "returned. Hatched: refused. White: nobody could see, or not known yet. Times in UTC.",
        "hour": "hour",
        "day": "day",
        "open": "not over",
        "incidents": "Incidents",
        "incident.kind": "what",
        "incident.begin": "from",
        "incident.end": "to",
        "incident.mails": "affected",
        "incident.peak": "longest",
        "incident.fault": "held longest by",
        "no_incidents": "None is on record.",
        "mails.title": "Late, lost and returned mails",
        "no_mails": "There are none.",
        "refused.title": "Mails that were not accepted",
        "number": "No.",
        "moments": "When ({zone})",
        "became": "What became of it",
        "said": "What the servers said",
        "moment.due": "due",
        "moment.started": "started",
        "moment.accepted": "accepted",
        "moment.unconfirmed": "acceptance not confirmed",
        "moment.rejected": "rejected",
        "moment.deferred": "refused for now",
        "moment.failed": "failed",
        "moment.seen": "arrived",
        "moment.again": "seen again",
        "moment.noticed": "noticed",
        "moment.stored": "stored (server's clock)",
        "moment.met": "there after {deadline}",
        "moment.missed": "not there after {deadline}",
        "moment.unseen": "nobody could see ({deadline})",
        "moment.delayed": "notice of delay",
        "moment.relayed": "notice: relayed",
        "moment.delivered": "notice: delivered",
        "moment.expanded": "notice: expanded",
        "moment.bounced": "returned",
        "moment.expired": "given up as lost",
        "moment.vanished": "removed by somebody else",
        "between": "between",
        "and": "and",
        "latest": "at the latest",
        "to": "{low} to {high}",
        "stage": "at: {stage}",
        "held": "held for {held}",
        "away": "not there after {held}",
        "doubtful": "mailprobe was not looking: when it came is not known more exactly",
        "uncertainty": "known to within {uncertainty}",
        "detection.idle": "the server announced it",
        "detection.poll": "seen by asking",
        "detection.catch-up": "found when looking again after an interruption",
        "stamp": "its time narrowed down by the server's own stamp",
        "clock.boottime": "by the monotonic clock",
        "clock.wall": "by the wall clock",
        "step": "the wall clock was set by {step} meanwhile",
        "folder": "in folder {folder}",
        "copies": "{copies} copies",
        "chained": "link {link} of the chain",
        "unchained": "not in the chain yet",
        "queue_id": "queue id {id}",
        "notice": "notice from {mta}",
        "nobody": "an unnamed server",
        "held_by": "{segment}: {held}",
        "authentication": "authentication: {results}",
        "way.title": "The way of mail {number} through the servers",
        "way.text": "From the header of the mail itself, oldest first. Each time is by the clock of the server that "
        "wrote it; mailprobe does not answer for these clocks. The headers are kept for {details} of {rows} mails, "
        "those that were held longest.",
        "server": "server",
        "client": "took it from",
        "id": "its id",
        "date": "its time (UTC)",
        "after": "after the acceptance",
        "clocks.title": "Clocks",
        "clocks.boottime": "Measured by the machine's monotonic clock, which runs on evenly and cannot be "
        "set: {number}.",
        "clocks.wall": "Measured by its wall clock, since the machine was restarted meanwhile or they have not "
        "come: {number}.",
        "clocks.steps": "The wall clock was set during the way of {number}.",
        "method.title": "How this was measured",
        "method.1": "mailprobe sends test mails on a fixed schedule, whatever became of those before. Each carries a "
        "number with a cryptographic signature, by which it is known again; a forged or copied one is not counted.",
        "method.2": "“Accepted” is the moment at which the sender's server confirmed with reply code 250 that it had "
        "taken the whole mail. By RFC 5321, section 6.1, it has from then on the responsibility for delivering the "
        "mail or reporting that it cannot.",
        "method.3": "“Arrived” is the moment at which the recipient's server first told of the mail by IMAP, on a "
        "connection that is open all the time. Where that connection was interrupted, the report says between which "
        "moments the mail came.",
        "method.4": "A mail that has not come is never taken for one that was delivered. Time in which mailprobe "
        "could not look is never counted as a delay of the provider.",
        "proof.title": "What can be checked, and what that proves",
        "proof.1": "This file holds its evidence as data. The command “mailprobe verify FILE” checks without a "
        "network that every number on these pages follows from that evidence, that the seal fits, and that the "
        "records of the mails are links of an unbroken chain of SHA-256 digests. A changed octet is found; a file "
        "that was made anew has another seal.",
        "proof.2": "The chain proves that nothing in these records was changed, taken out or put in since somebody "
        "else was given a head, the last link of a day. Without such a witness it proves only that all fits "
        "together: who keeps the ledger could have made up all of it.",
        "proof.3": "The counts of all mails, the charts, the incidents and the headers are not records of the chain; "
        "of these, and of which mails stand here, the seal proves that they are as they were when this report was "
        "made.",
        "proof.4": "The servers' own replies and queue ids stand beside each mail: with them the providers can find "
        "the mail in their own logs.",
        "heads": "Heads of the chain",
        "heads.day": "day (UTC)",
        "heads.number": "records",
        "heads.link": "head",
        "evidence": "Evidence",
        "no_chain": "This form carries no chain and cannot be verified; the HTML and JSON forms can.",
    },
    "de": {
        "title": "Bericht über die Zustellung von E-Mail",
        "subtitle": "{sender} an {recipient}",
        "span": "Zeitraum",
        "from_to": "{since} bis {until}",
        "made": "Erstellt",
        "by": "von {program}",
        "times": "Zeiten",
        "in_utc": "in UTC",
        "in_zone": "in UTC und in {zone}",
        "seal": "Siegel dieses Berichts",
        "missing": "Die Aufzeichnung wurde gerade ergänzt: Was nach {at} gesendet wurde, fehlt in diesem Bericht noch.",
        "route": "Strecke {route}",
        "summary": "Zusammenfassung",
        "sent": "Vom {since} bis {until} sendete mailprobe {sent} von {sender} an {recipient}; zur "
        "Zustellung an den Anbieter des Absenders kamen davon {accepted}.",
        "all_well": "Keine davon war verspätet, verloren oder kam zurück.",
        "bad": "{late} von {accepted} Mails waren nicht rechtzeitig da: {fates}.",
        "deadlines": "Rechtzeitig heißt: innerhalb von {deadlines}, nachdem der Server des Absenders die Mail "
        "angenommen hatte.",
        "worst.arrived": "Die Mail, die am längsten festgehalten wurde, wurde am {accepted} angenommen und kam "
        "{held} später an.",
        "worst.between": "Die Mail, die am längsten festgehalten wurde, wurde am {accepted} angenommen und kam {held} "
        "später an, zwischen {low} und {high}.",
        "worst.away": "Die Mail, die am längsten festgehalten wurde, wurde am {accepted} angenommen und war nach "
        "{held} nicht da; Stand {made}.",
        "fault": "Nach den Kopfzeilen der Mails selbst: Am längsten hielt sie {segment} fest, im Mittel "
        "{each} bei {mails}.",
        "refused": "Gar nicht angenommen: {refused}; sie stehen in einer eigenen Tabelle.",
        "in_flight": "Noch nicht da, als dieser Bericht erstellt wurde: {number}.",
        "latencies": "Von allen {number} gemessenen Zustellungen dauerte die Hälfte höchstens {median}, 95 von 100 "
        "höchstens {p95}, 99 von 100 höchstens {p99}, die längste {most}.",
        "unknown": "Von {number} kann niemand sagen, ob sie rechtzeitig kamen: mailprobe selbst sah nicht hin.",
        "junk": "In den Spam-Ordner kamen: {number}.",
        "mail": "1 Mail",
        "mails": "{number} Mails",
        "fate.late": "verspätet",
        "fate.found": "als verloren aufgegeben, kam später doch",
        "fate.lost": "verloren",
        "fate.bounced": "zurückgekommen",
        "fate.in_flight": "noch nicht da",
        "fate.unconfirmed": "Annahme nicht bestätigt",
        "fate.delivered": "zugestellt, und als gescheitert gemeldet",
        "fate.sending": "wird gesendet",
        "fate.rejected": "endgültig abgewiesen",
        "fate.deferred": "vorläufig abgewiesen",
        "fate.failed": "nicht gesendet",
        "segment.submission": "die Einlieferung",
        "segment.sender": "der Anbieter des Absenders",
        "segment.between": "ein Server zwischen beiden Anbietern",
        "segment.recipient": "der Anbieter des Empfängers",
        "segment.provider": "der Anbieter beider",
        "segment.unresolved": "einer der Anbieter (welcher, ist nicht zu sagen)",
        "segment.mailbox": "das Postfach des Empfängers",
        "chart": "Dauer der Zustellung",
        "chart.text": "Jede Mail steht dort, wo sie gesendet wurde; ihre Höhe ist die Zeit, bis sie ankam, in "
        "logarithmischem Maßstab. Grau: alle Zustellungen, von der schnellsten bis zur langsamsten jedes "
        "Zeitabschnitts, der Punkt ist ihr Median. Volle Kreise: verspätete Mails. Offene Balken: Mails, die nie "
        "kamen oder noch nicht da waren, als dieser Bericht erstellt wurde. Gestrichelt: die Fristen.",
        "strip": "Mails je {width}",
        "strip.text": "Jede Säule: {width}; ihre Höhe ist die Zahl der gesendeten Mails. Dunkel: verspätet, verloren "
        "oder zurückgekommen. Schraffiert: abgewiesen. Weiß: niemand konnte es sehen, oder noch nicht bekannt. "
        "Zeiten in UTC.",
        "hour": "Stunde",
        "day": "Tag",
        "open": "dauert an",
        "incidents": "Störungen",
        "incident.kind": "was",
        "incident.begin": "von",
        "incident.end": "bis",
        "incident.mails": "betroffen",
        "incident.peak": "längste Dauer",
        "incident.fault": "am längsten bei",
        "no_incidents": "Keine ist verzeichnet.",
        "mails.title": "Verspätete, verlorene und zurückgekommene Mails",
        "no_mails": "Es gibt keine.",
        "refused.title": "Mails, die nicht angenommen wurden",
        "number": "Nr.",
        "moments": "Wann ({zone})",
        "became": "Was daraus wurde",
        "said": "Was die Server sagten",
        "moment.due": "fällig",
        "moment.started": "begonnen",
        "moment.accepted": "angenommen",
        "moment.unconfirmed": "Annahme nicht bestätigt",
        "moment.rejected": "endgültig abgewiesen",
        "moment.deferred": "vorläufig abgewiesen",
        "moment.failed": "gescheitert",
        "moment.seen": "angekommen",
        "moment.again": "noch einmal gesehen",
        "moment.noticed": "bemerkt",
        "moment.stored": "abgelegt (Serveruhr)",
        "moment.met": "nach {deadline} da",
        "moment.missed": "nach {deadline} nicht da",
        "moment.unseen": "niemand konnte es sehen ({deadline})",
        "moment.delayed": "Hinweis auf Verzögerung",
        "moment.relayed": "Hinweis: weitergereicht",
        "moment.delivered": "Hinweis: zugestellt",
        "moment.expanded": "Hinweis: verteilt",
        "moment.bounced": "zurückgekommen",
        "moment.expired": "als verloren aufgegeben",
        "moment.vanished": "von jemand anderem entfernt",
        "between": "zwischen",
        "and": "und",
        "latest": "spätestens",
        "to": "{low} bis {high}",
        "stage": "bei: {stage}",
        "held": "{held} festgehalten",
        "away": "nach {held} nicht da",
        "doubtful": "mailprobe sah nicht hin: genauer ist nicht bekannt, wann sie kam",
        "uncertainty": "auf {uncertainty} genau bekannt",
        "detection.idle": "der Server meldete sie",
        "detection.poll": "durch Nachfragen gesehen",
        "detection.catch-up": "gefunden, als nach einer Unterbrechung nachgesehen wurde",
        "stamp": "die Zeit nach dem Stempel des Servers selbst",
        "clock.boottime": "mit der monotonen Uhr",
        "clock.wall": "mit der Systemuhr",
        "step": "die Systemuhr wurde unterdessen um {step} gestellt",
        "folder": "im Ordner {folder}",
        "copies": "{copies} Exemplare",
        "chained": "Glied {link} der Kette",
        "unchained": "noch nicht in der Kette",
        "queue_id": "Queue-ID {id}",
        "notice": "Hinweis von {mta}",
        "nobody": "einem ungenannten Server",
        "held_by": "{segment}: {held}",
        "authentication": "Authentifizierung: {results}",
        "way.title": "Der Weg der Mail {number} durch die Server",
        "way.text": "Aus den Kopfzeilen der Mail selbst, die älteste zuerst. Jede Zeit ist die der Uhr des Servers, "
        "der sie schrieb; für diese Uhren steht mailprobe nicht ein. Die Kopfzeilen liegen für {details} von {rows} "
        "Mails bei, für die am längsten festgehaltenen.",
        "server": "Server",
        "client": "übernahm sie von",
        "id": "seine Nummer",
        "date": "seine Zeit (UTC)",
        "after": "nach der Annahme",
        "clocks.title": "Uhren",
        "clocks.boottime": "Mit der monotonen Uhr des Rechners gemessen, die gleichmäßig läuft und nicht gestellt "
        "werden kann: {number}.",
        "clocks.wall": "Mit seiner Systemuhr gemessen, weil er unterdessen neu gestartet wurde oder sie nicht gekommen "
        "sind: {number}.",
        "clocks.steps": "Während des Weges von {number} wurde die Systemuhr gestellt.",
        "method.title": "Wie gemessen wurde",
        "method.1": "mailprobe sendet Testmails nach festem Zeitplan, gleich was aus den vorigen wurde. Jede trägt "
        "eine Nummer mit kryptografischer Signatur, an der sie wiedererkannt wird; gefälschte und kopierte zählen "
        "nicht.",
        "method.2": "„Angenommen“ ist der Augenblick, in dem der Server des Absenders mit der Antwort 250 "
        "bestätigte, dass er die ganze Mail hat. Nach RFC 5321, Abschnitt 6.1, ist er von da an verantwortlich, die "
        "Mail zuzustellen oder zu melden, dass er es nicht kann.",
        "method.3": "„Angekommen“ ist der Augenblick, in dem der Server des Empfängers auf einer ständig offenen "
        "IMAP-Verbindung zuerst von der Mail berichtete. Wo diese Verbindung unterbrochen war, sagt der Bericht, "
        "zwischen welchen Augenblicken die Mail kam.",
        "method.4": "Eine Mail, die nicht gekommen ist, gilt nie als zugestellt. Zeit, in der mailprobe nicht "
        "hinsehen konnte, zählt nie als Verspätung des Anbieters.",
        "proof.title": "Was geprüft werden kann, und was das beweist",
        "proof.1": "Diese Datei enthält ihre Belege als Daten. Der Befehl „mailprobe verify DATEI“ prüft ohne Netz, "
        "dass jede Zahl auf diesen Seiten aus den Belegen folgt, dass das Siegel passt und dass die Aufzeichnungen "
        "der Mails Glieder einer lückenlosen Kette von SHA-256-Prüfsummen sind. Ein geändertes Zeichen fällt auf; "
        "eine neu gemachte Datei hat ein anderes Siegel.",
        "proof.2": "Die Kette beweist, dass an diesen Aufzeichnungen nichts geändert, herausgenommen oder eingefügt "
        "wurde, seit jemand anderem ein Kopf gegeben wurde, das letzte Glied eines Tages. Ohne solchen Zeugen "
        "beweist sie nur, dass alles zusammenpasst: Wer die Aufzeichnung führt, könnte alles erfunden haben.",
        "proof.3": "Die Zahlen aller Mails, die Schaubilder, die Störungen und die Kopfzeilen sind keine Glieder der "
        "Kette; von ihnen, und davon, welche Mails hier stehen, beweist das Siegel, dass es so ist, wie es bei der "
        "Erstellung des Berichts war.",
        "proof.4": "Bei jeder Mail stehen die Antworten und Nummern der Server selbst: Damit können die Anbieter sie "
        "in ihren eigenen Protokollen finden.",
        "heads": "Köpfe der Kette",
        "heads.day": "Tag (UTC)",
        "heads.number": "Aufzeichnungen",
        "heads.link": "Kopf",
        "evidence": "Belege",
        "no_chain": "Diese Form enthält keine Kette und kann nicht geprüft werden; die Formen HTML und JSON können es.",
    },
}
