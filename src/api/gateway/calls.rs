//! Which path stands for which call; the paths are etcd's, in its order of services.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MethodDescriptor};

use crate::proto::DESCRIPTORS;

/// What etcd's gateway puts before its paths: now, and long ago.
pub(super) const ROOTS: [&str; 2] = ["/v3/", "/v3beta/"];

/// Paths below a root, services and methods.
const CALLS: &[(&str, &str, &str)] = &[
    ("kv/range", "etcdserverpb.KV", "Range"),
    ("kv/put", "etcdserverpb.KV", "Put"),
    ("kv/deleterange", "etcdserverpb.KV", "DeleteRange"),
    ("kv/txn", "etcdserverpb.KV", "Txn"),
    ("kv/compaction", "etcdserverpb.KV", "Compact"),
    ("watch", "etcdserverpb.Watch", "Watch"),
    ("lease/grant", "etcdserverpb.Lease", "LeaseGrant"),
    ("lease/revoke", "etcdserverpb.Lease", "LeaseRevoke"),
    ("kv/lease/revoke", "etcdserverpb.Lease", "LeaseRevoke"),
    ("lease/keepalive", "etcdserverpb.Lease", "LeaseKeepAlive"),
    ("lease/timetolive", "etcdserverpb.Lease", "LeaseTimeToLive"),
    ("kv/lease/timetolive", "etcdserverpb.Lease", "LeaseTimeToLive"),
    ("lease/leases", "etcdserverpb.Lease", "LeaseLeases"),
    ("kv/lease/leases", "etcdserverpb.Lease", "LeaseLeases"),
    ("cluster/member/add", "etcdserverpb.Cluster", "MemberAdd"),
    ("cluster/member/remove", "etcdserverpb.Cluster", "MemberRemove"),
    ("cluster/member/update", "etcdserverpb.Cluster", "MemberUpdate"),
    ("cluster/member/list", "etcdserverpb.Cluster", "MemberList"),
    ("cluster/member/promote", "etcdserverpb.Cluster", "MemberPromote"),
    ("maintenance/alarm", "etcdserverpb.Maintenance", "Alarm"),
    ("maintenance/status", "etcdserverpb.Maintenance", "Status"),
    ("maintenance/defragment", "etcdserverpb.Maintenance", "Defragment"),
    ("maintenance/hash", "etcdserverpb.Maintenance", "Hash"),
    ("maintenance/hashkv", "etcdserverpb.Maintenance", "HashKV"),
    ("maintenance/snapshot", "etcdserverpb.Maintenance", "Snapshot"),
    ("maintenance/transfer-leadership", "etcdserverpb.Maintenance", "MoveLeader"),
    ("maintenance/downgrade", "etcdserverpb.Maintenance", "Downgrade"),
    ("auth/enable", "etcdserverpb.Auth", "AuthEnable"),
    ("auth/disable", "etcdserverpb.Auth", "AuthDisable"),
    ("auth/status", "etcdserverpb.Auth", "AuthStatus"),
    ("auth/authenticate", "etcdserverpb.Auth", "Authenticate"),
    ("auth/user/add", "etcdserverpb.Auth", "UserAdd"),
    ("auth/user/get", "etcdserverpb.Auth", "UserGet"),
    ("auth/user/list", "etcdserverpb.Auth", "UserList"),
    ("auth/user/delete", "etcdserverpb.Auth", "UserDelete"),
    ("auth/user/changepw", "etcdserverpb.Auth", "UserChangePassword"),
    ("auth/user/grant", "etcdserverpb.Auth", "UserGrantRole"),
    ("auth/user/revoke", "etcdserverpb.Auth", "UserRevokeRole"),
    ("auth/role/add", "etcdserverpb.Auth", "RoleAdd"),
    ("auth/role/get", "etcdserverpb.Auth", "RoleGet"),
    ("auth/role/list", "etcdserverpb.Auth", "RoleList"),
    ("auth/role/delete", "etcdserverpb.Auth", "RoleDelete"),
    ("auth/role/grant", "etcdserverpb.Auth", "RoleGrantPermission"),
    ("auth/role/revoke", "etcdserverpb.Auth", "RoleRevokePermission"),
    ("lock/lock", "v3lockpb.Lock", "Lock"),
    ("lock/unlock", "v3lockpb.Lock", "Unlock"),
    ("election/campaign", "v3electionpb.Election", "Campaign"),
    ("election/proclaim", "v3electionpb.Election", "Proclaim"),
    ("election/leader", "v3electionpb.Election", "Leader"),
    ("election/observe", "v3electionpb.Election", "Observe"),
    ("election/resign", "v3electionpb.Election", "Resign"),
];

/// The API's description, read by the first who asks.
static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("build.rs wrote it"));

/// The call that a path stands for.
pub(super) fn method(path: &str) -> Option<MethodDescriptor> {
    let below = ROOTS.iter().find_map(|root| path.strip_prefix(root))?;
    let (_, service, name) = CALLS.iter().find(|(call, _, _)| *call == below)?;
    let service = POOL.get_service_by_name(service)?;
    service.methods().find(|method| method.name() == *name)
}

/// The message of a name.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn message(name: &str) -> Option<prost_reflect::MessageDescriptor> {
    POOL.get_message_by_name(name)
}

/// The names of the messages that calls take.
#[cfg(test)]
pub(super) fn inputs() -> impl Iterator<Item = String> {
    CALLS.iter().map(|(path, ..)| {
        let method = method(&format!("/v3/{path}")).expect("a call of the API");
        method.input().full_name().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every path stands for a call, and every call of the services has a path.
    #[test]
    fn all_calls() {
        let full = |method: MethodDescriptor| method.full_name().to_owned();
        let found: BTreeSet<String> = CALLS
            .iter()
            .map(|(path, ..)| full(method(&format!("/v3/{path}")).expect(path)))
            .collect();
        let served = ["etcdserverpb", "v3lockpb", "v3electionpb"];
        let there: BTreeSet<String> = POOL
            .services()
            .filter(|service| served.contains(&service.package_name()))
            .flat_map(|service| service.methods().map(full).collect::<Vec<_>>())
            .collect();
        assert_eq!(found, there);
    }

    /// A path is taken as a whole, below one root.
    #[test]
    fn paths() {
        let check = |path: &str, expected: Option<&str>| {
            let name = method(path).map(|method| method.name().to_owned());
            assert_eq!(name.as_deref(), expected, "{path}");
        };
        check("/v3/kv/range", Some("Range"));
        check("/v3beta/kv/range", Some("Range"));
        check("/v3/kv/range/", None);
        check("/v3/v3/kv/range", None);
        check("/kv/range", None);
    }
}
