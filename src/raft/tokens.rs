//! Tokens that stand for users: who may use which, and until when.
//!
//! Every member learns of each token from the log, and forgets it by its own clock, some time after it
//! was used last. A restart forgets all of them, and so does a snapshot that is installed: what
//! happened in between (a user deleted, a password changed) is not known then. Clients authenticate
//! anew.
//!
//! Invariants:
//! * A token that was taken away is gone before the auth revision that took it away is told.
//! * Their number is bounded: where there is no room, the one that ends first makes it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::state::AuthChange;

#[derive(Debug)]
struct Token {
    user: String,
    ends: Duration,
}

/// See the module. Times are of one monotonic clock.
#[derive(Debug)]
pub(super) struct Tokens {
    ttl: Duration,
    limit: usize,
    tokens: Mutex<BTreeMap<String, Token>>,
}

impl Tokens {
    /// Each lives for `ttl` after its last use; at most `limit` at once.
    pub(super) fn new(ttl: Duration, limit: usize) -> Self {
        Self { ttl, limit: limit.max(1), tokens: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Token>> {
        // Every change is one step: a panic in between leaves them whole.
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what an entry means for tokens.
    pub(super) fn apply(&self, change: AuthChange, now: Duration) {
        let mut tokens = self.lock();
        match change {
            AuthChange::ForgetAll => tokens.clear(),
            AuthChange::Forget { user } => tokens.retain(|_, token| token.user != user),
            AuthChange::Token { user, token } => {
                if tokens.len() >= self.limit {
                    tokens.retain(|_, token| token.ends > now);
                }
                if tokens.len() >= self.limit {
                    let first = tokens.iter().min_by_key(|(_, token)| token.ends);
                    let first = first.map(|(name, _)| name.clone());
                    first.map(|name| tokens.remove(&name));
                }
                tokens.insert(token, Token { user, ends: now + self.ttl });
            }
        }
    }

    /// Whom a token stands for; it lives on from now.
    pub(super) fn user(&self, token: &str, now: Duration) -> Option<String> {
        let mut tokens = self.lock();
        let found = tokens.get_mut(token)?;
        if found.ends <= now {
            tokens.remove(token);
            return None;
        }
        found.ends = now + self.ttl;
        Some(found.user.clone())
    }
}

/// The index of the entry that made a token; `None` for what cannot be one.
pub(super) fn index_of(token: &str) -> Option<u64> {
    let (_, index) = token.split_once('.')?;
    index.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn token(user: &str, token: &str) -> AuthChange {
        AuthChange::Token { user: user.to_owned(), token: token.to_owned() }
    }

    /// A token lives on with each use, and no longer than its time after the last one.
    #[test]
    fn time_to_live() {
        let tokens = Tokens::new(at(10), 5);
        tokens.apply(token("a", "t.1"), at(0));
        assert_eq!(tokens.user("t.1", at(9)).as_deref(), Some("a"));
        assert_eq!(tokens.user("t.1", at(18)).as_deref(), Some("a"));
        assert_eq!(tokens.user("t.1", at(28)), None);
        assert_eq!(tokens.user("t.2", at(0)), None);
    }

    /// What is taken away is gone: one user's, or everybody's.
    #[test]
    fn taken_away() {
        let tokens = Tokens::new(at(10), 5);
        let left = || ["t.1", "t.2", "t.3"].map(|name| tokens.user(name, at(1)).is_some());
        for (user, name) in [("a", "t.1"), ("b", "t.2"), ("a", "t.3")] {
            tokens.apply(token(user, name), at(0));
        }
        tokens.apply(AuthChange::Forget { user: "a".to_owned() }, at(0));
        assert_eq!(left(), [false, true, false]);
        tokens.apply(AuthChange::ForgetAll, at(0));
        assert_eq!(left(), [false, false, false]);
    }

    /// Where there is no room, the one that ends first makes it.
    #[test]
    fn bounded() {
        let tokens = Tokens::new(at(10), 2);
        for (time, name) in [(0, "t.1"), (1, "t.2")] {
            tokens.apply(token("a", name), at(time));
        }
        assert!(tokens.user("t.1", at(2)).is_some());
        tokens.apply(token("a", "t.3"), at(3));
        let left = ["t.1", "t.2", "t.3"].map(|name| tokens.user(name, at(4)).is_some());
        assert_eq!(left, [true, false, true]);
    }

    /// Only what ends in an index can be a token.
    #[test]
    fn indices() {
        let check = |token: &str, expected| assert_eq!(index_of(token), expected, "{token}");
        check("abcDEF.17", Some(17));
        check("abcDEF", None);
        check("abcDEF.", None);
        check("a.1.2", None);
    }
}
