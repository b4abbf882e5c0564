//! Messages as JSON that people can read, without what differs from cluster to cluster.
//!
//! Bytes are strings, one character a byte. Revisions are counted from where a case began: `"r+2"`. Ids of members and
//! of leases that the server chose, ports, hashes and sizes become words such as `"<id>"`; remaining times to live are
//! taken for the granted ones if no more than a second is missing.

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value as Field,
};
use serde_json::{Map, Value};

/// Leases above are chosen by the server, never by a case.
const CHOSEN_LEASE_MAX: i64 = 1 << 32;

/// Fields that are revisions of the store.
const REVISIONS: &[&str] = &[
    "revision",
    "rev",
    "mod_revision",
    "create_revision",
    "start_revision",
    "compact_revision",
    "hash_revision",
    "min_mod_revision",
    "max_mod_revision",
    "min_create_revision",
    "max_create_revision",
];

/// Fields of which only the presence is compared.
const HIDDEN: &[(&str, &str)] = &[
    ("cluster_id", "<id>"),
    ("member_id", "<id>"),
    ("memberID", "<id>"),
    ("leader", "<id>"),
    ("raft_term", "<n>"),
    ("raftTerm", "<n>"),
    ("raftIndex", "<n>"),
    ("raftAppliedIndex", "<n>"),
    ("dbSize", "<n>"),
    ("dbSizeInUse", "<n>"),
    ("dbSizeQuota", "<n>"),
    ("hash", "<n>"),
    ("storageVersion", "<version>"),
    ("token", "<token>"),
    ("authRevision", "<n>"),
];

/// A message from a case's JSON. Panics on what the message does not have: the case is wrong.
///
/// `{"repeat": x, "times": n}` stands for a long list or a long string.
pub(crate) fn message(descriptor: &MessageDescriptor, json: &Value, base: i64) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    let object = json.as_object().unwrap_or_else(|| panic!("{json} is no object"));
    for (name, value) in object {
        let field = descriptor
            .get_field_by_name(name)
            .unwrap_or_else(|| panic!("{} has no field {name}", descriptor.full_name()));
        let value = match value {
            Value::Array(items) if field.is_list() => {
                Field::List(items.iter().map(|item| scalar(&field, item, base)).collect())
            }
            Value::Object(repeat) if field.is_list() => {
                let times = repeat["times"].as_u64().expect("a number of times");
                Field::List((0..times).map(|_| scalar(&field, &repeat["repeat"], base)).collect())
            }
            single => scalar(&field, single, base),
        };
        message.set_field(&field, value);
    }
    message
}

fn scalar(field: &FieldDescriptor, json: &Value, base: i64) -> Field {
    let wrong = || -> ! { panic!("{json} does not fit {}", field.full_name()) };
    let number = || match json {
        Value::String(text) => {
            let offset = text.strip_prefix('r').unwrap_or_else(|| wrong());
            base + if offset.is_empty() { 0 } else { offset.parse().unwrap_or_else(|_| wrong()) }
        }
        other => other.as_i64().unwrap_or_else(|| wrong()),
    };
    let text = || json.as_str().unwrap_or_else(|| wrong());
    match field.kind() {
        Kind::Bytes => Field::Bytes(bytes(json).unwrap_or_else(|| wrong()).into()),
        Kind::String => Field::String(text().to_owned()),
        Kind::Bool => Field::Bool(json.as_bool().unwrap_or_else(|| wrong())),
        Kind::Int64 => Field::I64(number()),
        Kind::Uint64 => Field::U64(number() as u64),
        Kind::Int32 => Field::I32(number() as i32),
        Kind::Uint32 => Field::U32(number() as u32),
        Kind::Enum(kind) => match json {
            Value::String(name) => {
                Field::EnumNumber(kind.get_value_by_name(name).unwrap_or_else(|| wrong()).number())
            }
            _ => Field::EnumNumber(number() as i32),
        },
        Kind::Message(inner) => Field::Message(message(&inner, json, base)),
        _ => wrong(),
    }
}

/// A string, or `{"repeat": "x", "times": n}` for what nobody wants to read.
fn bytes(json: &Value) -> Option<Vec<u8>> {
    if let Some(text) = json.as_str() {
        return text.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect();
    }
    let times = json.get("times")?.as_u64()?;
    Some(json.get("repeat")?.as_str()?.repeat(usize::try_from(times).ok()?).into_bytes())
}

/// The words of an answer.
pub(crate) fn words(message: &DynamicMessage, base: i64) -> Value {
    let mut object = Map::new();
    let kind = message.descriptor().name().to_owned();
    for (field, value) in message.fields() {
        let name = field.name();
        let words = match value {
            Field::List(items) => {
                items.iter().map(|item| word(&kind, name, &field, item, base)).collect()
            }
            single => word(&kind, name, &field, single, base),
        };
        object.insert(name.to_owned(), words);
    }
    if kind == "ResponseHeader" {
        object.retain(|name, _| name == "revision");
    }
    for unordered in ["leases", "keys"] {
        // etcd lists them in an order that nobody is promised.
        if let Some(Value::Array(items)) = object.get_mut(unordered) {
            items.sort_by_key(Value::to_string);
        }
    }
    if kind == "LeaseTimeToLiveResponse" {
        settle_ttl(&mut object);
    }
    Value::Object(object)
}

/// A lease that was granted a moment ago may have lost its first second.
fn settle_ttl(object: &mut Map<String, Value>) {
    let number = |name: &str| object.get(name).and_then(Value::as_i64);
    if let (Some(left), Some(granted)) = (number("TTL"), number("grantedTTL"))
        && granted - left == 1
    {
        object.insert("TTL".into(), granted.into());
    }
}

fn word(kind: &str, name: &str, field: &FieldDescriptor, value: &Field, base: i64) -> Value {
    if name == "ID" && kind == "Member" {
        return "<id>".into();
    }
    if name == "version" && kind == "StatusResponse" {
        return "<version>".into();
    }
    if let Some((_, hidden)) = HIDDEN.iter().find(|(hidden, _)| *hidden == name)
        && !matches!(value, Field::Message(_))
    {
        return (*hidden).into();
    }
    match value {
        Field::I64(number) if REVISIONS.contains(&name) => format!("r{:+}", number - base).into(),
        Field::I64(number) if *number > CHOSEN_LEASE_MAX => "<id>".into(),
        Field::I64(number) => (*number).into(),
        Field::U64(number) => (*number).into(),
        Field::I32(number) => (*number).into(),
        Field::U32(number) => (*number).into(),
        Field::Bool(truth) => (*truth).into(),
        Field::String(text) => without_ports(text).into(),
        Field::Bytes(bytes) => {
            bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into()
        }
        Field::EnumNumber(number) => match field.kind() {
            Kind::Enum(kind) => {
                kind.get_value(*number).map_or((*number).into(), |v| v.name().into())
            }
            _ => (*number).into(),
        },
        Field::Message(message) => words(message, base),
        other => format!("{other:?}").into(),
    }
}

/// Ports are drawn anew for every run.
fn without_ports(text: &str) -> String {
    match text.rsplit_once(':') {
        Some((url, port)) if url.starts_with("http") && port.parse::<u16>().is_ok() => {
            format!("{url}:<port>")
        }
        _ => text.to_owned(),
    }
}
