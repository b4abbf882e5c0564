//! Reads one `[[fault]]` of a scenario file.

use toml::Spanned;
use toml::de::DeValue;

use super::fault::{Fault, FaultKind, Says, When, Whom};
use super::member_names;
use super::plan::Files;
use super::table::{Table, did_you_mean};
use crate::messages::MessageKind;

/// One `[[fault]]` of a cluster of so many members; `None` only after a complaint.
pub(super) fn read(table: Table<'_>, members: u32, duration_us: u64) -> Option<Fault> {
    let what = what(&table);
    let says = what.map(|what| what.row().says);
    let whom = whom(&table, members, says);
    let when = when(&table, duration_us);
    let lasts = table.span("lasts");
    if lasts.is_none() && table.raw("lasts").is_none() {
        table.missing("lasts", "say for how long: lasts = \"1s..3s\"");
    }
    let awaits_writes = awaits_writes(&table);
    let files = files(&table, says, awaits_writes);
    let messages = messages(&table, what);
    let amount = amount(&table, what);
    table.finish();
    let (what, lasts_us) = (what?, lasts?.0);
    let (whom, when) = (whom?, when?);
    Some(Fault { what, whom, when, lasts_us, files, messages, amount, awaits_writes })
}

fn what(table: &Table<'_>) -> Option<FaultKind> {
    let names = FaultKind::ALL.iter().map(|row| row.name);
    let Some((text, place)) = table.text("what") else {
        if table.raw("what").is_none() {
            table.missing("what", &format!("one of: {}", names.collect::<Vec<_>>().join(", ")));
        }
        return None;
    };
    let found = FaultKind::ALL.iter().find(|row| row.name == text).map(|row| row.kind);
    if found.is_none() {
        let help = did_you_mean(&text, names);
        table.complain(place, format!("there is no fault `{text}`"), "not known", help);
    }
    found
}

fn whom(table: &Table<'_>, members: u32, says: Option<Says>) -> Option<Whom> {
    let names = member_names(members);
    let words = || Whom::WORDS.iter().map(|row| row.0).chain(names.iter().map(String::as_str));
    let Some(value) = table.raw("whom") else {
        if matches!(says, Some(Says::All | Says::AllAmount(_))) {
            return Some(Whom::All);
        }
        table.missing("whom", &format!("one of: {}", words().collect::<Vec<_>>().join(", ")));
        return None;
    };
    let mut named = Vec::new();
    let items: Vec<&Spanned<DeValue<'_>>> = match value.get_ref() {
        DeValue::Array(items) => items.iter().collect(),
        _ => vec![value],
    };
    let alone = items.len() == 1;
    for item in items {
        let text = item.get_ref().as_str().unwrap_or_default();
        let word = Whom::WORDS.iter().find(|row| alone && row.0 == text);
        if let Some((_, whom)) = word {
            return Some(whom.clone());
        }
        if !names.iter().any(|known| known == text) {
            let help = did_you_mean(text, words());
            let sentence = format!("there is no member `{text}`");
            table.complain(item.span(), sentence, "not in this cluster", help);
            return None;
        }
        named.push(text.to_string());
    }
    Some(Whom::Named(named))
}

/// `at`, or `every` with `during`.
fn when(table: &Table<'_>, duration_us: u64) -> Option<When> {
    let (at, every, during) = (table.span("at"), table.span("every"), table.span("during"));
    for (key, span) in [("at", &at), ("during", &during)] {
        if let Some((span, place)) = span
            && span.max > duration_us
        {
            let text = format!("`{key}` ends after the run");
            let mark = format!("the run lasts {}s", duration_us / 1_000_000);
            table.complain(place.clone(), text, mark, None);
        }
    }
    match (at, every) {
        (Some((at, place)), None) => {
            if during.is_some() {
                let text = "`during` means nothing next to `at`".to_string();
                let help = Some("use `every` to repeat it".into());
                table.complain(place, text, "happens once", help);
            }
            Some(When::At(at))
        }
        (None, Some((gap_us, place))) => {
            if gap_us.min < 1_000 {
                table.complain(place, "`every` is too short".into(), "at least 1ms", None);
            }
            let (from_us, until_us) =
                during.map_or((0, duration_us), |(span, _)| (span.min, span.max));
            Some(When::Every { gap_us, from_us, until_us })
        }
        (Some(_), Some((_, place))) => {
            let text = "a fault has `at` or `every`, not both".to_string();
            table.complain(place, text, "one too many", None);
            None
        }
        (None, None) => {
            if table.raw("at").is_none() && table.raw("every").is_none() {
                table.missing("at", "say when: at = \"10s\", or every = \"4s..8s\"");
            }
            None
        }
    }
}

/// The only thing that a fault can wait for.
const WRITES_IN_FLIGHT: &str = "writes-in-flight";

fn awaits_writes(table: &Table<'_>) -> bool {
    let Some((text, place)) = table.text("when") else { return false };
    if text != WRITES_IN_FLIGHT {
        let help = did_you_mean(&text, [WRITES_IN_FLIGHT]);
        table.complain(place, format!("a fault cannot wait for `{text}`"), "not known", help);
    }
    true
}

fn files(table: &Table<'_>, says: Option<Says>, awaits_writes: bool) -> Option<Files> {
    let (text, place) = table.text("files")?;
    let found = Files::ALL.iter().find(|row| row.1 == text).map(|row| row.0);
    if found.is_none() {
        let help = did_you_mean(&text, Files::ALL.iter().map(|row| row.1));
        table.complain(place, format!("there are no files `{text}`"), "not known", help);
        return None;
    }
    let means_something = awaits_writes || matches!(says, Some(Says::FilesAmount(_)));
    let is_trouble = matches!(says, Some(Says::Files));
    if says.is_some() && !means_something && !is_trouble {
        let help =
            format!("only faults of disks have files, or with when = \"{WRITES_IN_FLIGHT}\"");
        table.complain(place, "`files` means nothing here".into(), "not about files", Some(help));
    }
    found
}

fn messages(table: &Table<'_>, what: Option<FaultKind>) -> Option<MessageKind> {
    let (text, place) = table.text("messages")?;
    let found = MessageKind::ALL.iter().find(|row| row.1 == text).map(|row| row.0);
    if found.is_none() {
        let help = did_you_mean(&text, MessageKind::ALL.iter().map(|row| row.1));
        table.complain(place, format!("there are no messages `{text}`"), "not known", help);
        return None;
    }
    let why_not = match (what, found) {
        (Some(FaultKind::RepeatMessages), Some(MessageKind::Propose)) => {
            "forwarded proposals are never repeated: nobody would know them again"
        }
        (Some(FaultKind::HoldMessages), Some(MessageKind::Snapshot)) => {
            "pieces of a snapshot are never held: the call would hang, as `stall` has it"
        }
        (Some(what), _) if !matches!(what.row().says, Says::MessagesAmount(_)) => {
            "only faults of messages have them"
        }
        _ => return found,
    };
    let text = "`messages` means nothing here".to_string();
    table.complain(place, text, "no such messages", Some(why_not.into()));
    found
}

fn amount(table: &Table<'_>, what: Option<FaultKind>) -> u64 {
    let Some(what) = what else {
        let _asked = table.raw("amount");
        return 0;
    };
    match what.row().says.amount() {
        Some(amount) => table.number("amount", amount.1, amount.3).unwrap_or(amount.2),
        None => {
            if let Some(value) = table.raw("amount") {
                let text = format!("`amount` means nothing for `{}`", what.name());
                table.complain(value.span(), text, "leave it out", None);
            }
            0
        }
    }
}
