//! The permissions of one user, merged over all roles: what may be read, and what written.

use bytes::Bytes;

use super::{Auth, Role};
use crate::proto::authpb::permission::Type;

/// What a request wants to do with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Disjoint ranges of keys that do not touch, in order; the end `None` is behind every key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<(Bytes, Option<Bytes>)>);

/// Whether one end is before another one.
fn is_before(end: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    match (end, other) {
        (Some(end), Some(other)) => end < other,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Where the range of a key and an end, in etcd's words, stops: behind the key alone, at the end, or
/// nowhere.
fn end_of(key: &[u8], range_end: &[u8]) -> Option<Bytes> {
    match range_end {
        [] => Some([key, b"\0"].concat().into()),
        [0] => None,
        end => Some(Bytes::copy_from_slice(end)),
    }
}

impl Ranges {
    fn merge(mut ranges: Vec<(Bytes, Option<Bytes>)>) -> Self {
        ranges.sort();
        let mut merged: Vec<(Bytes, Option<Bytes>)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                // The end of one may be the start of the next: together they hold what is in between.
                Some((_, last)) if !is_before(last.as_deref(), Some(&start)) => {
                    if is_before(last.as_deref(), end.as_deref()) {
                        *last = end;
                    }
                }
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    /// Whether all keys of a range are in it.
    fn contain(&self, key: &[u8], range_end: &[u8]) -> bool {
        let end = end_of(key, range_end);
        let place = self.0.partition_point(|(start, _)| &start[..] <= key);
        let Some((_, last)) = place.checked_sub(1).map(|place| &self.0[place]) else {
            return false;
        };
        let holds_key = is_before(Some(key), last.as_deref());
        holds_key && !is_before(last.as_deref(), end.as_deref())
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    read: Ranges,
    write: Ranges,
}

impl Merged {
    fn of<'a>(roles: impl Iterator<Item = &'a Role>) -> Self {
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for ((key, range_end), kind) in roles.flatten() {
            let range = || (key.clone(), end_of(key, range_end));
            if matches!(kind, Type::Read | Type::Readwrite) {
                read.push(range());
            }
            if matches!(kind, Type::Write | Type::Readwrite) {
                write.push(range());
            }
        }
        Self { read: Ranges::merge(read), write: Ranges::merge(write) }
    }

    pub(super) fn allows(&self, access: Access, key: &[u8], range_end: &[u8]) -> bool {
        match access {
            Access::Read => self.read.contain(key, range_end),
            Access::Write => self.write.contain(key, range_end),
        }
    }
}

impl Auth {
    /// Makes the permissions of all users anew.
    pub(super) fn merge(&mut self) {
        let of = |roles: &std::collections::BTreeSet<String>| {
            Merged::of(roles.iter().filter_map(|name| self.roles.get(name)))
        };
        self.merged =
            self.users.iter().map(|(name, user)| (name.clone(), of(&user.roles))).collect();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn role(permissions: &[(&str, &str)]) -> Role {
        let keys = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        permissions.iter().map(|(key, end)| ((keys(key), keys(end)), Type::Read)).collect()
    }

    /// Single keys, ranges, open ends and ranges that touch, as etcd's interval trees see them.
    #[test]
    fn what_is_contained() {
        let check = |permissions: &[(&str, &str)], key: &str, end: &str, expected: bool| {
            let merged = Merged::of([role(permissions)].iter());
            let allows = merged.allows(Access::Read, key.as_bytes(), end.as_bytes());
            assert_eq!(allows, expected, "{key:?}..{end:?} in {permissions:?}");
            assert!(!merged.allows(Access::Write, key.as_bytes(), end.as_bytes()));
        };
        check(&[("a", "")], "a", "", true);
        check(&[("a", "")], "a", "b", false);
        check(&[("a", "")], "a\0", "", false);
        check(&[("a", "c")], "b", "c", true);
        check(&[("a", "c")], "b", "d", false);
        check(&[("a", "c")], "c", "", false);
        check(&[("a", "c"), ("c", "e")], "b", "d", true);
        check(&[("a", "b"), ("c", "e")], "a", "d", false);
        check(&[("b", "\0")], "b", "\0", true);
        check(&[("b", "\0")], "a", "\0", false);
        check(&[("b", "y")], "b", "\0", false);
        check(&[("a", "z"), ("b", "c")], "d", "e", true);
        check(&[], "a", "", false);
    }

    proptest! {
        /// A range is allowed exactly if each of its keys is, whatever permissions are merged.
        #[test]
        fn ranges_are_their_keys(
            permissions in prop::collection::vec((0_u8..8, 0_u8..9), 0..5),
            key in 0_u8..8,
            length in 1_u8..8,
        ) {
            // Keys are single letters, and ranges of them are all there are.
            let letter = |number: u8| Bytes::from(vec![b'a' + number]);
            let keys = |&(start, length): &(u8, u8)| match length {
                0 => (letter(start), Bytes::from_static(&[0])),
                length => (letter(start), letter(start + length)),
            };
            let role: Role = permissions.iter().map(|it| (keys(it), Type::Write)).collect();
            let merged = Merged::of([role].iter());
            let whole = merged.allows(Access::Write, &letter(key), &letter(key + length));
            let allows = |number| {
                merged.allows(Access::Write, &letter(number), &letter(number + 1))
            };
            prop_assert_eq!(whole, (key..key + length).all(allows));
        }
    }
}
