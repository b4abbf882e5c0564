//! `sim check --shrink`: writes the smallest history found that still breaks the same rule.

use std::io::Write as _;
use std::path::Path;

use super::{Finding, Judged};
use crate::checker::{self, shrink};
use crate::history::Operation;
use crate::outcome::EXIT_USAGE;

/// Shrinks a history that breaks a rule of the etcd checker, says what it came to on stderr, and gives back the exit
/// code that this adds to the verdict's own. Nothing is written where there is nothing to shrink.
pub(super) fn shrink(judged: &Judged, into: &Path) -> u8 {
    let Finding::Etcd(_, operations) = &judged.finding else {
        eprintln!("only histories of etcd are shrunk");
        return EXIT_USAGE;
    };
    let Some(shrunk) = shrink::shrink(operations, &|left| checker::check(left, None)) else {
        eprintln!("no rule is broken: nothing to shrink");
        return 0;
    };
    if let Err(error) = write(&shrunk.operations, into) {
        eprintln!("{}: {error}", into.display());
        return EXIT_USAGE;
    }
    eprintln!(
        "shrunk from {} to {} operations in {} checks: {}",
        operations.len(),
        shrunk.operations.len(),
        shrunk.checks,
        into.display()
    );
    0
}

/// Writes operations, one a line.
#[expect(clippy::disallowed_methods, reason = "a file of the user's, outside any simulated world")]
fn write(operations: &[Operation], into: &Path) -> std::io::Result<()> {
    let mut text = Vec::new();
    for operation in operations {
        serde_json::to_writer(&mut text, operation)?;
        text.push(b'\n');
    }
    std::fs::File::create(into)?.write_all(&text)
}
