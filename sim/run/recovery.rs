//! The liveness phase: what a healed cluster must do before its deadline.
//!
//! A leader that all members know, every client's operations answered, a write by every client, all members applied
//! to one index, everything read from each member, the last changes told to a watcher of each, and hashes of all
//! state at one index. Then the quiet cluster forgets its past up to a delete, the newest change of all; every process
//! is killed and started once more, and all of it is asked again: under load no restart finds the state at rest. The
//! stage that is under way stands in the notes
//! as the reason for being stuck, and is taken away when all is done.

use madsim::task::JoinHandle;
use snowglobe::raft::{Handle, Status};
use snowglobe::state::KeysHash;

use super::client::Client;
use super::cluster::Cluster;
use super::recorder::Recorder;
use super::reshape::Reshaper;
use super::watcher::Goal;
use crate::checker::watch::Rest;
use crate::history::{Body, Bytes, DeleteRange, Operation, Put, Request, Response, Watch};
use crate::workload::auth::ROOT;
use crate::workload::kv::everything;
use crate::workload::watch;

/// How long recovery may take.
pub struct Patience {
    /// Until this moment of virtual time.
    pub until_ns: u64,
}

/// Between two looks at what has to become true.
const LOOK_EVERY_NS: u64 = 20_000_000;

/// In a quiet cluster an event is under way for milliseconds.
const TOLD_WITHIN_NS: u64 = 1_000_000_000;

/// How far back the last watches begin.
const LAST_REVISIONS: i64 = 40;

/// Longer than an election, shorter than the server's own limit.
const FINAL_TIMEOUT_US: u64 = 3_000_000;

/// Waits until the healed cluster has recovered, and reads it all a last time.
pub async fn recover(
    cluster: &Cluster,
    recorder: &Recorder,
    working: Vec<JoinHandle<Client>>,
    reshaper: Option<JoinHandle<Reshaper>>,
    observer: Option<JoinHandle<bool>>,
    patience: &Patience,
) {
    let stage = |text: String| recorder.notes().stuck = Some(text);
    let healed_ns = cluster.world.now_ns();
    if let Some(reshaper) = reshaper {
        stage("the members could not be put in order".into());
        let mut reshaper = reshaper.await.expect("operators are neither killed nor do they panic");
        reshaper.settle().await;
    }
    stage("the members did not agree on a leader".into());
    while !agree_on_a_leader(cluster) {
        cluster.world.sleep(LOOK_EVERY_NS).await;
    }
    let mut clients = Vec::new();
    for (number, client) in working.into_iter().enumerate() {
        stage(format!("client {number} was still waiting for answers to its operations"));
        clients.push(client.await.expect("clients are neither killed nor do they panic"));
    }
    if let Some(observer) = observer {
        stage("the observer was still watching".into());
        observer.await.expect("the observer is neither killed nor does it panic");
    }
    if recorder.notes().history.iter().any(|operation| operation.user.is_some()) {
        stage("authentication could not be switched off".into());
        switch_auth_off(cluster, &mut clients[0]).await;
    }
    for (number, client) in clients.iter_mut().enumerate() {
        stage(format!("client {number} could not write"));
        write(cluster, client, number).await;
    }
    read_and_compare(cluster, recorder, &mut clients).await;
    let took_ns = cluster.world.now_ns() - healed_ns;
    recorder.met("recovery_ms", took_ns / 1_000_000);
    stage("the quiet cluster could not be compacted".into());
    forget_all(cluster, &mut clients[0]).await;
    for member in cluster.current() {
        cluster.kill(member);
        cluster.restart(member);
        recorder.met("final_restarts", 1);
    }
    stage("the members did not agree on a leader after all were started again".into());
    while !agree_on_a_leader(cluster) {
        cluster.world.sleep(LOOK_EVERY_NS).await;
    }
    let healed_ns = cluster.world.now_ns();
    stage("nobody could write after all were started again".into());
    write(cluster, &mut clients[0], 0).await;
    let quiet_ns = cluster.world.now_ns();
    read_and_compare(cluster, recorder, &mut clients).await;
    if recorder.notes().history.iter().any(is_open_watch) {
        cluster.world.sleep(TOLD_WITHIN_NS).await;
    }
    let told_by_ns = cluster.world.now_ns();
    recorder.notes().rest = Some(Rest { healed_ns, quiet_ns, told_by_ns });
    debug_assert!(cluster.world.now_ns() <= patience.until_ns, "cut off by the deadline");
}

