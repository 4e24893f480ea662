//! One watch: a body of JSON lines.

use http_body_util::BodyExt;
use kube::client::Body;
use tokio::time::Instant;

use super::objects::Event;

/// Longest event read: a slice holds at most 1,000 endpoints of a few hundred bytes.
const MAX_EVENT: usize = 4 << 20;

/// What a watch said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// An object was added, modified or deleted.
    Object(Option<String>),
    /// Nothing happened up to this version.
    Bookmark(Option<String>),
    /// The version that the watch began with is no longer kept: list again.
    Gone,
    /// The server ended the watch as it said it would.
    End,
    /// The watch broke, or said what makes no sense.
    Broken(String),
}

/// An open watch. [`Watch::next`] is cancel-safe: what was read stays in here.
pub(super) struct Watch {
    body: Body,
    read: Vec<u8>,
    pub(super) opened: Instant,
    /// The server ends it before; past this the connection is dead.
    pub(super) deadline: Instant,
}

impl Watch {
    pub(super) fn new(body: Body, deadline: Instant) -> Self {
        Self { body, read: Vec::new(), opened: Instant::now(), deadline }
    }

    pub(super) async fn next(&mut self) -> News {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return news(&line);
            }
            if self.read.len() > MAX_EVENT {
                return News::Broken(format!("an event of more than {MAX_EVENT} bytes"));
            }
            match tokio::time::timeout_at(self.deadline, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                Ok(Some(Err(error))) => return News::Broken(error.to_string()),
                Ok(None) if self.read.is_empty() => return News::End,
                Ok(None) => return News::Broken("it ended within an event".into()),
                Err(_) => return News::Broken("it went silent".into()),
            }
        }
    }
}

fn news(line: &[u8]) -> News {
    let event: Event = match serde_json::from_slice(line) {
        Ok(event) => event,
        Err(error) => return News::Broken(format!("an event that makes no sense: {error}")),
    };
    let version = event.object.metadata.resource_version;
    match event.kind.as_str() {
        "ADDED" | "MODIFIED" | "DELETED" => News::Object(version),
        "BOOKMARK" => News::Bookmark(version),
        // An expired version: HTTP 200 and then this.
        "ERROR" if event.object.code == Some(410) => News::Gone,
        "ERROR" => News::Broken(event.object.message.unwrap_or_default()),
        other => News::Broken(format!("an event of type {other:?}")),
    }
}

#[cfg(test)]
pub(super) fn parse(line: &str) -> News {
    news(line.as_bytes())
}
