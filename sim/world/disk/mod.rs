//! The simulated disk of one node.
//!
//! One image, seen through the page cache; [`content::Content`] and the folders keep journals of what was not synced, and a
//! power cut takes back a legal part of that. Killing a process loses nothing; a power cut loses what no sync covers.
//!
//! Invariants:
//! * Data and length are durable after a sync of the file, names after a sync of the folder; before that nothing is.
//! * A sync takes virtual time and covers what was written before it began; it is durable at its end, not earlier.
//! * A process that was killed changes nothing any more (see [`Life`](super::base::Life)).
//! * The same operations with the same dice leave the same bytes.
//!
//! Not modelled here: input/output errors, a full disk, bit rot, slow reads, renames between folders.

pub(crate) mod content;
pub(crate) mod image;
#[cfg(madsim)]
mod session;

#[cfg(madsim)]
pub use content::{Loss, Survival};

#[cfg(madsim)]
pub use device::Disk;
#[cfg(madsim)]
pub(crate) use session::{HeldLock, OpenFile, Session};

#[cfg(madsim)]
mod device;
