//! Listening and connecting.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;

use snowglobe::host::{self, BoxFuture};

use super::faults::Connects;
use super::stream::NetStream;
use super::{BACKLOG_MAX, Net, Port, State, Wakes};
use crate::world::base::Life;

/// The first retransmission of a connect; each further one waits twice as long.
const RETRY_FIRST_NS: u64 = 1_000_000_000;
/// Linux's default: about two minutes in all.
const ATTEMPTS: u32 = 7;

/// The network as one process sees it.
#[derive(Clone)]
pub(crate) struct NodeNet {
    pub(crate) net: Arc<Net>,
    pub(crate) machine: usize,
    pub(crate) life: Life,
}

/// What became of the packet that asks for a connection.
enum Asked {
    Lost,
    Refused,
    Accepted,
}

impl State {
    /// The machine and port that `authority` names, seen from `machine`.
    fn resolve(&self, machine: usize, authority: &str) -> io::Result<(usize, u16)> {
        let unknown =
            || io::Error::new(io::ErrorKind::NotFound, format!("{authority}: no such host"));
        let (host, port) = authority.rsplit_once(':').ok_or_else(unknown)?;
        let port = port.parse().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{authority}: no port"))
        })?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || address.is_some_and(|ip| ip.is_loopback()) {
            return Ok((machine, port));
        }
        let mut machines = self.machines.iter();
        let found = machines.position(|there| *there.name == *host || address == Some(there.ip));
        let there = found.ok_or_else(unknown)?;
        Ok((there, self.diverted.get(&(machine, (there, port))).copied().unwrap_or(port)))
    }

    /// The packet that asks for a connection is at the other machine, or is not.
    fn ask(&self, from: usize, to: (usize, u16)) -> Asked {
        let link = &self.links[from][to.0];
        match (link.is_open() && self.machines[to.0].has_power, link.connects) {
            (false, _) | (_, Connects::Hang) => Asked::Lost,
            (_, Connects::Refuse) => Asked::Refused,
            (_, Connects::Work) => match self.ports.get(&to) {
                None => Asked::Refused,
                Some(port) if port.backlog.len() >= BACKLOG_MAX => Asked::Lost,
                Some(_) => Asked::Accepted,
            },
        }
    }

    fn free_port(&mut self, machine: usize) -> u16 {
        loop {
            let port = self.machines[machine].next_port;
            self.machines[machine].next_port = if port >= 60_999 { 32_768 } else { port + 1 };
            if !self.ports.contains_key(&(machine, port)) {
                return port;
            }
        }
    }
}

impl NodeNet {
    fn draw_delay(&self, from: usize, to: usize) -> u64 {
        let mut state = self.net.lock();
        let delay = state.links[from][to].delay;
        delay.draw(&mut state.dice)
    }

    async fn connect_to(&self, authority: &str) -> io::Result<NetStream> {
        self.life.check()?;
        let to = self.net.lock().resolve(self.machine, authority)?;
        let timers = &self.net.base.timers;
        let mut retry_ns = RETRY_FIRST_NS;
        for _ in 0..ATTEMPTS {
            let again_ns = timers.now_ns() + retry_ns;
            retry_ns *= 2;
            timers.sleep(self.draw_delay(self.machine, to.0)).await;
            let asked = self.net.lock().ask(self.machine, to);
            if !matches!(asked, Asked::Lost) {
                timers.sleep(self.draw_delay(to.0, self.machine)).await;
                let mut state = self.net.lock();
                if state.links[to.0][self.machine].is_open() {
                    self.life.check()?;
                    if let Asked::Refused = asked {
                        self.net.base.count("net.connects_refused", 1);
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    let port = state.free_port(self.machine);
                    let id = state.open(&self.net, (self.machine, port), to);
                    self.net.base.count("net.connects", 1);
                    return Ok(NetStream::new(Arc::clone(&self.net), id, 0, self.life.clone()));
                }
            }
            self.net.base.count("net.connects_lost", 1);
            timers.sleep_until(again_ns).await;
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn bind(&self, address: SocketAddr) -> io::Result<NodeListener> {
        self.life.check()?;
        let mut state = self.net.lock();
        let mine = state.machines[self.machine].ip;
        if !(address.ip().is_unspecified() || address.ip().is_loopback() || address.ip() == mine) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let port = if address.port() == 0 { state.free_port(self.machine) } else { address.port() };
        if state.ports.contains_key(&(self.machine, port)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let owner = state.next_owner;
        state.next_owner += 1;
        state
            .ports
            .insert((self.machine, port), Port { owner, backlog: Default::default(), waker: None });
        let address = SocketAddr::new(address.ip(), port);
        Ok(NodeListener { net: self.clone(), address, owner })
    }
}

impl host::Net for NodeNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn host::Listener>>> {
        Box::pin(async move { Ok(Box::new(self.bind(address)?) as Box<dyn host::Listener>) })
    }

    fn connect<'a>(
        &'a self,
        authority: &'a str,
    ) -> BoxFuture<'a, io::Result<Box<dyn host::Stream>>> {
        Box::pin(
            async move { Ok(Box::new(self.connect_to(authority).await?) as Box<dyn host::Stream>) },
        )
    }
}

/// A bound socket; the port is free again when it is dropped.
struct NodeListener {
    net: NodeNet,
    address: SocketAddr,
    owner: u64,
}

impl host::Listener for NodeListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn host::Stream>, SocketAddr)>> {
        Box::pin(poll_fn(move |cx| {
            self.net.life.check()?;
            let mut state = self.net.net.lock();
            let key = (self.net.machine, self.address.port());
            let Some(port) = state.ports.get_mut(&key).filter(|port| port.owner == self.owner)
            else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let Some(id) = port.backlog.pop_front() else {
                port.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            // A connection that broke while it waited is handed out all the same: its first read says so.
            let from = state.conns[&id].ends[0].address;
            let stream = NetStream::new(Arc::clone(&self.net.net), id, 1, self.net.life.clone());
            Poll::Ready(Ok((Box::new(stream) as Box<dyn host::Stream>, from)))
        }))
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for NodeListener {
    fn drop(&mut self) {
        if self.net.life.is_over() {
            return;
        }
        let mut wakes = Wakes::default();
        let mut state = self.net.net.lock();
        let key = (self.net.machine, self.address.port());
        if state.ports.get(&key).is_some_and(|port| port.owner == self.owner) {
            state.close_port(&self.net.net, key.0, key.1, &mut wakes);
        }
        drop(state);
        wakes.wake();
    }
}
