//! The members that a client knows, and its connections to them.
//!
//! Invariants:
//! * One connection to a member, made when it is first needed and used until it fails.
//! * The member that failed last is passed over until another one has worked, or no other is left.

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;

use super::fate::NotConnected;
use crate::error::{Error, Result};
use crate::host::{BoxFuture, Clock, Listener, Net, Stream, channel};

/// See the module. Members are known by their place in the list.
pub struct Endpoints {
    net: Arc<dyn Net>,
    members: Vec<Member>,
    /// The member that failed last, until another one works.
    shunned: Option<usize>,
    /// Where the next turn begins.
    turn: usize,
}

struct Member {
    /// `host:port`.
    authority: String,
    channel: Option<Channel>,
    /// Until this time of the client's clock its turn goes to another one.
    rests_until: Duration,
}

impl Endpoints {
    /// The members at these addresses, each `host:port`.
    ///
    /// # Errors
    /// [`Error::Config`]: there is none, or one is no address.
    pub fn new<S: AsRef<str>>(net: Arc<dyn Net>, authorities: &[S]) -> Result<Self> {
        let member = |text: &S| {
            let authority = text.as_ref().to_owned();
            let parsed = authority.parse::<http::uri::Authority>();
            if parsed.is_ok_and(|it| it.port().is_some()) {
                Ok(Member { authority, channel: None, rests_until: Duration::ZERO })
            } else {
                Err(Error::Config(format!("`{authority}` is no endpoint; write host:port")))
            }
        };
        let members: Vec<Member> = authorities.iter().map(member).collect::<Result<_>>()?;
        if members.is_empty() {
            return Err(Error::Config("a client needs one endpoint at least".into()));
        }
        Ok(Self { net: Arc::new(Marked(net)), members, shunned: None, turn: 0 })
    }

    /// How many members are known.
    #[must_use]
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// The first of `order` that has not failed last; the last one where there is no such.
    #[must_use]
    pub fn choose(&self, order: &[usize]) -> Option<usize> {
        let liked = order.iter().find(|member| Some(**member) != self.shunned);
        liked.or(order.last()).copied()
    }

    /// The member whose turn it is at this time of the client's clock.
    pub fn next(&mut self, now: Duration) -> usize {
        let count = self.members.len();
        let order: Vec<usize> = (0..count).map(|step| (self.turn + step) % count).collect();
        let rested = order
            .iter()
            .copied()
            .find(|place| Some(*place) != self.shunned && self.members[*place].rests_until <= now);
        let least = order.iter().copied().min_by_key(|place| self.members[*place].rests_until);
        let member = rested.or(least).expect("there is one at least");
        self.turn = (member + 1) % count;
        member
    }

    /// The connection to a member.
    #[must_use]
    pub fn channel(&mut self, member: usize) -> Channel {
        let Member { authority, channel, .. } = &mut self.members[member];
        let net = &self.net;
        let connect =
            || channel::connect(Arc::clone(net), authority).expect("it was parsed before");
        channel.get_or_insert_with(connect).clone()
    }

    /// A connection to a member that is used for nothing else.
    #[must_use]
    pub fn fresh_channel(&self, member: usize) -> Channel {
        let authority = &self.members[member].authority;
        channel::connect(Arc::clone(&self.net), authority).expect("it was parsed before")
    }

    /// A member has answered.
    pub fn worked(&mut self, member: usize) {
        self.shunned = None;
        self.members[member].rests_until = Duration::ZERO;
    }

    /// A member, or the way to it, has failed: the connection is not used again.
    pub fn failed(&mut self, member: usize) {
        self.shunned = Some(member);
        self.members[member].channel = None;
    }

    /// A member is passed over, where there are others, until this time of the client's clock.
    pub fn rest(&mut self, member: usize, until: Duration) {
        self.members[member].rests_until = until;
    }
}

/// Marks failed connects, so that they can be told from connections that broke later.
struct Marked(Arc<dyn Net>);

impl Net for Marked {
    fn listen(
        &self,
        address: std::net::SocketAddr,
    ) -> BoxFuture<'_, std::io::Result<Box<dyn Listener>>> {
        self.0.listen(address)
    }

    fn connect<'a>(
        &'a self,
        authority: &'a str,
    ) -> BoxFuture<'a, std::io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            self.0
                .connect(authority)
                .await
                .map_err(|error| std::io::Error::new(error.kind(), NotConnected(error)))
        })
    }
}

/// Gives up connects that take too long.
pub(super) struct Impatient {
    pub(super) net: Arc<dyn Net>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limit: Duration,
}

impl Net for Impatient {
    fn listen(
        &self,
        address: std::net::SocketAddr,
    ) -> BoxFuture<'_, std::io::Result<Box<dyn Listener>>> {
        self.net.listen(address)
    }

    fn connect<'a>(
        &'a self,
        authority: &'a str,
    ) -> BoxFuture<'a, std::io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            tokio::select! {
                biased;
                connected = self.net.connect(authority) => connected,
                () = self.clock.sleep(self.limit) => Err(std::io::ErrorKind::TimedOut.into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::host::os::OsHost;

    fn endpoints(authorities: &[&str]) -> Result<Endpoints> {
        Endpoints::new(OsHost::new().net(), authorities)
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Members take turns; one that has failed is passed over while it rests and another is left.
    #[test]
    fn turns() {
        let mut endpoints = endpoints(&["a:1", "b:1", "c:1"]).unwrap();
        let turns = |endpoints: &mut Endpoints, ms: u64| -> Vec<usize> {
            (0..6).map(|_| endpoints.next(at(ms))).collect()
        };
        assert_eq!(turns(&mut endpoints, 0), [0, 1, 2, 0, 1, 2]);
        endpoints.failed(1);
        endpoints.rest(1, at(100));
        assert_eq!(turns(&mut endpoints, 50), [0, 2, 0, 2, 0, 2]);
        assert_eq!(turns(&mut endpoints, 200), [0, 2, 0, 2, 0, 2], "until another one works");
        endpoints.worked(0);
        assert_eq!(turns(&mut endpoints, 200), [0, 1, 2, 0, 1, 2]);
        for member in 0..3 {
            endpoints.failed(member);
            endpoints.rest(member, at(300 - member as u64));
        }
        assert_eq!(endpoints.next(at(200)), 2, "the one that rests the shortest");
    }

    /// Of an order the first is chosen that has not failed last.
    #[test]
    fn orders() {
        let mut endpoints = endpoints(&["a:1", "b:1", "c:1"]).unwrap();
        assert_eq!(endpoints.choose(&[2, 0]), Some(2));
        endpoints.failed(2);
        assert_eq!(endpoints.choose(&[2, 0]), Some(0));
        assert_eq!(endpoints.choose(&[2]), Some(2));
        assert_eq!(endpoints.choose(&[]), None);
        endpoints.failed(0);
        assert_eq!(endpoints.choose(&[2, 0]), Some(2));
        endpoints.worked(0);
        assert_eq!(endpoints.choose(&[0, 2]), Some(0));
    }

    /// What is no address is refused before anything is sent to it.
    #[test]
    fn addresses() {
        for wrong in ["", "a", "http://a:1", "a b:1", "a:x"] {
            assert!(endpoints(&["a:1", wrong]).is_err(), "{wrong}");
        }
        assert!(endpoints(&[]).is_err());
        assert_eq!(endpoints(&["[::1]:2379", "127.0.0.1:1"]).unwrap().count(), 2);
    }
}
