//! Reads TOML tables key by key, and keeps every complaint with its place and a suggestion.
//!
//! A [`Table`] is asked for the keys it may have; what was never asked for is reported as unknown at the end,
//! so that the list of known keys cannot drift from the code that reads them.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report,
};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Span;

/// One mistake: where, what, and how to mend it.
#[derive(Clone, Debug)]
pub struct Complaint {
    /// Bytes of the file.
    pub place: Range<usize>,
    /// What is wrong, with the whole file.
    pub text: String,
    /// What is wrong, at the mark.
    pub mark: String,
    /// How to mend it.
    pub help: Option<String>,
}

/// All mistakes found in one file.
#[derive(Clone, Default)]
pub struct Complaints(Rc<RefCell<Vec<Complaint>>>);

impl Complaints {
    /// Adds one.
    pub fn add(
        &self,
        place: Range<usize>,
        text: String,
        mark: impl Into<String>,
        help: Option<String>,
    ) {
        self.0.borrow_mut().push(Complaint { place, text, mark: mark.into(), help });
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// All of them as text: file, line, the marked snippet, help; in the order of the file.
    #[must_use]
    pub fn render(&self, path: &str, source: &str) -> String {
        let mut complaints = self.0.borrow().clone();
        complaints.sort_by_key(|complaint| complaint.place.start);
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
            .with_width(100)
            .without_cause_chain();
        let mut out = String::new();
        for complaint in complaints {
            let label = LabeledSpan::new_with_span(Some(complaint.mark), complaint.place);
            let mut diagnostic = MietteDiagnostic::new(complaint.text).with_label(label);
            diagnostic.help = complaint.help;
            let report = Report::new(diagnostic)
                .with_source_code(NamedSource::new(path, source.to_string()));
            handler
                .render_report(&mut out, report.as_ref())
                .expect("writing to a string cannot fail");
        }
        out
    }
}

/// `did you mean …`, for the nearest of the words, if one is near.
#[must_use]
pub fn did_you_mean<'a>(given: &str, words: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let words: Vec<&str> = words.into_iter().collect();
    let near = words
        .iter()
        .map(|word| (strsim::damerau_levenshtein(given, word), *word))
        .filter(|(distance, word)| *distance <= word.len().max(3) / 3 + 1)
        .min()
        .map(|(_, word)| format!("did you mean `{word}`?"));
    near.or_else(|| (!words.is_empty()).then(|| format!("one of: {}", words.join(", "))))
}

/// One table that is being read.
pub struct Table<'a> {
    table: &'a DeTable<'a>,
    /// Its name in messages, such as `[cluster]`.
    name: String,
    /// Where its header stands.
    place: Range<usize>,
    complaints: Complaints,
    asked: RefCell<Vec<&'static str>>,
}

/// A value and where it stands.
pub type Placed<T> = (T, Range<usize>);

impl<'a> Table<'a> {
    /// Starts to read `table`, called `name` in messages.
    #[must_use]
    pub fn new(
        table: &'a DeTable<'a>,
        name: impl Into<String>,
        place: Range<usize>,
        complaints: &Complaints,
    ) -> Self {
        Self {
            table,
            name: name.into(),
            place,
            complaints: complaints.clone(),
            asked: RefCell::default(),
        }
    }

    /// Where the table stands.
    #[must_use]
    pub fn place(&self) -> Range<usize> {
        self.place.clone()
    }

    /// The value of `key`, unread.
    pub fn raw(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.borrow_mut().push(key);
        self.table.get(key)
    }

