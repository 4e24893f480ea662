//! Reading server-sent events ("Server-sent events" in the HTML standard, 9.2).

use std::collections::VecDeque;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// Longest line read, bytes; an agent's are a tenth of it.
const MAX_LINE: usize = 64 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SseEvent {
    /// Its name; empty when it has none.
    pub(super) name: String,
    /// Its data.
    pub(super) data: String,
}

/// The events of one answer.
#[derive(Debug)]
pub(super) struct EventStream {
    body: Incoming,
    parser: Parser,
}

impl EventStream {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, parser: Parser::default() }
    }

    /// The next event; `None` when the agent ended the stream, or it broke.
    pub(super) async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(event) = self.parser.events.pop_front() {
                return Some(event);
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.parser.feed(data)?;
            }
        }
    }
}

/// Bytes in, events out.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    event: SseEvent,
    events: VecDeque<SseEvent>,
}

impl Parser {
    /// `None` when a line is too long to be an agent's.
    fn feed(&mut self, bytes: &[u8]) -> Option<()> {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                b'\r' => {}
                _ if self.line.len() == MAX_LINE => return None,
                _ => self.line.push(byte),
            }
        }
        Some(())
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            // Without data it only sets the id.
            if !event.data.is_empty() {
                self.events.push_back(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // `id` is in the data too; comments and `retry` are not for us.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_any_split_of_the_bytes() {
        let text = "retry: 2000\nid: 7\n\n: still here\n\nid: 8\r\nevent: joined\r\n\
                    data: {\"a\":1}\r\n\r\ndata:x\ndata: y\n\nevent: none\n\n";
        let named = SseEvent { name: "joined".into(), data: "{\"a\":1}".into() };
        let plain = SseEvent { name: String::new(), data: "x\ny".into() };
        for size in 1..text.len() {
            let mut parser = Parser::default();
            for chunk in text.as_bytes().chunks(size) {
                parser.feed(chunk).unwrap();
            }
            assert_eq!(parser.events, [named.clone(), plain.clone()]);
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut parser = Parser::default();
        assert!(parser.feed(&vec![b'x'; MAX_LINE]).is_some());
        assert!(parser.feed(b"x").is_none());
    }
}
