//! Reads EDN, the notation of Clojure's data, with the line on which each value begins.
//!
//! Whatever the text is, the answer is values or a refusal with a line and a reason: nesting is bounded, numbers may
//! have any length, and nothing is executed. Tags are read and dropped: `#inst "…"` is its string.

use std::rc::Rc;

use super::Refusal;

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 64;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// `nil`
    Nil,
    /// A whole number, as it would be printed; of any length.
    Int(Rc<str>),
    /// `"text"`
    Text(Rc<str>),
    /// `:name`, without its colon.
    Keyword(Rc<str>),
    /// Anything else that stands for itself: `true`, `1.5`, `\a`, `name`.
    Other(Rc<str>),
    /// `[…]` or `(…)`
    List(Rc<[Value]>),
    /// `#{…}`
    Set(Rc<[Value]>),
    /// `{…}`, as pairs.
    Map(Rc<[(Value, Value)]>),
}

impl Value {
    /// What belongs to a keyword, in a map.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let Value::Map(pairs) = self else { return None };
        let mut named = pairs.iter().filter(|(key, _)| key.is_keyword(name));
        named.next().map(|(_, value)| value)
    }

    /// Whether it is `:name`.
    pub fn is_keyword(&self, name: &str) -> bool {
        matches!(self, Value::Keyword(other) if **other == *name)
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list =
            |values: &[Value]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        match self {
            Value::Nil => f.write_str("nil"),
            Value::Int(text) | Value::Other(text) => f.write_str(text),
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Keyword(name) => write!(f, ":{name}"),
            Value::List(values) => write!(f, "[{}]", list(values)),
            Value::Set(values) => write!(f, "#{{{}}}", list(values)),
            Value::Map(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| format!("{key} {value}"));
                write!(f, "{{{}}}", pairs.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// Reads values from text, one after another.
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `text`, which begins on `line`.
    pub fn new(text: &'a str, line: usize) -> Self {
        Self { text, at: 0, line }
    }

    /// The next value with the line where it begins; `None` at the end.
    pub fn next(&mut self) -> Result<Option<(usize, Value)>, Refusal> {
        self.value(0)
    }

    /// Goes into the list that comes next, if one does: its values are then read by [`Reader::next_within`].
    pub fn enter_list(&mut self) -> Result<Option<Opening>, Refusal> {
        self.skip_blank(0)?;
        let (opening, closing) = match self.peek() {
            Some(b'[') => ('[', ']'),
            Some(b'(') => ('(', ')'),
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(Opening { line: self.line, opening, closing }))
    }

    /// The next value of a list that was entered; `None` at its end.
    pub fn next_within(&mut self, list: &Opening) -> Result<Option<(usize, Value)>, Refusal> {
        self.within(list, 1)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn refuse<T>(&self, reason: impl Into<String>) -> Result<T, Refusal> {
        Err(Refusal { line: self.line, reason: reason.into() })
    }

    /// Skips blanks, commas, comments and dropped values.
    fn skip_blank(&mut self, depth: usize) -> Result<(), Refusal> {
        loop {
            match self.peek() {
                Some(b'\n') => {
                    self.line += 1;
                    self.at += 1;
                }
                Some(b' ' | b'\t' | b'\r' | b',' | 0x0c) => self.at += 1,
                Some(b';') => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find('\n').unwrap_or(rest.len());
                }
                Some(b'#') if self.text[self.at..].starts_with("#_") => {
                    self.at += 2;
                    if self.value(depth + 1)?.is_none() {
                        return self.refuse("`#_` at the end drops nothing");
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Option<(usize, Value)>, Refusal> {
        if depth > DEPTH_MAX {
            return self.refuse(format!("nested deeper than {DEPTH_MAX}"));
        }
        self.skip_blank(depth)?;
        let line = self.line;
        let Some(first) = self.peek() else { return Ok(None) };
        let value = match first {
            b'[' => Value::List(self.values('[', ']', depth)?.into()),
            b'(' => Value::List(self.values('(', ')', depth)?.into()),
            b'{' => self.map(depth)?,
            b'#' if self.text[self.at..].starts_with("#{") => {
                self.at += 1;
                Value::Set(self.values('{', '}', depth)?.into())
            }
            b'#' => {
                self.at += 1;
                self.tagged(depth)?
            }
            b'"' => self.text_value()?,
            b'\\' => self.character(),
            b']' | b')' | b'}' => {
                return self.refuse(format!("`{}` closes nothing", char::from(first)));
            }
            _ => self.atom()?,
        };
        Ok(Some((line, value)))
    }

    fn values(
        &mut self,
        opening: char,
        closing: char,
        depth: usize,
    ) -> Result<Vec<Value>, Refusal> {
        let list = Opening { line: self.line, opening, closing };
        self.at += 1;
        let mut values = Vec::new();
        while let Some((_, value)) = self.within(&list, depth + 1)? {
            values.push(value);
        }
        Ok(values)
    }

    fn within(&mut self, list: &Opening, depth: usize) -> Result<Option<(usize, Value)>, Refusal> {
        self.skip_blank(depth)?;
        let Opening { line, opening, closing } = list;
        match self.peek() {
            Some(byte) if char::from(byte) == *closing => {
                self.at += 1;
                Ok(None)
            }
            Some(byte @ (b']' | b')' | b'}')) => self.refuse(format!(
                "`{}` stands where the `{opening}` of line {line} must be closed",
                char::from(byte)
            )),
            Some(_) => self.value(depth),
            None => self.refuse(format!("the `{opening}` of line {line} is never closed")),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Refusal> {
        let line = self.line;
        let mut values = self.values('{', '}', depth)?.into_iter();
        let mut pairs = Vec::with_capacity(values.len() / 2);
        while let Some(key) = values.next() {
            let Some(value) = values.next() else {
                return Err(Refusal { line, reason: format!("`{key}` has no value in its map") });
            };
            pairs.push((key, value));
        }
        Ok(Value::Map(pairs.into()))
    }

    /// `#tag value`, or a map with a namespace: `#:name{…}`.
    fn tagged(&mut self, depth: usize) -> Result<Value, Refusal> {
        let tag = self.token();
        if !tag.starts_with(|c: char| c.is_alphabetic() || c == ':') {
            return self.refuse(format!("`#{tag}` is not a tag"));
        }
        match self.value(depth + 1)? {
            Some((_, value)) => Ok(value),
            None => self.refuse(format!("`#{tag}` stands before nothing")),
        }
    }

    fn text_value(&mut self) -> Result<Value, Refusal> {
        let line = self.line;
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let mut end = start;
        let mut is_plain = true;
        loop {
            match bytes.get(end) {
                None => {
                    return Err(Refusal { line, reason: "the text is never closed".to_owned() });
                }
                Some(b'"') => break,
                Some(b'\\') => {
                    is_plain = false;
                    end += 1;
                }
                Some(b'\n') => self.line += 1,
                Some(_) => {}
            }
            end += 1;
        }
        self.at = end + 1;
        let raw = &self.text[start..end];
        if is_plain {
            return Ok(Value::Text(raw.into()));
        }
        match unescape(raw) {
            Ok(text) => Ok(Value::Text(text.into())),
            Err(reason) => Err(Refusal { line, reason }),
        }
    }

    fn character(&mut self) -> Value {
        let start = self.at;
        self.at += 1;
        // The character itself may be one that ends a token.
        self.at += self.text[self.at..].chars().next().map_or(0, char::len_utf8);
        self.token();
        Value::Other(self.text[start..self.at].into())
    }

    /// What reaches up to the next blank or bracket.
    fn token(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let is_end = |c: char| {
            c.is_whitespace() || matches!(c, ',' | ';' | '"' | '[' | ']' | '(' | ')' | '{' | '}')
        };
        let length = rest.find(is_end).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn atom(&mut self) -> Result<Value, Refusal> {
        let token = self.token();
        let bytes = token.as_bytes();
        let is_number = |digits: &[u8]| digits.first().is_some_and(u8::is_ascii_digit);
        if let Some(name) = token.strip_prefix(':') {
            if name.is_empty() || name.contains(char::is_control) {
                return self.refuse("`:` without a name");
            }
            return Ok(Value::Keyword(name.into()));
        }
        if is_number(bytes) || matches!(bytes, [b'-' | b'+', rest @ ..] if is_number(rest)) {
            return number(token)
                .map_or_else(|| self.refuse(format!("`{}` is not a number", clip(token))), Ok);
        }
        let is_name = |c: char| c.is_alphanumeric() || "*+!-_?$%&=<>./#':".contains(c);
        match token {
            "nil" => Ok(Value::Nil),
            name if !name.is_empty() && name.chars().all(is_name) => Ok(Value::Other(name.into())),
            "" => self.refuse("a character that begins nothing"),
            other => self.refuse(format!("`{}` is not EDN", clip(other))),
        }
    }
}

/// A list that was entered.
pub struct Opening {
    line: usize,
    opening: char,
    closing: char,
}

/// The beginning of a token, for a message.
pub fn clip(token: &str) -> String {
    let short: String = token.chars().take(40).flat_map(char::escape_default).collect();
    if token.chars().nth(40).is_some() { short + "…" } else { short }
}

fn number(token: &str) -> Option<Value> {
    let text = token.strip_prefix('+').unwrap_or(token);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let whole = digits.strip_suffix('N').unwrap_or(digits);
    if whole.bytes().all(|byte| byte.is_ascii_digit()) {
        let short = whole.trim_start_matches('0');
        let short = if short.is_empty() { "0" } else { short };
        let sign = if short == "0" { "" } else { sign };
        return Some(Value::Int(format!("{sign}{short}").into()));
    }
    let plain = digits.strip_suffix('M').unwrap_or(digits);
    let is_ratio = plain.split_once('/').is_some_and(|(above, below)| {
        [above, below]
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let is_decimal = plain.parse::<f64>().is_ok();
    (is_ratio || is_decimal).then(|| Value::Other(text.into()))
}

fn unescape(raw: &str) -> Result<String, String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw.chars();
    while let Some(char) = rest.next() {
        if char != '\\' {
            text.push(char);
            continue;
        }
        text.push(match rest.next() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some(same @ ('"' | '\\' | '/' | '\'')) => same,
            Some('u') => {
                let digits: String = rest.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                // Half of a pair stands for nothing by itself.
                code.map(|code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
                    .ok_or_else(|| format!("`\\u{}` is not a character", clip(&digits)))?
            }
            other => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(format!("`\\{}` means nothing in a text", clip(&other)));
            }
        });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{Reader, Value};

    fn read(text: &str) -> Result<Vec<(usize, Value)>, String> {
        let mut reader = Reader::new(text, 1);
        let mut values = Vec::new();
        loop {
            match reader.next() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => return Ok(values),
                Err(refusal) => return Err(format!("{}: {}", refusal.line, refusal.reason)),
            }
        }
    }

    /// Values of every kind, printed back in one spelling, each with its line.
    #[test]
    fn values() {
        let check = |text: &str, expected: &str| {
            let values = read(text).expect(text);
            let shown: Vec<String> =
                values.iter().map(|(line, value)| format!("{line} {value}")).collect();
            assert_eq!(shown.join("; "), expected, "{text}");
        };
        check(
            "nil true :a/b \"x\\ny\" \\a \\space",
            "1 nil; 1 true; 1 :a/b; 1 \"x\\ny\"; 1 \\a; 1 \\space",
        );
        check("+007 -0 3N 1.5e3 2/3 4.0M", "1 7; 1 0; 1 3; 1 1.5e3; 1 2/3; 1 4.0M");
        check("123456789012345678901234567890", "1 123456789012345678901234567890");
        check("; why\n{:a [1, 2]\n :b #{3}}\n(x)", "2 {:a [1 2], :b #{3}}; 4 [x]");
        check(
            "#_{:a 1} #inst \"2015\" #jepsen.Op{:f :read} #_ #_ 1 2 3",
            "1 \"2015\"; 1 {:f :read}; 1 3",
        );
        check("\"two\nlines\" 5", "1 \"two\\nlines\"; 2 5");
        check(" ,\n ", "");
    }

    /// What is not EDN is refused with its line and a reason.
    #[test]
    fn refusals() {
        let check = |text: &str, expected: &str| {
            assert_eq!(read(text).expect_err(text), expected, "{text}");
        };
        check("[1\n{:a 1}\n", "3: the `[` of line 1 is never closed");
        check("[1\n)", "2: `)` stands where the `[` of line 1 must be closed");
        check("}", "1: `}` closes nothing");
        check("{:a}", "1: `:a` has no value in its map");
        check("\n\"never", "2: the text is never closed");
        check("\"\\q\"", "1: `\\q` means nothing in a text");
        check("\"\\ud\"", "1: `\\ud` is not a character");
        check("12ab", "1: `12ab` is not a number");
        check("@home", "1: `@home` is not EDN");
        check("\u{0}\u{1}", "1: `\\u{0}\\u{1}` is not EDN");
        check("#_", "1: `#_` at the end drops nothing");
        check("#", "1: `#` is not a tag");
        check(": a", "1: `:` without a name");
        check(&"[".repeat(100_000), "1: nested deeper than 64");
        check(&"#_".repeat(100_000), "1: nested deeper than 64");
        check(&"#a ".repeat(100_000), "1: nested deeper than 64");
    }
}
