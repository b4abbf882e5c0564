//! The members of a run: nodes of the world that run the server, and what can be done to them.
//!
//! Invariants:
//! * A member that dies of itself is written down; a member that was killed is not, nor one whose disk has failed it in
//!   this life: the agenda buries that one and starts it again.
//! * Ways into a member (`raft::Handle`) are of its current process, or there are none.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use snowglobe::config::Config;
use snowglobe::host::Host;
use snowglobe::raft;
use snowglobe::server::Server;
use tokio::sync::mpsc;

use super::recorder::Recorder;
use crate::scenario::flags;
use crate::scenario::plan::Plan;
use crate::world::{Disk, NodeId, World};

/// The members, in the order of [`Plan::members`].
#[derive(Clone)]
pub struct Cluster {
    /// The world they live in.
    pub world: World,
    members: Arc<Vec<Member>>,
}

/// One member.
struct Member {
    name: String,
    /// Its id in the cluster.
    id: u64,
    node: NodeId,
    ip: IpAddr,
    way_in: Arc<Mutex<Option<raft::Handle>>>,
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
        let mut members = Vec::new();
        let (died, deaths) = mpsc::unbounded_channel();
        for (index, (name, ip)) in names.iter().enumerate() {
            let config = flags::config(name, &names, &plan.server, &plan.limits)?;
            let node = world.add_node(name, *ip);
            let way_in = Arc::new(Mutex::new(None));
            let member = Member {
                name: name.clone(),
                id: config.member_id(),
                node,
                ip: *ip,
                way_in: way_in.clone(),
            };
            let life = Life {
                config,
                index,
                way_in,
                disk: world.disk(node),
                recorder: recorder.clone(),
                died: died.clone(),
            };
            world.boot(node, move |host| live(host, life.clone()));
            members.push(member);
        }
        Ok((Self { world: world.clone(), members: Arc::new(members) }, deaths))
    }

    /// How many members there are.
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
        self.members[index].id
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
        member.way_in.lock().expect("one thread, no panic inside").clone()
    }

    /// Whether a member believes to lead, and in which term.
    #[must_use]
    pub fn leads(&self, index: usize) -> Option<u64> {
        let handle = self.way_in(index)?;
        (handle.leader() == self.members[index].id).then(|| handle.header().term)
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

    /// No way leads into a process that is gone.
    pub fn forget(&self, index: usize) {
        let way_in = self.members[index].way_in.lock().expect("one thread, no panic inside").take();
        // Dropped only now: destructors may look at the cluster.
        drop(way_in);
    }
}

/// Members that ended by themselves for a reason that their disks know.
pub type Deaths = mpsc::UnboundedReceiver<usize>;

/// What each life of a member begins with.
#[derive(Clone)]
struct Life {
    config: Config,
    index: usize,
    way_in: Arc<Mutex<Option<raft::Handle>>>,
    disk: Arc<Disk>,
    recorder: Recorder,
    died: mpsc::UnboundedSender<usize>,
}

/// One life of a member, from its start to its death.
async fn live(host: Arc<dyn Host>, life: Life) {
    let bites = life.disk.bites();
    let mut ended = None;
    let words = match Server::start(host, life.config.clone()).await {
        Err(error) => format!("did not start: {error}"),
        Ok(server) => {
            let set = |handle| {
                *life.way_in.lock().expect("one thread, no panic inside") = handle;
            };
            set(Some(server.handle().clone()));
            let error = server.failed().await;
            set(None);
            ended = Some(server);
            error.to_string()
        }
    };
    if life.disk.is_struck() {
        // These were no last words: the process had ended before.
    } else if life.disk.bites() == bites {
        life.recorder.died(&life.config.name, words);
    } else {
        tracing::info!("ended by a fault of its disk: {words}");
        // Fails only when the run is over.
        let _ = life.died.send(life.index);
    }
    // A process would be gone now. To take the server apart here instead would wake its tasks in an order that tokio's
    // watch channels draw from dice of their own, so that waits for whoever starts the member again.
    std::future::pending::<()>().await;
    drop(ended);
}