    /// Every key with its value and the places of both: for tables whose keys are not known here.
    pub fn entries(
        &self,
    ) -> impl Iterator<Item = (&'a str, Range<usize>, &'a Spanned<DeValue<'a>>)> {
        self.table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value))
    }

    /// A complaint about a value of this table.
    pub fn complain(
        &self,
        place: Range<usize>,
        text: String,
        mark: impl Into<String>,
        help: Option<String>,
    ) {
        self.complaints.add(place, text, mark, help);
    }

    fn wrong_kind(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        let text = format!("`{key}` in {} must be {wanted}", self.name);
        self.complain(value.span(), text, format!("this is a {found}"), None);
    }

    /// A text.
    pub fn text(&self, key: &'static str) -> Option<Placed<String>> {
        let value = self.raw(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_kind(key, value, "a text");
            return None;
        };
        Some((text.to_string(), value.span()))
    }

    /// Yes or no.
    pub fn boolean(&self, key: &'static str) -> Option<bool> {
        let value = self.raw(key)?;
        let answer = value.get_ref().as_bool();
        if answer.is_none() {
            self.wrong_kind(key, value, "true or false");
        }
        answer
    }

    /// A whole number within bounds.
    pub fn number(&self, key: &'static str, low: u64, high: u64) -> Option<u64> {
        let value = self.raw(key)?;
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        match number {
            Some(number) if (low..=high).contains(&number) => Some(number),
            _ if value.get_ref().is_integer() => {
                let text = format!("`{key}` in {} is out of range", self.name);
                self.complain(value.span(), text, format!("must be from {low} to {high}"), None);
                None
            }
            _ => {
                self.wrong_kind(key, value, "a whole number");
                None
            }
        }
    }

    /// A duration such as `"250ms"`, in microseconds.
    pub fn duration(&self, key: &'static str) -> Option<Placed<u64>> {
        let (text, place) = self.text(key)?;
        match parse_duration(&text) {
            Ok(us) => Some((us, place)),
            Err(mark) => {
                self.bad_duration(key, place, mark);
                None
            }
        }
    }

    /// A duration or a range of them such as `"1s..4s"`, in microseconds.
    pub fn span(&self, key: &'static str) -> Option<Placed<Span>> {
        let (text, place) = self.text(key)?;
        let parsed = match text.split_once("..") {
            Some((low, high)) => {
                parse_duration(low).and_then(|low| Ok((low, parse_duration(high)?)))
            }
            None => parse_duration(&text).map(|us| (us, us)),
        };
        match parsed {
            Ok((min, max)) if min <= max => Some((Span { min, max }, place)),
            Ok(_) => {
                self.bad_duration(key, place, "the range ends before it starts".into());
                None
            }
            Err(mark) => {
                self.bad_duration(key, place, mark);
                None
            }
        }
    }

    fn bad_duration(&self, key: &str, place: Range<usize>, mark: String) {
        let text = format!("`{key}` in {} is not a duration", self.name);
        let help =
            "write a number and a unit: \"800us\", \"250ms\", \"5s\", \"2m\"; a range: \"1s..4s\"";
        self.complain(place, text, mark, Some(help.into()));
    }

    /// A table inside.
    pub fn table(&self, key: &'static str) -> Option<Table<'a>> {
        let value = self.raw(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_kind(key, value, "a table");
            return None;
        };
        Some(Table::new(table, format!("[{key}]"), value.span(), &self.complaints))
    }

    /// A list of tables inside, as `[[key]]`.
    pub fn tables(&self, key: &'static str) -> Vec<Table<'a>> {
        let Some(value) = self.raw(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_kind(key, value, &format!("a list of tables: write [[{key}]]"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_table() {
                Some(table) => {
                    tables.push(Table::new(
                        table,
                        format!("[[{key}]]"),
                        item.span(),
                        &self.complaints,
                    ));
                }
                None => self.wrong_kind(key, item, &format!("a list of tables: write [[{key}]]")),
            }
        }
        tables
    }

    /// Complains of a key that must be there and is not.
    pub fn missing(&self, key: &str, help: &str) {
        let text = format!("{} has no `{key}`", self.name);
        self.complain(self.place.clone(), text, "in here", Some(help.into()));
    }

    /// Complains of every key that nobody asked for.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for (key, place, _) in self.entries() {
            if !asked.contains(&key) {
                let text = format!("unknown key `{key}` in {}", self.name);
                self.complain(
                    place,
                    text,
                    "not known here",
                    did_you_mean(key, asked.iter().copied()),
                );
            }
        }
    }
}

/// Reads `"250ms"` into microseconds. Errors: in words, for the mark.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let Ok(number) = number.parse::<u64>() else {
        return Err(format!("`{text}` does not start with a whole number"));
    };
    let factor = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "" => return Err(format!("`{text}` has no unit")),
        _ => return Err(format!("`{unit}` is not a unit of time")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too long"))
}
