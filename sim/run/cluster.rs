//! The members of a run: nodes of the world that run the server, and what can be done to them.
//!
//! Invariants:
//! * A member that dies of itself is written down; a member that was killed is not, nor one whose disk has failed it in
//!   this life: the agenda buries that one and starts it again.
//! * Ways into a member (`raft::Handle`) are of its current process, or there are none.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use snowglobe::config::{ClusterState, Config};
use snowglobe::error::Error;
use snowglobe::host::Host;
use snowglobe::raft;
use snowglobe::server::Server;
use tokio::sync::mpsc;

use super::meddling;
use super::recorder::Recorder;
use crate::grid;
use crate::scenario::flags;
use crate::scenario::plan::Plan;
use crate::world::{Disk, NodeId, Wires, World};

/// The machines, in the order of [`Plan::members`].
#[derive(Clone)]
pub struct Cluster {
    /// The world they live in.
    pub world: World,
    /// The links between members whose messages may be met.
    pub wires: Wires,
    members: Arc<Vec<Member>>,
    current: Arc<Mutex<Vec<usize>>>,
}

/// What a machine's process is to be when it is next started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of the first members.
    First,
    /// A member that was added later.
    Joining,
    /// Nobody yet, or no more.
    Spare,
}

/// One machine, and the member on it.
struct Member {
    name: String,
    node: NodeId,
    ip: IpAddr,
    /// As one of the first members, and as one that joins.
    configs: [Config; 2],
    shared: Shared,
}

/// What a machine's process and the runner share.
#[derive(Clone)]
struct Shared {
    role: Arc<Mutex<Role>>,
    /// The member's id in the cluster, once it is known.
    id: Arc<AtomicU64>,
    way_in: Arc<Mutex<Option<raft::Handle>>>,
    /// Whether the process has come to its end by itself, in good order.
    ended: Arc<AtomicBool>,
}

impl Shared {
    /// What the member is at the moment, for the grid of disk faults.
    fn role(&self) -> Option<grid::Role> {
        if *self.role.lock().expect("one thread, no panic inside") == Role::Spare {
            return None;
        }
        let way_in = self.way_in.lock().expect("one thread, no panic inside").clone();
        Some(match way_in {
            None => grid::Role::Starting,
            Some(handle) if handle.is_learner() => grid::Role::Learner,
            Some(handle) if handle.leads() => grid::Role::Leader,
            Some(_) => grid::Role::Follower,
        })
    }
}

/// The address of the member with this place in the plan.
fn address(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1 + u8::try_from(index).expect("few members")))
}

impl Cluster {
    /// Adds the plan's members to the world and starts them. Errors: flags that the server refuses.
    pub fn start(
        world: &World,
        plan: &Plan,
        recorder: &Recorder,
    ) -> Result<(Self, Deaths), String> {
        let names: Vec<(String, IpAddr)> = plan
            .members
            .iter()
            .enumerate()
            .map(|(index, name)| (name.clone(), address(index)))
            .collect();
        let first = &names[..names.len() - plan.spares as usize];
        let nodes: Vec<NodeId> = names.iter().map(|(name, ip)| world.add_node(name, *ip)).collect();
        let links = meddling::links(plan).into_iter().map(|(from, to)| (nodes[from], nodes[to]));
        let wires = Wires::new(world, flags::PEER_PORT, links);
        let mut members = Vec::new();
        let (died, deaths) = mpsc::unbounded_channel();
        for (index, (name, ip)) in names.iter().enumerate() {
            let mut joining = flags::config(name, &names, &plan.server, &plan.limits)?;
            joining.initial_cluster_state = ClusterState::Existing;
            let (config, role) = if index < first.len() {
                (flags::config(name, first, &plan.server, &plan.limits)?, Role::First)
            } else {
                (joining.clone(), Role::Spare)
            };
            let node = nodes[index];
            let shared = Shared {
                role: Arc::new(Mutex::new(role)),
                id: Arc::new(AtomicU64::new(config.member_id())),
                way_in: Arc::default(),
                ended: Arc::default(),
            };
            let configs = [config, joining];
            let life = Life {
                configs: configs.clone(),
                index,
                name: name.clone(),
                place: (node, *ip),
                wires: wires.clone(),
                shared: shared.clone(),
                disk: world.disk(node),
                recorder: recorder.clone(),
                died: died.clone(),
            };
            let who = shared.clone();
            world.disk(node).ask_for_role(Box::new(move || who.role()));
            world.boot(node, move |host| live(host, life.clone()));
            members.push(Member { name: name.clone(), node, ip: *ip, configs, shared });
        }
        let current = Arc::new(Mutex::new((0..first.len()).collect()));
        let (world, members) = (world.clone(), Arc::new(members));
        Ok((Self { world, wires, members, current }, deaths))
    }

