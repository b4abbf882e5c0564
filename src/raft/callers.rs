//! Who asks: tokens looked up, and what the state says of users.
//!
//! Nothing here decides about a request of the log: that is done again when it is applied, by the auth
//! revision that is told here.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::handle::Handle;
use super::node::{Node, Reply, Request};
use super::tokens;
use crate::error::Refusal;
use crate::proto::etcdserverpb::InternalRaftRequest;
use crate::state::{Caller, Response};

/// What somebody wants to do that no entry of the log asks for.
#[derive(Clone, Debug)]
pub enum May {
    /// What only root may.
    Administer,
    /// Read keys, in etcd's words.
    Read {
        /// The first key.
        key: Bytes,
        /// The end of the range.
        range_end: Bytes,
    },
    /// Renew a lease.
    RenewLease(i64),
    /// See the keys of a lease.
    ReadLease(i64),
}

/// Something that users, roles and permissions decide.
pub(super) enum AuthQuestion {
    May { caller: Caller, what: May, answer: Reply<()> },
    Password { name: String, answer: Reply<(Bytes, u64)> },
}

impl Handle {
    /// Whether authentication is on, as far as this member has applied the log.
    #[must_use]
    pub fn auth_enabled(&self) -> bool {
        self.shared().auth_enabled.load(Ordering::Acquire)
    }

    /// Whom a token stands for; nobody without one, or while authentication is off. A token of an entry
    /// that is not applied here yet is waited for.
    ///
    /// # Errors
    /// [`Refusal::InvalidAuthToken`].
    pub async fn caller(&self, token: Option<&str>) -> Result<Caller, Refusal> {
        let Some(token) = token.filter(|_| self.auth_enabled()) else {
            return Ok(Caller::default());
        };
        let index = tokens::index_of(token).ok_or(Refusal::InvalidAuthToken)?;
        let edges = &self.forward().edges;
        let until =
            edges.clock.monotonic() + Duration::from_millis(edges.limits.auth_token_wait_ms);
        while self.shared().applied.load(Ordering::Acquire) < index {
            if edges.clock.monotonic() >= until {
                return Err(Refusal::InvalidAuthToken);
            }
            self.sleep(Duration::from_millis(edges.limits.auth_token_retry_ms)).await;
        }
        // Before the token is looked at: a change that takes it away is then seen here, or makes this
        // revision an old one.
        let auth_revision = self.shared().auth_revision.load(Ordering::Acquire);
        let user = self.shared().tokens.user(token, edges.clock.monotonic());
        let user = user.ok_or(Refusal::InvalidAuthToken)?;
        Ok(Caller { user, auth_revision })
    }

    /// Whom a name stands for that a certificate has proven; nobody while authentication is off.
    #[must_use]
    pub fn caller_by_name(&self, name: &str) -> Caller {
        if !self.auth_enabled() {
            return Caller::default();
        }
        let auth_revision = self.shared().auth_revision.load(Ordering::Acquire);
        Caller { user: name.to_owned(), auth_revision }
    }

    /// Whether somebody may do something, by this member's state as it is now.
    ///
    /// # Errors
    /// The state's verdict; as [`Handle::status`].
    pub async fn may(&self, caller: &Caller, what: May) -> Result<(), Refusal> {
        if !self.auth_enabled() {
            return Ok(());
        }
        let caller = caller.clone();
        self.ask(|answer| Request::Auth(AuthQuestion::May { caller, what, answer })).await
    }

    /// The hash of a user's password, and the auth revision at which that holds.
    ///
    /// # Errors
    /// [`Refusal::AuthNotEnabled`], [`Refusal::AuthFailed`], [`Refusal::NoPasswordUser`]; as
    /// [`Handle::status`].
    pub async fn password(&self, name: &str) -> Result<(Bytes, u64), Refusal> {
        let name = name.to_owned();
        self.ask(|answer| Request::Auth(AuthQuestion::Password { name, answer })).await
    }

    /// [`Handle::propose_as`], for the member itself.
    ///
    /// # Errors
    /// As there.
    pub async fn propose(&self, request: InternalRaftRequest) -> Result<Response, Refusal> {
        self.propose_as(&Caller::root(), request).await
    }
}

impl Node {
    /// Answers what users, roles and permissions decide. Whoever asked may have given up.
    pub(super) fn on_auth(&self, question: AuthQuestion) {
        match question {
            AuthQuestion::May { caller, what, answer } => {
                let verdict = match what {
                    May::Administer => self.state.may_administer(&caller),
                    May::Read { key, range_end } => self.state.may_read(&caller, &key, &range_end),
                    May::RenewLease(id) => self.state.may_write_lease(&caller, id),
                    May::ReadLease(id) => self.state.may_read_lease(&caller, id),
                };
                let _ = answer.send(verdict);
            }
            AuthQuestion::Password { name, answer } => {
                drop(answer.send(self.state.password(&name)));
            }
        }
    }

    /// What entries changed about users is told to everybody: tokens first, then the auth revision.
    pub(super) fn settle_auth(&mut self) {
        let now = self.edges.clock.monotonic();
        for change in self.state.take_auth_changes() {
            self.shared.tokens.apply(change, now);
        }
        self.tell_auth();
    }

    /// After a state was put in place of the one before: nothing is known of the time between.
    pub(super) fn reset_auth(&self) {
        let now = self.edges.clock.monotonic();
        self.shared.tokens.apply(crate::state::AuthChange::ForgetAll, now);
        self.tell_auth();
    }

    fn tell_auth(&self) {
        let (enabled, revision) = self.state.auth_status();
        self.shared.auth_revision.store(revision, Ordering::Release);
        self.shared.auth_enabled.store(enabled, Ordering::Release);
    }
}
