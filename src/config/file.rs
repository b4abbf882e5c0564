//! `--config-file`: TOML whose keys are flag names, turned into arguments.

use std::ffi::OsString;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};

/// The arguments that a file stands for.
///
/// # Errors
/// [`Error::Config`] with file, line and a suggestion, for what is not TOML, an unknown key or a
/// value that no flag can take.
pub(super) fn arguments(path: &Path, text: &str, flags: &[String]) -> Result<Vec<OsString>> {
    let refuse = |offset: usize, what: String| {
        let line = text[..offset.min(text.len())].matches('\n').count() + 1;
        Error::Config(format!("{}, line {line}: {what}", path.display()))
    };
    let table = DeTable::parse(text).map_err(|error| {
        refuse(error.span().map_or(0, |span| span.start), error.message().to_owned())
    })?;
    let mut keys: Vec<_> = table.get_ref().iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    let mut arguments = Vec::new();
    for (key, value) in keys {
        let name = key.get_ref().as_ref();
        if name == "config-file" {
            return Err(refuse(
                key.span().start,
                "a file cannot name another `config-file`".into(),
            ));
        }
        if !flags.iter().any(|flag| flag == name) {
            return Err(refuse(key.span().start, unknown(name, flags)));
        }
        let words = words(value.get_ref()).ok_or_else(|| {
            refuse(value.span().start, format!("`{name}` takes a word, a number or a list"))
        })?;
        arguments.push(format!("--{name}={words}").into());
    }
    Ok(arguments)
}

fn unknown(name: &str, flags: &[String]) -> String {
    let near = flags
        .iter()
        .map(|flag| (strsim::jaro_winkler(flag, name), flag))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((_, flag)) => format!("unknown key `{name}`; did you mean `{flag}`?"),
        None => format!("unknown key `{name}`; keys are the flags of `snowglobe serve --help`"),
    }
}

/// A value as it would stand on the command line; lists are joined by commas.
fn words(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        DeValue::Array(items) => {
            let items: Option<Vec<String>> =
                items.iter().map(|item| words(item.get_ref())).collect();
            items.map(|items| items.join(","))
        }
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file is turned into, and what is said about one that cannot be used.
    #[test]
    fn files() {
        let flags = ["name", "pre-vote", "snapshot-count", "listen-client-urls", "config-file"];
        let flags: Vec<String> = flags.map(str::to_owned).to_vec();
        let check = |text: &str, expected: &str| {
            let got = match arguments(Path::new("n1.toml"), text, &flags) {
                Ok(arguments) => arguments.join(" ".as_ref()).into_string().unwrap(),
                Err(error) => error.to_string(),
            };
            assert_eq!(got, expected, "{text}");
        };
        check("", "");
        check(
            "name = \"n1\"\npre-vote = false\nsnapshot-count = 10\nlisten-client-urls = [\"a\", \"b\"]",
            "--name=n1 --pre-vote=false --snapshot-count=10 --listen-client-urls=a,b",
        );
        check("\nnam = 1", "n1.toml, line 2: unknown key `nam`; did you mean `name`?");
        check(
            "quux = 1",
            "n1.toml, line 1: unknown key `quux`; keys are the flags of `snowglobe serve --help`",
        );
        check("config-file = \"x\"", "n1.toml, line 1: a file cannot name another `config-file`");
        check("name = {a = 1}", "n1.toml, line 1: `name` takes a word, a number or a list");
    }
}