    /// The machines that are members, as far as the runner goes by it: the first ones, until it is known better.
    #[must_use]
    pub fn current(&self) -> Vec<usize> {
        self.current.lock().expect("one thread, no panic inside").clone()
    }

    /// These are the members from now on.
    pub fn set_current(&self, mut machines: Vec<usize>) {
        machines.sort_unstable();
        *self.current.lock().expect("one thread, no panic inside") = machines;
    }

    /// What the machine's process is to be when it is next started.
    pub fn set_role(&self, index: usize, role: Role) {
        *self.members[index].shared.role.lock().expect("one thread, no panic inside") = role;
    }

    /// How the machine's process is started; `None` where it is to be none.
    #[must_use]
    pub fn config(&self, index: usize) -> Option<Config> {
        let Member { configs: [first, joining], shared, .. } = &self.members[index];
        match *shared.role.lock().expect("one thread, no panic inside") {
            Role::First => Some(first.clone()),
            Role::Joining => Some(joining.clone()),
            Role::Spare => None,
        }
    }

    /// Where the other members find a machine.
    #[must_use]
    pub fn peer_url(&self, index: usize) -> String {
        format!("http://{}:{}", self.members[index].ip, flags::PEER_PORT)
    }

    /// A machine's disk is lost with everything on it, and its process with that. It is a spare one then.
    pub async fn lose_disk(&self, index: usize) {
        self.set_role(index, Role::Spare);
        loop {
            self.restart(index);
            let disk = self.world.host(self.node(index)).disk();
            let folder = format!("/{}", self.members[index].name);
            // There may be none yet.
            let _ = disk.remove_dir_all(Path::new(&folder));
            // A loss of power in this moment must not bring the files back.
            if disk.sync_dir(Path::new("/")).await.is_ok() {
                return;
            }
        }
    }

    /// How many machines there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// A member's name.
    #[must_use]
    pub fn name(&self, index: usize) -> &str {
        &self.members[index].name
    }

    /// A member's id.
    #[must_use]
    pub fn id(&self, index: usize) -> u64 {
        self.members[index].shared.id.load(Ordering::Relaxed)
    }

    /// A member's place, by name.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|member| member.name == name)
    }

    /// A member's node.
    #[must_use]
    pub fn node(&self, index: usize) -> NodeId {
        self.members[index].node
    }

    /// Where a member serves clients, as `host:port`.
    #[must_use]
    pub fn client_authority(&self, index: usize) -> String {
        format!("{}:{}", self.members[index].ip, flags::CLIENT_PORT)
    }

    /// The way into a member's current process, if it serves.
    #[must_use]
    pub fn way_in(&self, index: usize) -> Option<raft::Handle> {
        let member = &self.members[index];
        if !self.world.is_up(member.node) {
            return None;
        }
        member.shared.way_in.lock().expect("one thread, no panic inside").clone()
    }

    /// Whether a member believes to lead, and in which term.
    #[must_use]
    pub fn leads(&self, index: usize) -> Option<u64> {
        let handle = self.way_in(index)?;
        (handle.leader() == self.id(index)).then(|| handle.header().term)
    }

    /// Who leads: of those who believe so, the one of the highest term.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        (0..self.count())
            .filter_map(|index| Some((self.leads(index)?, index)))
            .max()
            .map(|(_, index)| index)
    }

    /// Ends a member's process.
    pub fn kill(&self, index: usize) {
        self.forget(index);
        self.world.kill(self.node(index));
    }

    /// Starts a member's process again.
    pub fn restart(&self, index: usize) {
        self.forget(index);
        self.world.restart(self.node(index));
    }

    /// Processes that have ended by themselves are gone, with all their tasks and sockets.
    pub fn reap(&self) {
        for index in 0..self.count() {
            if self.members[index].shared.ended.load(Ordering::Relaxed) {
                self.kill(index);
            }
        }
    }

    /// No way leads into a process that is gone.
    pub fn forget(&self, index: usize) {
        self.world.disk(self.node(index)).ends_process();
        self.members[index].shared.ended.store(false, Ordering::Relaxed);
        let way_in =
            self.members[index].shared.way_in.lock().expect("one thread, no panic inside").take();
        // Dropped only now: destructors may look at the cluster.
        drop(way_in);
    }
}

