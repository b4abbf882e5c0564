//! The operating system as a [`Host`].

mod clock;
mod disk;
mod net;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::Arc;

use super::{Backend, Clock, Disk, Host, Net};

/// The machine that the process runs on.
pub struct OsHost {
    net: Arc<net::OsNet>,
    disk: Arc<disk::OsDisk>,
    clock: Arc<clock::OsClock>,
}

impl OsHost {
    /// The machine, its monotonic clock starting now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            net: Arc::new(net::OsNet),
            disk: Arc::new(disk::OsDisk),
            clock: Arc::new(clock::OsClock::new()),
        }
    }
}

impl Default for OsHost {
    fn default() -> Self {
        Self::new()
    }
}

impl Host for OsHost {
    fn net(&self) -> Arc<dyn Net> {
        self.net.clone()
    }

    fn disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    fn random_u64(&self) -> u64 {
        // The standard library seeds each `RandomState` from the system's entropy and a counter.
        RandomState::new().build_hasher().finish()
    }

    fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kilobytes << 10)
    }

    fn backend(&self) -> io::Result<Backend> {
        Ok(Backend::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On Linux the process knows how much memory it holds.
    #[test]
    #[cfg(target_os = "linux")]
    fn memory() {
        let bytes = OsHost::new().resident_bytes().unwrap();
        assert!(bytes > 1 << 20, "{bytes}");
    }

    /// Two draws differ: identifiers made of them do not collide.
    #[test]
    fn dice_differ() {
        let host = OsHost::new();
        assert_ne!(host.random_u64(), host.random_u64());
    }
}
