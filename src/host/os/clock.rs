//! The machine's clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::host::{BoxFuture, Clock};

/// Monotonic time since the member was made, wall time since the Unix epoch.
pub(super) struct OsClock {
    start: Instant,
}

impl OsClock {
    #[allow(clippy::disallowed_methods, reason = "this is where time enters")]
    pub(super) fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for OsClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    #[allow(clippy::disallowed_methods, reason = "this is where time enters")]
    fn wall(&self) -> Duration {
        // A clock set before 1970 is as good as one set to 1970: nothing depends on it being right.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    #[allow(clippy::disallowed_methods, reason = "this is where time enters")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
