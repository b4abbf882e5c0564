//! The server's own log lines of one run, on stderr, with virtual time and the node's name.

use std::fmt;

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::world::entropy::current_node;

/// Prints what `filter` (as in `info` or `snowglobe::raft=debug`) lets through. Made on another thread than the run's:
/// it draws hash keys, which a run must begin with. Errors: what is wrong with the filter.
pub fn printer(filter: &str) -> Result<tracing::Dispatch, String> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| format!("`{filter}` is no filter of log lines: {error}"))?;
    Ok(tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_timer(VirtualTime)
        .with_writer(std::io::stderr)
        .finish()
        .into())
}

/// Seconds of virtual time, and whose line it is.
struct VirtualTime;

impl FormatTime for VirtualTime {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        let now = madsim::time::TimeHandle::try_current().map(|time| time.elapsed());
        let seconds = now.map_or(0.0, |elapsed| elapsed.as_secs_f64());
        write!(out, "{seconds:12.6} {:4}", current_node())
    }
}
