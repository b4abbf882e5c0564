//! Requests and answers about anything but keys, in words: leases, watches, locks, hashes, members, users.

use super::{key_value, push_flags, span, value};
use crate::history::{Body, Member, PermissionKind, Request, Watch};

/// A request as a client would write it, such as `lease_revoke(7)`.
pub(super) fn request(request: &Request) -> String {
    match request {
        Request::LeaseGrant { id: 0, ttl_s } => format!("lease_grant({ttl_s} s)"),
        Request::LeaseGrant { id, ttl_s } => format!("lease_grant({ttl_s} s, lease {id})"),
        Request::LeaseRevoke { id } => format!("lease_revoke({id})"),
        Request::LeaseKeepAlive { id } => format!("lease_keep_alive({id})"),
        Request::LeaseTimeToLive { id, keys } => {
            format!("lease_time_to_live({id}{})", if *keys { ", keys" } else { "" })
        }
        Request::LeaseLeases {} => "leases()".to_owned(),
        Request::Watch(asked) => watch(asked),
        Request::Lock { name, lease } => format!("lock({name}, lease {lease})"),
        Request::Unlock { key } => format!("unlock({key})"),
        Request::Campaign { name, lease, value: proclaimed } => {
            format!("campaign({name}, {}, lease {lease})", value(&proclaimed.0))
        }
        Request::Proclaim { leader, value: proclaimed } => {
            format!("proclaim({}, {})", leader.key, value(&proclaimed.0))
        }
        Request::Resign { leader } => format!("resign({})", leader.key),
        Request::Leader { name } => format!("leader({name})"),
        Request::HashKv { revision } => format!("hash_kv({revision})"),
        Request::StateHash {} => "state_hash()".to_owned(),
        Request::MemberList { linearizable } => {
            format!("member_list({})", if *linearizable { "linearizable" } else { "" })
        }
        Request::MemberAdd { peer_urls, learner } => {
            let what = if *learner { ", learner" } else { "" };
            format!("member_add({}{what})", peer_urls.join(" "))
        }
        Request::MemberRemove { id } => format!("member_remove({id:x})"),
        Request::MemberPromote { id } => format!("member_promote({id:x})"),
        Request::MemberUpdate { id, peer_urls } => {
            format!("member_update({id:x}, {})", peer_urls.join(" "))
        }
        other => auth(other),
    }
}

fn watch(watch: &Watch) -> String {
    let mut text = format!("watch({}", span(&watch.key.0, &watch.range_end.0));
    if watch.start_revision != 0 {
        text += &format!(", from revision {}", watch.start_revision);
    }
    let flags = [
        (watch.prev_kv, "prev_kv"),
        (watch.progress_notify, "progress"),
        (watch.fragment, "fragments"),
        (watch.no_put, "no puts"),
        (watch.no_delete, "no deletes"),
    ];
    push_flags(&mut text, &flags);
    text + ")"
}

fn auth(request: &Request) -> String {
    match request {
        Request::AuthEnable {} => "auth_enable()".to_owned(),
        Request::AuthDisable {} => "auth_disable()".to_owned(),
        Request::UserAdd { name } => format!("user_add({name})"),
        Request::UserDelete { name } => format!("user_delete({name})"),
        Request::UserGrantRole { name, role } => format!("user_grant_role({name}, {role})"),
        Request::UserRevokeRole { name, role } => format!("user_revoke_role({name}, {role})"),
        Request::RoleAdd { name } => format!("role_add({name})"),
        Request::RoleDelete { name } => format!("role_delete({name})"),
        Request::RoleGrantPermission { role, kind, key, range_end } => {
            let kind = match kind {
                PermissionKind::Read => "read",
                PermissionKind::Write => "write",
                PermissionKind::ReadWrite => "readwrite",
            };
            format!("role_grant_permission({role}, {kind} {})", span(&key.0, &range_end.0))
        }
        Request::RoleRevokePermission { role, key, range_end } => {
            format!("role_revoke_permission({role}, {})", span(&key.0, &range_end.0))
        }
        other => format!("{other:?}"),
    }
}

/// What follows the revision in an answer, with a comma in front; empty if nothing does.
pub(super) fn answer(body: &Body) -> String {
    match body {
        Body::LeaseGrant { id, ttl_s } => format!(", lease {id} for {ttl_s} s"),
        Body::LeaseKeepAlive { ttl_s, .. } => format!(", {ttl_s} s"),
        Body::LeaseTimeToLive { ttl_s, granted_ttl_s, keys, .. } => {
            let keys: String = keys.iter().map(|key| format!(", {key}")).collect();
            format!(", {ttl_s} of {granted_ttl_s} s{keys}")
        }
        Body::LeaseLeases { ids } => format!(", leases {ids:?}"),
        Body::Watch { messages } => {
            let events: usize = messages.iter().map(|message| message.events.len()).sum();
            format!(", {} messages with {events} events", messages.len())
        }
        Body::Lock { key } => format!(", key {key}"),
        Body::Campaign { leader } => {
            format!(", key {} of revision {}", leader.key, leader.revision)
        }
        Body::Leader { kv } => format!(", {}", key_value(kv)),
        Body::HashKv { hash, compact_revision, hash_revision } => {
            format!(
                ", hash {hash:08x} up to revision {hash_revision}, compacted to {compact_revision}"
            )
        }
        Body::StateHash { applied_index, hash } => {
            format!(", hash {hash:016x} after {applied_index} entries")
        }
        Body::Members { members, .. } => {
            let members: Vec<String> = members.iter().map(member).collect();
            format!(", members {}", members.join(", "))
        }
        _ => String::new(),
    }
}

/// A member, such as `n1 8e9e05c52164694d http://10.0.0.1:2380`.
pub(in crate::checker) fn member(member: &Member) -> String {
    let name = if member.name.is_empty() { "(not started)" } else { &member.name };
    let what = if member.learner { " learner" } else { "" };
    format!("{name} {:x} {}{what}", member.id, member.peer_urls.join(" "))
}
