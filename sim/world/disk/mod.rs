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
//! * What goes wrong goes wrong where it was asked to ([`trouble`]): on that node, in those files, for so long.
//!
//! Not modelled here: slow reads, renames between folders.

mod bytes;
pub(crate) mod content;
#[cfg(madsim)]
mod going_astray;
pub(crate) mod image;
pub(crate) mod loss;
#[cfg(madsim)]
mod session;
pub(crate) mod states;
mod stray;
#[cfg(madsim)]
mod tally;
#[cfg(madsim)]
pub(crate) mod trouble;

#[cfg(madsim)]
pub use loss::{Loss, Survival};

#[cfg(madsim)]
pub use device::Disk;
#[cfg(madsim)]
pub use image::Image;
#[cfg(madsim)]
pub(crate) use session::{HeldLock, OpenFile, Session};
#[cfg(madsim)]
pub use trouble::{Files, Trouble};

#[cfg(madsim)]
mod device;