/// Members that ended by themselves for a reason that their disks know.
pub type Deaths = mpsc::UnboundedReceiver<usize>;

/// What each life of a machine's process begins with.
#[derive(Clone)]
struct Life {
    /// As one of the first members, and as one that joins.
    configs: [Config; 2],
    index: usize,
    name: String,
    place: (NodeId, IpAddr),
    wires: Wires,
    shared: Shared,
    disk: Arc<Disk>,
    recorder: Recorder,
    died: mpsc::UnboundedSender<usize>,
}

/// Between two attempts to join.
const JOIN_AGAIN: Duration = Duration::from_millis(500);

/// One life of a member, from its start to its death.
async fn live(host: Arc<dyn Host>, life: Life) {
    let bites = life.disk.bites();
    life.wires.serve(&host, life.place.0, life.place.1);
    let Some((words, ended)) = serve(host, &life).await else { return };
    if life.disk.is_struck() || words.is_none() {
        // These were no last words: the process had ended before, or in good order.
    } else if life.disk.bites() == bites && !life.recorder.may_stop() {
        life.recorder.died(&life.name, words.unwrap_or_default());
    } else {
        let words = words.unwrap_or_default();
        tracing::info!("ended by a fault of its disk: {words}");
        if words.contains("promised to be durable is lost") {
            life.recorder.met("lost_promises_noticed", 1);
        }
        life.recorder.ended(&life.name, words);
        // Fails only when the run is over.
        let _ = life.died.send(life.index);
    }
    // A process would be gone now. To take the server apart here instead would wake its tasks in an order that tokio's
    // watch channels draw from dice of their own, so that waits for whoever starts the member again.
    std::future::pending::<()>().await;
    drop(ended);
}

/// Serves until the member ends: its last words, where it was not to end, and the server, if there was one.
async fn serve(host: Arc<dyn Host>, life: &Life) -> Option<(Option<String>, Option<Server>)> {
    let Life { configs: [first, joining], shared, recorder, .. } = life;
    let role = *shared.role.lock().expect("one thread, no panic inside");
    let config = match role {
        Role::Spare => return None,
        Role::First => first,
        Role::Joining => joining,
    };
    let server = loop {
        match Server::start(host.clone(), config.clone()).await {
            Ok(server) => break server,
            Err(Error::Config(why)) if why.starts_with("cannot join the cluster") => {
                recorder.met("joins_refused", 1);
                host.clock().sleep(JOIN_AGAIN).await;
            }
            Err(Error::Config(why)) if why.contains("has been removed from cluster") => {
                recorder.met("removed_members_kept_out", 1);
                return None;
            }
            Err(error) => {
                if life.disk.exchanged() == Some(grid::Kind::ForeignDisk) {
                    recorder.met("foreign_disks_refused", 1);
                }
                return Some((Some(format!("did not start: {error}")), None));
            }
        }
    };
    shared.id.store(server.handle().header().member_id, Ordering::Relaxed);
    let way_in = || shared.way_in.lock().expect("one thread, no panic inside");
    *way_in() = Some(server.handle().clone());
    recorder.serves(&life.name);
    if life.disk.exchanged() == Some(grid::Kind::ForeignDisk) {
        let sentence = format!("{} serves from the disk of another member", life.name);
        recorder.broken("foreign-disk", sentence);
    }
    let error = server.failed().await;
    *way_in() = None;
    if matches!(error, Error::Removed(_)) {
        recorder.met("removed_members_stopped", 1);
        shared.ended.store(true, Ordering::Relaxed);
        return Some((None, Some(server)));
    }
    Some((Some(error.to_string()), Some(server)))
}
