//! What a member says of itself beyond being there: its tags, whether it drains, and how
//! its broker fares. Bounded here, so that nobody further on has to.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of all tag names and values together.
pub const MAX_TAG_BYTES: usize = 512;

/// Bytes of a tag's name.
pub const MAX_TAG_NAME: usize = 32;

/// Bytes of the text beside a broker's status, and of the reason for a drain.
pub const MAX_DETAIL: usize = 200;

/// Bytes of a broker's address: a host name, a port, and the brackets of IPv6.
pub const MAX_ADDRESS: usize = 264;

/// Why something is no set of tags; caused by whoever wrote or sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTag {
    /// A name beyond `[a-z0-9_]{1,32}`.
    #[error("a tag's name has 1 to {MAX_TAG_NAME} of a-z, 0-9 and _")]
    Name,
    /// A control character in a value.
    #[error("a tag's value has no control characters")]
    Value,
    /// More than [`MAX_TAG_BYTES`].
    #[error("tags have at most {MAX_TAG_BYTES} bytes in all")]
    Size,
}

/// `agent.tags`: names of `[a-z0-9_]{1,32}`, values without control characters,
/// [`MAX_TAG_BYTES`] in all. Sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// Adds a tag, or replaces the one of that name.
    ///
    /// # Errors
    /// [`BadTag`] where a bound would be broken; the tags are then as before.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<(), BadTag> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || name.len() > MAX_TAG_NAME || !name.bytes().all(plain) {
            return Err(BadTag::Name);
        }
        if value.contains(char::is_control) {
            return Err(BadTag::Value);
        }
        let others = self.0.iter().filter(|(held, _)| *held != name);
        let held: usize = others.map(|(name, value)| name.len() + value.len()).sum();
        if held + name.len() + value.len() > MAX_TAG_BYTES {
            return Err(BadTag::Size);
        }
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// The value of one tag.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Name and value of each, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What the probe of a broker last found.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum BrokerStatus {
    /// Not probed, or not often enough yet.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

impl BrokerStatus {
    /// As the API spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// The broker beside a member, as its own agent sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Broker {
    /// `host:port` that clients and other brokers connect to, an IPv6 host in brackets.
    pub address: String,
    /// What the probe found.
    pub status: BrokerStatus,
    /// Why, in words of at most [`MAX_DETAIL`] bytes; may be empty.
    pub detail: String,
}

/// What a member says of itself, in one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attributes {
    /// `agent.tags`.
    pub tags: Tags,
    /// Why it serves nobody new (`muster drain`), at most [`MAX_DETAIL`] bytes, possibly
    /// empty; `None`: it does not drain.
    pub draining: Option<String>,
    /// `agent.broker`; `None` where its kind is `none`.
    pub broker: Option<Broker>,
}

impl Attributes {
    /// Whether clients may be sent to a member of these attributes while it is up: it
    /// does not drain, and its broker is not down.
    #[must_use]
    pub fn serves(&self) -> bool {
        let down = self.broker.as_ref().is_some_and(|broker| broker.status == BrokerStatus::Down);
        self.draining.is_none() && !down
    }

    /// Whether every text keeps its bound and none holds a control character.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let fits = |text: &str, most: usize| text.len() <= most && !text.contains(char::is_control);
        let broker = self.broker.as_ref();
        self.draining.as_deref().is_none_or(|reason| fits(reason, MAX_DETAIL))
            && broker.is_none_or(|b| fits(&b.address, MAX_ADDRESS) && fits(&b.detail, MAX_DETAIL))
    }
}

impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (name, value)) in self.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            write!(f, "{comma}{name}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
