//! Listens to the server's log lines: counts the situations they speak of, and prints them where asked to.
//!
//! Situations are told from the first words of a line, so that the server needs no switch to be observed.
//! A line whose words change is simply no longer counted; `scenarios/*.toml` with a `[require]` notice that.
//!
//! Does not draw from any dice and makes no task: listening never changes what happens.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, span};
use tracing_subscriber::filter::Targets;

use crate::world::entropy::current_node;

/// First words of a line, and the situation they speak of.
const SITUATIONS: &[(&str, &str)] = &[
    ("became leader", "elections_won"),
    ("lost leader", "leaders_lost"),
    ("recovered: ", "recoveries"),
    ("snapshot at index", "snapshots_taken"),
    ("sending a snapshot", "snapshots_sent"),
    ("installed a snapshot", "snapshots_installed"),
    ("snapshot to member", "snapshot_sends_failed"),
    ("snapshot not taken in", "snapshots_refused"),
    ("refused damage", "damage_refused"),
    ("removed a torn write", "log_tails_repaired"),
    ("removed a snapshot that the log does not know", "unknown_snapshots_removed"),
    ("set a damaged snapshot aside", "snapshots_set_aside"),
];

/// One run's listener.
pub struct Listener {
    counts: Arc<Mutex<BTreeMap<&'static str, u64>>>,
    shown: Option<Targets>,
}

/// What was counted; to be asked when the run has ended.
#[derive(Clone)]
pub struct Counts(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Counts {
    /// How often each situation occurred.
    #[must_use]
    pub fn get(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().expect("nothing panics while counting").clone()
    }
}

/// A listener that prints what `filter` (as in `info` or `snowglobe::raft=debug`) lets through.
/// Errors: what is wrong with the filter.
pub fn listener(filter: Option<&str>) -> Result<(tracing::Dispatch, Counts), String> {
    let parse = |filter: &str| {
        filter.parse::<Targets>().map_err(|error| format!("`{filter}` is no filter: {error}"))
    };
    let shown = filter.map(parse).transpose()?;
    let counts = Arc::default();
    let listener = Listener { counts: Arc::clone(&counts), shown };
    Ok((tracing::Dispatch::new(listener), Counts(counts)))
}

impl Listener {
    fn shows(&self, metadata: &Metadata<'_>) -> bool {
        self.shown
            .as_ref()
            .is_some_and(|shown| shown.would_enable(metadata.target(), metadata.level()))
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let counted =
            *metadata.level() <= Level::INFO && metadata.target().starts_with("snowglobe");
        metadata.is_event() && (counted || self.shows(metadata))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(if self.shown.is_some() { LevelFilter::TRACE } else { LevelFilter::INFO })
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let found = if line.message.ends_with("was not needed") {
            Some(&("", "snapshots_not_needed"))
        } else {
            SITUATIONS.iter().find(|(words, _)| line.message.starts_with(words))
        };
        // A machine apart is no part of the run.
        if let Some((_, name)) = found.filter(|_| current_node() != "apart") {
            *self.counts.lock().expect("nothing panics while counting").entry(name).or_default() +=
                1;
        }
        if self.shows(event.metadata()) {
            let now = madsim::time::TimeHandle::try_current().map(|time| time.elapsed());
            let seconds = now.map_or(0.0, |elapsed| elapsed.as_secs_f64());
            let (level, target) = (event.metadata().level(), event.metadata().target());
            let (node, Line { message, fields }) = (current_node(), line);
            eprintln!("{seconds:12.6} {node:4} {level:5} {target}: {message}{fields}");
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// A line's message, and its other fields as ` name=value`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
        written.expect("strings take everything");
    }
}