fn is_open_watch(operation: &Operation) -> bool {
    matches!(operation.request, Request::Watch(_)) && operation.returned.is_none()
}

/// Reads everything from each member once all have applied the same, and compares their hashes.
async fn read_and_compare(cluster: &Cluster, recorder: &Recorder, clients: &mut [Client]) {
    let stage = |text: String| recorder.notes().stuck = Some(text);
    stage("the members did not apply the same entries".into());
    let statuses = applied_alike(cluster, recorder).await;
    for member in cluster.current() {
        stage(format!("{} could not be read from", cluster.name(member)));
        let reader = member % clients.len();
        for serializable in [false, true] {
            let request = Request::Range(everything(serializable));
            while clients[reader].call(member, &request, FINAL_TIMEOUT_US).await.is_err() {
                cluster.world.sleep(LOOK_EVERY_NS).await;
            }
        }
    }
    for (nth, member) in cluster.current().into_iter().enumerate() {
        stage(format!("{} did not tell its watcher of the last change", cluster.name(member)));
        watch_to_the_end(&clients[member % clients.len()], member, statuses[nth].revision).await;
    }
    stage("the members did not tell their hashes".into());
    let runner = u32::try_from(clients.len()).expect("few clients");
    compare(cluster, recorder, runner).await;
}

/// Watches a member until it has told everything up to `revision`: from a while ago, so that the past and the
/// present must fit together.
async fn watch_to_the_end(client: &Client, member: usize, revision: i64) {
    let from = (revision - LAST_REVISIONS).max(1);
    let watch = Watch { prev_kv: true, ..watch::everything(from) };
    let goal = Goal { until_ns: u64::MAX, revision, pace_ns: 0 };
    client.watcher().keep(watch, &[member], goal).await;
}

/// Deletes a key and compacts up to that delete. Attempts that fail are made anew, as other operations: the revision
/// of a delete that found nothing is that of the one before, and may be compacted only once.
async fn forget_all(cluster: &Cluster, client: &mut Client) {
    for attempt in 0.. {
        write(cluster, client, 0).await;
        let members = cluster.current();
        let member = members[attempt % members.len()];
        let key = Bytes::from("final0");
        let delete = Request::DeleteRange(DeleteRange { key, ..DeleteRange::default() });
        if let Ok(deleted) = client.call(member, &delete, FINAL_TIMEOUT_US).await {
            let compact = Request::Compact { revision: deleted.revision, physical: true };
            if client.call(member, &compact, FINAL_TIMEOUT_US).await.is_ok() {
                return;
            }
        }
        cluster.world.sleep(LOOK_EVERY_NS).await;
    }
}

/// Lets everybody do everything again, so that what is left can be read.
async fn switch_auth_off(cluster: &Cluster, client: &mut Client) {
    for attempt in 0.. {
        let members = cluster.current();
        let (member, off) = (members[attempt % members.len()], Request::AuthDisable {});
        if client.call_as(Some(ROOT), member, &off, FINAL_TIMEOUT_US).await.is_ok() {
            return;
        }
        cluster.world.sleep(LOOK_EVERY_NS).await;
    }
}

/// Whether every member serves and all know the same leader, in the same term.
fn agree_on_a_leader(cluster: &Cluster) -> bool {
    let known: Vec<Option<(u64, u64)>> = cluster
        .current()
        .into_iter()
        .map(|member| cluster.way_in(member).map(|handle| (handle.leader(), handle.header().term)))
        .collect();
    known.iter().all(|it| it.is_some_and(|(leader, _)| leader != 0) && *it == known[0])
}

