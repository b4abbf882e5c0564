//! Says why a lease cannot have lived as told.

use super::life::{Claim, Event};
use super::{Lease, Leases, RATE_PERCENT};
use crate::checker::etcd::History;
use crate::checker::etcd::evidence::Unknown;
use crate::checker::etcd::explain::Explain;
use crate::checker::etcd::order::Order;
use crate::checker::etcd::store::NOBODY;
use crate::checker::render::ms;
use crate::checker::{Doubt, Violation};
use crate::history::Body;

/// What is known when a lease breaks: its id, its events, and the one that does not fit.
pub(super) struct Broken<'e> {
    pub(super) id: i64,
    pub(super) lease: &'e Lease,
    pub(super) events: &'e [Event],
    pub(super) event: usize,
    /// Alive at that time for certain, and until when at least; `None` if it was dead for certain.
    pub(super) alive_until: Option<u64>,
}

impl Broken<'_> {
    /// The violation, by whom and when it shows.
    pub(super) fn violation(&self, leases: &Leases, explain: &Explain<'_, '_>) -> Violation {
        let event = &self.events[self.event];
        let at = event.position / 2;
        let who = explain.who(event.op);
        let (birth, since) = self.birth(leases, explain, event);
        let (death, ended) = self.death(explain, event);
        let renewal = self.renewal(event);
        let id = self.id;
        let (rule, sentence, other) = match event.claim {
            Claim::Expired | Claim::Dead | Claim::Granted { .. } if self.alive_until.is_some() => {
                let until = self.alive_until.unwrap_or_default();
                let renewed = match renewal {
                    NOBODY => String::new(),
                    op => format!(", renewed by {}", explain.who(op)),
                };
                let still = format!(
                    "lease {id}, {since}{renewed}, lasts until {} at least (with a clock that runs {RATE_PERCENT} % \
                     fast), and nobody revoked it",
                    ms(until)
                );
                let (rule, told) = match event.claim {
                    Claim::Expired => (
                        "lease-expired-early",
                        format!(
                            "Revision {at} deleted the keys of lease {id} by {}",
                            ms(event.high)
                        ),
                    ),
                    Claim::Granted { .. } => ("lease-refusal", format!("{who} was done")),
                    _ if is_renewal(explain, event.op) => (
                        "lease-expired-early",
                        format!("{who} was told by {} that there is no such lease", ms(event.high)),
                    ),
                    _ => ("lease-refusal", format!("{who} was refused for want of a lease")),
                };
                (rule, format!("{told}, but {still}."), renewal)
            }
            Claim::RevokedBare if self.alive_until.is_some() => {
                let sentence = format!(
                    "{who} was answered at revision {at}, which it did not make, though lease {id} had keys there: \
                     they had to be deleted in one revision of its own."
                );
                ("lease-kept-keys", sentence, NOBODY)
            }
            Claim::Alive { .. } if is_renewal(explain, event.op) => {
                ("lease-revived", format!("{who} renewed lease {id}, but {ended}."), death)
            }
            Claim::Alive { .. } => {
                ("lease-refusal", format!("{who} was refused as taken, but {ended}."), death)
            }
            Claim::Expired => (
                "lease-expired-early",
                format!("Revision {at} can only be the expiry of lease {id}, but {ended}."),
                death,
            ),
            _ => ("lease-refusal", format!("{who} was done, but {ended}."), death),
        };
        explain.simple(rule, sentence, &[birth, other, event.op], at.max(1))
    }

    /// The last grant before an event, and the same in words.
    fn birth(&self, leases: &Leases, explain: &Explain<'_, '_>, event: &Event) -> (u32, String) {
        let grants = leases.grants(self.lease).iter();
        let grant = grants
            .filter(|grant| grant.op != event.op && grant.call <= event.high)
            .max_by_key(|grant| grant.call);
        match grant {
            Some(grant) => (grant.op, format!("granted by {}", explain.who(grant.op))),
            None => (NOBODY, "never granted".to_owned()),
        }
    }

    /// The last renewal before an event.
    fn renewal(&self, event: &Event) -> u32 {
        let before = self.events.iter().filter(|other| {
            matches!(other.claim, Claim::Alive { until: 1.. }) && other.low <= event.high
        });
        before.max_by_key(|other| other.low).map_or(NOBODY, |other| other.op)
    }

    /// The last end before an event, and the same in words.
    fn death(&self, explain: &Explain<'_, '_>, event: &Event) -> (u32, String) {
        let id = self.id;
        let ends = self.events.iter().filter(|other| {
            other.low <= event.low
                && other.op != event.op
                && matches!(other.claim, Claim::Revoked | Claim::Expired | Claim::RevokedBare)
        });
        match ends.max_by_key(|other| other.low) {
            Some(end) if end.claim == Claim::Expired => {
                let revision = end.position / 2;
                (
                    NOBODY,
                    format!(
                        "lease {id} had expired with revision {revision}, which deleted its keys"
                    ),
                )
            }
            Some(end) => {
                (end.op, format!("lease {id} had been revoked by {}", explain.who(end.op)))
            }
            None => (NOBODY, format!("lease {id} had not been granted, or had ended, by then")),
        }
    }
}

