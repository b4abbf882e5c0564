//! HTTP/1.1 by hand: requests as bytes, answers whole or line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Long enough for a loaded machine; an answer that comes ends the wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer that is being read.
pub(crate) struct Answer {
    /// Three digits.
    pub(crate) code: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
    /// What was received of the body and is no whole line yet.
    pending: Vec<u8>,
    /// How many bytes the body has, where that was told.
    left: Option<usize>,
}

/// Sends a request's head and opens its body.
pub(crate) fn open(port: u16, method: &str, path: &str, headers: &[(&str, &str)]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all((head + "\r\n").as_bytes()).unwrap();
    stream
}

/// A request with a body of known length.
pub(crate) fn ask(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let length = body.len().to_string();
    let headers = [headers, &[("Content-Length", &length[..])]].concat();
    let mut stream = open(port, method, path, &headers);
    // A server that has read enough may have hung up already.
    let _ = stream.write_all(body.as_bytes());
    Answer::read(stream)
}

/// One piece of a body of unknown length; an empty one is the last.
pub(crate) fn send(stream: &mut TcpStream, piece: &str) {
    stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).unwrap();
}

impl Answer {
    /// Reads an answer up to its body.
    pub(crate) fn read(stream: TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let first = line();
        let code = first.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("{first}"));
        let code = code.split(' ').next().unwrap().to_owned();
        let mut headers = Vec::new();
        loop {
            let line = line();
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        let mut answer = Self { code, headers, reader, pending: Vec::new(), left: None };
        answer.left = answer.header("content-length").map(|length| length.parse().unwrap());
        answer
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }

    /// The next line of the body; the last may lack its end. `None` at the end of the body.
    pub(crate) fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            let piece = self.piece();
            if piece.is_empty() {
                let rest = std::mem::take(&mut self.pending);
                return (!rest.is_empty()).then(|| String::from_utf8(rest).unwrap());
            }
            self.pending.extend(piece);
        }
    }

    /// The body's next piece, empty at its end.
    fn piece(&mut self) -> Vec<u8> {
        let mut piece = Vec::new();
        if let Some(left) = self.left.take() {
            self.left = Some(0);
            piece.resize(left, 0);
            self.reader.read_exact(&mut piece).unwrap();
            return piece;
        }
        let mut size = String::new();
        self.reader.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap_or_else(|_| panic!("{size}"));
        piece.resize(size + 2, 0);
        self.reader.read_exact(&mut piece).unwrap();
        piece.truncate(size);
        piece
    }
}
