//! The format of the case files: what is asked, and under it, indented, what was answered.
//!
//! ```text
//! case: a put answers with the pair that it replaced
//! differs: why this server answers otherwise (only where it does)
//! KV.Put {"key": "a", "value": "1"}
//!   {"header": {"revision": "r+1"}}
//! KV.Range {}
//!   ! InvalidArgument: etcdserver: key is not provided
//! Watch.Watch@w {"create_request": {"key": "a"}}
//!   {"header": {"revision": "r+1"}, "created": true}
//! @w
//!   {"header": {"revision": "r+2"}, "events": […]}
//! as root password
//! pause 300
//! ```
//!
//! `Service.Method@name` sends on a stream and opens it first if need be; `@name` only listens. `as` asks everything
//! that follows with that user's token, `as nobody` without one. `pause` waits milliseconds for what takes time.

use serde_json::Value;

/// Requests that belong together, on a store that was emptied before.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Why this server's answers differ from etcd's, where they do on purpose.
    pub(crate) differs: Option<String>,
    pub(crate) steps: Vec<Step>,
}

/// One line of a case with what is expected of it.
pub(crate) struct Step {
    line: String,
    pub(crate) action: Action,
    expected: Vec<String>,
}

/// What a line does.
pub(crate) enum Action {
    /// One request, one answer.
    Unary { service: String, method: String, request: Value },
    /// Sends on a stream, opened by its first use.
    Send { stream: String, service: String, method: String, request: Value },
    /// Listens to a stream.
    Listen { stream: String },
    /// Who asks from here on.
    As { user: Option<(String, String)> },
    /// Waits.
    Pause { millis: u64 },
}

impl Step {
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    pub(crate) fn expected(&self) -> &[String] {
        &self.expected
    }

    pub(crate) fn set_expected(&mut self, answer: Vec<String>) {
        self.expected = answer;
    }

    /// Whether it asks the server something.
    pub(crate) fn asks(&self) -> bool {
        matches!(self.action, Action::Unary { .. } | Action::Send { .. })
    }
}

/// Reads a file. Errors name the line.
pub(crate) fn parse(text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |what: &str| format!("{}: {what}: {line}", index + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("case: ") {
            cases.push(Case { name: name.to_owned(), differs: None, steps: Vec::new() });
            continue;
        }
        let case = cases.last_mut().ok_or_else(|| wrong("no case begun"))?;
        if let Some(why) = line.strip_prefix("differs: ") {
            case.differs = Some(why.to_owned());
        } else if let Some(expected) = line.strip_prefix("  ") {
            let step = case.steps.last_mut().ok_or_else(|| wrong("an answer to nothing"))?;
            step.expected.push(expected.to_owned());
        } else {
            let action = action(line).map_err(|what| wrong(&what))?;
            case.steps.push(Step { line: line.to_owned(), action, expected: Vec::new() });
        }
    }
    Ok(cases)
}

fn action(line: &str) -> Result<Action, String> {
    if let Some(stream) = line.strip_prefix('@') {
        return Ok(Action::Listen { stream: stream.to_owned() });
    }
    let (word, rest) = line.split_once(' ').unwrap_or((line, "{}"));
    if word == "as" {
        let user = rest.split_once(' ').map(|(name, word)| (name.to_owned(), word.to_owned()));
        return Ok(Action::As { user });
    }
    if word == "pause" {
        let millis = rest.parse().map_err(|error| format!("{error}"))?;
        return Ok(Action::Pause { millis });
    }
    let (path, stream) = word.split_once('@').map_or((word, None), |(path, to)| (path, Some(to)));
    let (service, method) =
        path.split_once('.').ok_or("neither Service.Method nor a word known")?;
    let (service, method) = (service.to_owned(), method.to_owned());
    let request = serde_json::from_str(rest).map_err(|error| error.to_string())?;
    Ok(match stream {
        None => Action::Unary { service, method, request },
        Some(stream) => Action::Send { stream: stream.to_owned(), service, method, request },
    })
}

/// The comment that a file begins with.
pub(crate) fn head(text: &str) -> String {
    text.lines().take_while(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// The text of a file.
pub(crate) fn print(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        text += &format!("\ncase: {}\n", case.name);
        if let Some(why) = &case.differs {
            text += &format!("differs: {why}\n");
        }
        for step in &case.steps {
            text += &format!("{}\n", step.line);
            for line in &step.expected {
                text += &format!("  {line}\n");
            }
        }
    }
    text
}

/// A file that is read and printed stays as it is.
#[test]
fn printing_keeps_the_text() {
    let text =
        "\ncase: one\ndiffers: because\nKV.Put {\"key\": \"a\"}\n  {}\n@w\nas root pw\npause 5\n";
    assert_eq!(print(&parse(text).unwrap()), text);
}

/// What cannot be read is refused with its line.
#[test]
fn mistakes_name_their_line() {
    assert_eq!(parse("KV.Put {}").err().unwrap(), "1: no case begun: KV.Put {}");
    let error = parse("case: x\nput a b").err().unwrap();
    assert_eq!(error, "2: neither Service.Method nor a word known: put a b");
}