/// One acknowledged write: each attempt is an operation of its own, with its own value (the time makes it so), to the
/// next member.
async fn write(cluster: &Cluster, client: &mut Client, number: usize) {
    for attempt in 0.. {
        let put = Put {
            key: Bytes::from(format!("final{number}").as_str()),
            value: Bytes::from(format!("final{number}.{}", cluster.world.now_ns()).as_str()),
            ..Put::default()
        };
        let members = cluster.current();
        let member = members[(number + attempt) % members.len()];
        if client.call(member, &Request::Put(put), FINAL_TIMEOUT_US).await.is_ok() {
            return;
        }
        cluster.world.sleep(LOOK_EVERY_NS).await;
    }
}

/// Waits until all members have applied one index, and hands back what they say of themselves.
async fn applied_alike(cluster: &Cluster, recorder: &Recorder) -> Vec<Status> {
    loop {
        let mut statuses = Vec::new();
        for member in cluster.current() {
            if let Some(handle) = cluster.way_in(member)
                && let Ok(status) = handle.status().await
            {
                statuses.push(status);
            }
        }
        let first = statuses.first().map(|status| status.applied);
        if statuses.len() == cluster.current().len()
            && statuses.iter().all(|it| Some(it.applied) == first && it.commit == it.applied)
        {
            return statuses;
        }
        let applied: Vec<u64> = statuses.iter().map(|status| status.applied).collect();
        recorder.notes().stuck =
            Some(format!("the members did not apply the same entries: {applied:?}"));
        cluster.world.sleep(LOOK_EVERY_NS).await;
    }
}

/// Members that have applied the same entries must hold the same state. What they say goes into the history, as answers
/// to a client of its own, numbered `runner`: there the checker judges it.
///
/// Entries may be applied between two answers: leases expire in a quiet cluster too. So all members are asked again
/// until their answers are of one index.
async fn compare(cluster: &Cluster, recorder: &Recorder, runner: u32) {
    loop {
        let mut applied = Vec::new();
        for member in cluster.current() {
            let request = Request::StateHash {};
            let told = ask(cluster, recorder, member, &request, runner, async |handle| {
                let (applied_index, hash) = handle.hash_all().await.ok()?;
                let body = Body::StateHash { applied_index, hash };
                Some((applied_index, Response { revision: 0, member_id: 0, raft_term: 0, body }))
            });
            applied.push(told.await);
        }
        if applied.iter().all(|index| *index == applied[0]) {
            break;
        }
        cluster.world.sleep(LOOK_EVERY_NS).await;
    }
    for member in cluster.current() {
        let request = Request::HashKv { revision: 0 };
        ask(cluster, recorder, member, &request, runner, async |handle| {
            let told = handle.hash_kv(0).await.ok()?;
            let KeysHash { hash, compact_revision, hash_revision, revision } = told;
            let body = Body::HashKv { hash: hash.into(), compact_revision, hash_revision };
            Some(((), Response { revision, member_id: 0, raft_term: 0, body }))
        })
        .await;
    }
}

/// Asks a member from inside until it answers, and writes the answer down.
async fn ask<T>(
    cluster: &Cluster,
    recorder: &Recorder,
    member: usize,
    request: &Request,
    runner: u32,
    question: impl AsyncFn(Handle) -> Option<(T, Response)>,
) -> T {
    loop {
        let call = cluster.world.now_ns();
        if let Some(handle) = cluster.way_in(member)
            && let Some((told, answer)) = question(handle).await
        {
            let op = recorder.called(runner, cluster.name(member), request, call);
            recorder.returned(op, Ok(answer), cluster.world.now_ns());
            return told;
        }
        cluster.world.sleep(LOOK_EVERY_NS).await;
    }
}
