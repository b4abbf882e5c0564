//! Revisions, and the row keys that they become in the database (etcd's encoding).

/// A change's place in history: all changes of one request share `main`; `sub` counts them from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision {
    /// The part that clients see.
    pub main: i64,
    /// The change's number within its request.
    pub sub: i64,
}

/// Length of the row key of a put: 8 bytes main, `_`, 8 bytes sub, both big endian.
const PUT_ROW_BYTES: usize = 17;
/// Length of the row key of a delete: as of a put, and `t`.
const TOMBSTONE_ROW_BYTES: usize = 18;
/// Stands between main and sub.
const SEPARATOR: u8 = b'_';
/// Marks a tombstone.
const TOMBSTONE: u8 = b't';

/// A row key: a revision, and whether the key was put or deleted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Where in history.
    pub(super) revision: Revision,
    /// Whether the key was deleted there.
    pub(super) tombstone: bool,
}

impl Row {
    /// The row of a put.
    pub(super) fn put(revision: Revision) -> Self {
        Self { revision, tombstone: false }
    }

    /// The row of a delete.
    pub(super) fn tombstone(revision: Revision) -> Self {
        Self { revision, tombstone: true }
    }

    /// The bytes, in a buffer that is long enough for both kinds, and how many of them count.
    pub(super) fn encode(self) -> RowBytes {
        let mut bytes = [0; TOMBSTONE_ROW_BYTES];
        bytes[..8].copy_from_slice(&self.revision.main.to_be_bytes());
        bytes[8] = SEPARATOR;
        bytes[9..PUT_ROW_BYTES].copy_from_slice(&self.revision.sub.to_be_bytes());
        bytes[PUT_ROW_BYTES] = TOMBSTONE;
        RowBytes { bytes, tombstone: self.tombstone }
    }

    /// Reads a row key; `None` if it is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let tombstone = match bytes.len() {
            PUT_ROW_BYTES => false,
            TOMBSTONE_ROW_BYTES if bytes[PUT_ROW_BYTES] == TOMBSTONE => true,
            _ => return None,
        };
        if bytes[8] != SEPARATOR {
            return None;
        }
        let main = i64::from_be_bytes(bytes[..8].try_into().ok()?);
        let sub = i64::from_be_bytes(bytes[9..PUT_ROW_BYTES].try_into().ok()?);
        (main >= 0 && sub >= 0).then_some(Self { revision: Revision { main, sub }, tombstone })
    }
}

/// An encoded row key.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowBytes {
    bytes: [u8; TOMBSTONE_ROW_BYTES],
    tombstone: bool,
}

impl AsRef<[u8]> for RowBytes {
    fn as_ref(&self) -> &[u8] {
        if self.tombstone { &self.bytes } else { &self.bytes[..PUT_ROW_BYTES] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row keys are etcd's bytes, sort as revisions do, and read back; anything else is refused.
    #[test]
    fn row_keys() {
        let row = Row::put(Revision { main: 0x0102, sub: 3 });
        assert_eq!(row.encode().as_ref(), b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03");
        let tombstone = Row::tombstone(row.revision);
        assert_eq!(tombstone.encode().as_ref(), b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03t");
        assert!(row.encode().as_ref() < tombstone.encode().as_ref());
        for row in [row, tombstone] {
            assert_eq!(Row::decode(row.encode().as_ref()), Some(row));
        }
        let bytes = tombstone.encode();
        let bytes = bytes.as_ref();
        for wrong in
            [&b""[..], &bytes[..16], &[bytes, b"t"].concat(), &[&bytes[..17], b"x"].concat()]
        {
            assert_eq!(Row::decode(wrong), None, "{wrong:?}");
        }
    }
}
