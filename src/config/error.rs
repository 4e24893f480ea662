//! What is wrong with a configuration, said so that the reader can mend it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::SerializeMap;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file; line and column count from 1, columns in characters.
    File {
        /// The file, as it was named.
        file: Arc<Path>,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// A file as a whole.
    Whole(Arc<Path>),
    /// An environment variable.
    Env(Arc<str>),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => {
                write!(f, "{}:{line}:{column}", file.display())
            }
            Self::Whole(file) => write!(f, "{}", file.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Origin {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match self {
            Self::File { file, line, column } => {
                map.serialize_entry("file", &file.display().to_string())?;
                map.serialize_entry("line", line)?;
                map.serialize_entry("column", column)
            }
            Self::Whole(file) => map.serialize_entry("file", &file.display().to_string()),
            Self::Env(name) => map.serialize_entry("env", &**name),
            Self::Default => Ok(()),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.entries(&mut map)?;
        map.end()
    }
}

/// One thing to mend, or, as a warning, to look at. Never holds a secret's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it was set; [`Origin::Default`] when nobody set it.
    pub origin: Origin,
    /// The key; empty for a file as a whole.
    pub key: String,
    /// What was found, and what is allowed.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A finding that does not stop the agent.
pub type Warning = Finding;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Finding {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.origin.entries(&mut map)?;
        if !self.key.is_empty() {
            map.serialize_entry("key", &self.key)?;
        }
        map.serialize_entry("message", &self.message)?;
        if let Some(hint) = &self.hint {
            map.serialize_entry("hint", hint)?;
        }
        map.end()
    }
}

/// Every error of a configuration, in the order of the files. The operator caused
/// them; nothing was bound or written yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct ConfigErrors {
    /// At least one.
    pub errors: Vec<Finding>,
    /// What else was noticed.
    pub warnings: Vec<Warning>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.errors.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}