fn is_renewal(explain: &Explain<'_, '_>, op: u32) -> bool {
    matches!(explain.op(op).request, crate::history::Request::LeaseKeepAlive { .. })
}

/// A lease whose events are too many at a time.
pub(super) fn unsure(id: i64, events: &[Event], history: &History<'_>) -> Doubt {
    let operations: Vec<u64> =
        events.iter().take(2).map(|event| history.operations[event.op as usize].op).collect();
    let sentence =
        format!("Too much is under way at a time for lease {id}; its life was not looked at.");
    Doubt { sentence, operations, revisions: (1, 1) }
}

/// Keys of a lease that it never had all at a time.
pub(super) fn wrong_keys(id: i64, op: u32, explain: &Explain<'_, '_>) -> Violation {
    let operation = explain.op(op);
    let Some(Body::LeaseTimeToLive { keys, .. }) = operation.response.as_ref().map(|r| &r.body)
    else {
        unreachable!("only such answers are compared");
    };
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let sentence = format!(
        "{} was told of the keys [{}], but at no revision up to then had lease {id} exactly those.",
        explain.who(op),
        keys.join(" ")
    );
    let revision = operation.response.as_ref().map_or(1, |response| response.revision.max(1));
    explain.simple("lease-content", sentence, &[op], revision)
}

/// A lease ended at a revision, but one of its keys was seen afterwards.
pub(super) fn kept_key(
    explain: &Explain<'_, '_>,
    unknown: &Unknown<'_>,
    revision: i64,
    key: u32,
    order: &Order,
) -> Violation {
    let lease = unknown.ends.unwrap_or_default();
    let name = explain.0.keys.name(key).escape_ascii();
    let end = if unknown.is_expiry {
        format!("lease {lease}, granted by {}, can only have expired then", explain.who(unknown.op))
    } else {
        format!("{} ended lease {lease}", explain.who(unknown.op))
    };
    let sentence = format!(
        "Revision {revision} deleted keys of lease {lease} ({end}), but not {name}, which was attached to it and \
         was seen later: all keys of a lease go in one revision."
    );
    let witness = order.deadline_by[revision as usize];
    explain.simple("lease-kept-keys", sentence, &[unknown.op, witness], revision)
}

/// A lease's keys went before its time.
pub(super) fn early_end(
    explain: &Explain<'_, '_>,
    unknown: &Unknown<'_>,
    revision: i64,
    key: u32,
    order: &Order,
) -> Violation {
    let lease = unknown.ends.unwrap_or_default();
    let name = explain.0.keys.name(key).escape_ascii();
    let witness = order.deadline_by[revision as usize];
    let sentence = format!(
        "Revision {revision} deleted {name}, a key of lease {lease}, by {}; nobody asked for that, and the lease, \
         granted by {}, cannot have expired before {}.",
        ms(order.deadline[revision as usize]),
        explain.who(unknown.op),
        ms(unknown.call)
    );
    explain.simple("lease-expired-early", sentence, &[unknown.op, witness], revision)
}
