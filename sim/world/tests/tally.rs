//! The grid of disk faults: what is done and what is met is counted in the cell where it was, and in no other.

use std::path::Path;
use std::sync::{Arc, Mutex};

use snowglobe::host::{Host, OpenMode};

use super::super::{Files, NodeId, Survival, Trouble, World, run_in_world};
use super::{add_nodes, exact};
use crate::grid::{self, Role};

/// A node whose member is what the mutex says.
fn member(world: &World) -> (NodeId, Arc<Mutex<Option<Role>>>) {
    let [node] = add_nodes(world);
    let role = Arc::new(Mutex::new(Some(Role::Leader)));
    let told = Arc::clone(&role);
    world.disk(node).ask_for_role(Box::new(move || *told.lock().expect("one thread")));
    (node, role)
}

/// The cells that are not empty, as `name injected/met`.
fn cells(world: &World) -> Vec<String> {
    let cells = world.grid().into_iter();
    cells.map(|(cell, it)| format!("{} {}/{}", grid::name(cell), it.injected, it.met)).collect()
}

async fn write(host: &Arc<dyn Host>, path: &str, syncs: bool) {
    let (disk, path) = (host.disk(), Path::new(path));
    disk.create_dir_all(path.parent().expect("in a folder")).expect("room");
    let file = disk.open(path, OpenMode::Create).expect("room");
    file.write_all_at(b"text", 0).expect("alive");
    if syncs {
        file.sync().await.expect("alive");
    }
}

/// A trouble is counted where it was begun, and met in the role and class of whoever comes upon it.
#[test]
fn troubles_are_met_where_they_are() {
    run_in_world(1, exact(), |world| async move {
        let (node, role) = member(&world);
        let host = world.host(node);
        world.disk(node).begin(7, Files::Wal, Trouble::ReadErrors { one_in: 1 });
        write(&host, "/n/backend/1", true).await;
        write(&host, "/n/wal/1", true).await;
        assert_eq!(cells(&world), ["read-errors/leader/wal 1/0"]);
        *role.lock().expect("one thread") = Some(Role::Starting);
        host.disk().list(Path::new("/n/wal")).expect_err("it is to fail");
        host.disk().list(Path::new("/n/backend")).expect("another class");
        assert_eq!(cells(&world), ["read-errors/leader/wal 1/0", "read-errors/starting/wal 0/1"]);
        *role.lock().expect("one thread") = None;
        host.disk().list(Path::new("/n/wal")).expect_err("it is to fail");
        assert_eq!(cells(&world).len(), 2, "what is no member's is not counted");
    })
    .expect("no panic");
}

/// What a power cut took is counted for the role in which the process ended, by class, and met once, when files of
/// that class are opened again.
#[test]
fn losses_are_met_at_a_start() {
    run_in_world(1, exact(), |world| async move {
        let (node, role) = member(&world);
        let host = world.host(node);
        write(&host, "/n/wal/1", true).await;
        for folder in ["/", "/n", "/n/wal"] {
            host.disk().sync_dir(Path::new(folder)).await.expect("alive");
        }
        let log = host.disk().open(Path::new("/n/wal/1"), OpenMode::Write).expect("there");
        log.write_all_at(b"more", 4).expect("alive");
        write(&host, "/n/backend/1", true).await;
        world.disk(node).ends_process();
        *role.lock().expect("one thread") = Some(Role::Starting);
        world.power_off(node, Survival::Nothing);
        let done = ["power-loss/leader/wal 1/0"];
        assert_eq!(
            cells(&world),
            done,
            "the backend's folder was never durable: it is not there to lose a name"
        );
        world.restart(node);
        for _ in 0..2 {
            world.host(node).disk().list(Path::new("/n/wal")).expect("there");
        }
        assert_eq!(cells(&world), ["power-loss/leader/wal 1/0", "power-loss/starting/wal 0/1"]);
    })
    .expect("no panic");
}
