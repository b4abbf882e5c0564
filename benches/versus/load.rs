//! The closed loop: clients that each send the next request when the last one is answered, for a bounded time.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::cluster::Failure;

/// Clients on one connection, at most.
pub(crate) const CLIENTS_OF_CONNECTION: usize = 20;

/// How long a round takes: first without being counted, then counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) warm_up: Duration,
    pub(crate) counted: Duration,
}

/// What one round came to.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Time that was counted.
    pub(crate) seconds: f64,
    /// How long each counted answer took, in microseconds.
    pub(crate) times_us: Vec<u32>,
    /// Answers that were right, the warm-up included.
    pub(crate) acknowledged: u64,
    /// Processor time that the servers took for them.
    pub(crate) cpu_s: f64,
    /// Revisions that they have made.
    pub(crate) revisions: u64,
    /// Answers that were wrong, and requests that were refused.
    pub(crate) errors: u64,
    /// The first of them.
    pub(crate) error: Option<String>,
}

impl Round {
    /// Counts an error.
    pub(crate) fn fail(&mut self, error: impl ToString) {
        self.errors += 1;
        self.error.get_or_insert_with(|| error.to_string());
    }

    /// Takes in what another part of the same round came to.
    pub(crate) fn add(&mut self, other: Self) {
        self.times_us.extend(other.times_us);
        self.acknowledged += other.acknowledged;
        self.cpu_s += other.cpu_s;
        self.revisions += other.revisions;
        self.errors += other.errors;
        if self.error.is_none() {
            self.error = other.error;
        }
    }

    /// Counted answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.times_us.len() as f64 / self.seconds
    }
}

/// One client.
pub(crate) trait Client: Send + 'static {
    /// One request, and a look at its answer; how many revisions it has made.
    fn operation(&mut self) -> impl Future<Output = Result<u64, Failure>> + Send;
}

/// Lets all clients work for the time of one round.
pub(crate) async fn closed_loop<C: Client>(
    clients: Vec<C>,
    times: Times,
) -> Result<Round, Failure> {
    let begin = Instant::now() + times.warm_up;
    let end = begin + times.counted;
    let tasks: Vec<_> =
        clients.into_iter().map(|client| tokio::spawn(work(client, begin, end))).collect();
    let mut round = Round { seconds: times.counted.as_secs_f64(), ..Round::default() };
    for task in tasks {
        round.add(task.await?);
    }
    Ok(round)
}

async fn work(mut client: impl Client, begin: Instant, end: Instant) -> Round {
    let mut round = Round::default();
    loop {
        let sent = Instant::now();
        if sent >= end {
            return round;
        }
        match client.operation().await {
            Ok(revisions) => {
                round.acknowledged += 1;
                round.revisions += revisions;
            }
            Err(error) => {
                round.fail(error);
                continue;
            }
        }
        let answered = Instant::now();
        // By when the answer came: what is under way at either end of the round counts once.
        if answered >= begin && answered < end {
            round.times_us.push(micros(answered - sent));
        }
    }
}

/// Whole microseconds; an hour is as good as longer.
pub(crate) fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
