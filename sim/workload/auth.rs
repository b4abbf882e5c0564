//! The auth workload: an administrator who changes users, roles and permissions all the time, and users who read and
//! write what they may and what they may not.
//!
//! Client 0 is root. It sets everything up first: users `u1` …, roles `r0` …, permissions on the keys `k0` …; then it
//! takes back and gives again. The last client says nothing of who it is. Passwords are the users' names.

use super::{Drawn, Workload, plain};
use crate::dice::Dice;
use crate::history::{Bytes, DeleteRange, PermissionKind, Put, Range, Request, Txn};

/// The kinds of step: each with its name in files and its usual weight. The first ones are the administrator's.
pub const KINDS: &[(&str, u64)] = &[
    ("permit", 8),
    ("forbid", 6),
    ("give", 5),
    ("take", 4),
    ("replace-role", 1),
    ("replace-user", 1),
    ("off-and-on", 1),
    ("get", 12),
    ("list", 5),
    ("put", 14),
    ("delete", 4),
    ("txn", 5),
];

/// How many of the kinds are the administrator's alone.
const ADMIN_KINDS: usize = 7;

/// The user who may do everything.
pub const ROOT: &str = "root";

/// How many roles there are.
const ROLES: u64 = 3;

/// Who a client is.
#[must_use]
pub fn user(client: u32, clients: u32) -> Option<String> {
    match client {
        0 => Some(ROOT.to_owned()),
        last if last + 1 == clients => None,
        client => Some(format!("u{client}")),
    }
}

/// One client while its list is drawn.
pub struct Client<'a> {
    workload: &'a Workload,
    name: u32,
    clients: u32,
    values: u64,
    is_set_up: bool,
}

impl<'a> Client<'a> {
    /// The client numbered `name`, one of `clients`.
    #[must_use]
    pub fn new(workload: &'a Workload, name: u32, clients: u32) -> Self {
        Self { workload, name, clients, values: 0, is_set_up: name != 0 }
    }

    /// The next step.
    pub fn draw(&mut self, dice: &mut Dice) -> Vec<Drawn> {
        if !self.is_set_up {
            self.is_set_up = true;
            return self.set_up(dice).into_iter().map(plain).collect();
        }
        let mut mix = self.workload.mix.clone();
        if self.name != 0 {
            mix[..ADMIN_KINDS].fill(0);
        }
        if mix.iter().all(|weight| *weight == 0) {
            mix[ADMIN_KINDS..].fill(1);
        }
        let requests = match KINDS[dice.weighted(&mix)].0 {
            "permit" => vec![self.permit(dice)],
            "forbid" => {
                let (key, range_end) = self.keys(dice);
                vec![Request::RoleRevokePermission { role: role(dice), key, range_end }]
            }
            "give" => vec![Request::UserGrantRole { name: self.some_user(dice), role: role(dice) }],
            "take" => {
                vec![Request::UserRevokeRole { name: self.some_user(dice), role: role(dice) }]
            }
            "replace-role" => {
                let name = role(dice);
                let add = Request::RoleAdd { name: name.clone() };
                vec![Request::RoleDelete { name }, add, self.permit(dice)]
            }
            "replace-user" => {
                let name = self.some_user(dice);
                let add = Request::UserAdd { name: name.clone() };
                let give = Request::UserGrantRole { name: name.clone(), role: role(dice) };
                vec![Request::UserDelete { name }, add, give]
            }
            "off-and-on" => {
                let put = self.put(dice);
                vec![Request::AuthDisable {}, put, Request::AuthEnable {}, Request::AuthEnable {}]
            }
            "get" => {
                let (key, serializable) = (self.key(dice), dice.percent(20));
                vec![Request::Range(Range { key, serializable, ..Range::default() })]
            }
            "list" => {
                let (key, range_end) = self.keys(dice);
                vec![Request::Range(Range { key, range_end, ..Range::default() })]
            }
            "put" => vec![self.put(dice)],
            "delete" => {
                let (key, range_end) = self.keys(dice);
                vec![Request::DeleteRange(DeleteRange {
                    key,
                    range_end,
                    prev_kv: dice.percent(20),
                })]
            }
            _ => vec![self.txn(dice)],
        };
        requests.into_iter().map(plain).collect()
    }

    /// Everything once, and authentication on. What fails of it is done again later, by and by.
    fn set_up(&mut self, dice: &mut Dice) -> Vec<Request> {
        let root = || ROOT.to_owned();
        let mut requests = vec![
            Request::UserAdd { name: root() },
            Request::UserGrantRole { name: root(), role: root() },
        ];
        for number in 0..ROLES {
            let role = format!("r{number}");
            requests.push(Request::RoleAdd { name: role });
            requests.push(self.permit(dice));
        }
        for client in 1..self.clients {
            if let Some(name) = user(client, self.clients) {
                requests.push(Request::UserAdd { name: name.clone() });
                requests.push(Request::UserGrantRole { name, role: role(dice) });
            }
        }
        requests.push(Request::AuthEnable {});
        requests
    }

    fn some_user(&self, dice: &mut Dice) -> String {
        let users = u64::from(self.clients.saturating_sub(2)).max(1);
        format!("u{}", 1 + dice.below(users))
    }

    fn permit(&self, dice: &mut Dice) -> Request {
        let (key, range_end) = self.keys(dice);
        let kinds = [PermissionKind::Read, PermissionKind::Write, PermissionKind::ReadWrite];
        Request::RoleGrantPermission { role: role(dice), kind: *dice.pick(&kinds), key, range_end }
    }

    fn key(&self, dice: &mut Dice) -> Bytes {
        Bytes::from(format!("k{}", dice.below(self.workload.keys)).as_str())
    }

    /// One key, some keys, or all of them.
    fn keys(&self, dice: &mut Dice) -> (Bytes, Bytes) {
        match dice.below(4) {
            0 => (Bytes::from("k"), Bytes::from("l")),
            1 => {
                let (one, other) = (self.key(dice), self.key(dice));
                let end = one.clone().max(other.clone());
                let start = one.min(other);
                if start == end { (start, Bytes::default()) } else { (start, end) }
            }
            _ => (self.key(dice), Bytes::default()),
        }
    }

    fn put(&mut self, dice: &mut Dice) -> Request {
        self.values += 1;
        let value = Bytes::from(format!("v{}.{}", self.name, self.values).as_str());
        let (key, prev_kv) = (self.key(dice), dice.percent(20));
        Request::Put(Put { key, value, prev_kv, ..Put::default() })
    }

    /// Reads and writes, some of them inside.
    fn txn(&mut self, dice: &mut Dice) -> Request {
        let read = Request::Range(Range { key: self.key(dice), ..Range::default() });
        let put = self.put(dice);
        if dice.percent(50) {
            return Request::Txn(Txn { success: vec![read, put], ..Txn::default() });
        }
        let inner = Request::Txn(Txn { success: vec![put], ..Txn::default() });
        Request::Txn(Txn { success: vec![read, inner], ..Txn::default() })
    }
}

fn role(dice: &mut Dice) -> String {
    format!("r{}", dice.below(ROLES))
}
