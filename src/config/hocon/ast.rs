//! A text as it is written, before layers are merged and substitutions resolved.

/// Where something was written: which file, and line and column, both counted from 1,
/// columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::config) struct Place {
    /// The position of the file in [`Sources::files`](super::Sources::files).
    pub(in crate::config) file: u32,
    pub(in crate::config) line: u32,
    pub(in crate::config) column: u32,
}

/// `key = value`, `a.b { … }` or `key += value`.
#[derive(Debug)]
pub(super) struct Field {
    /// The key's segments: at least one.
    pub(super) path: Vec<String>,
    pub(super) key: Place,
    pub(super) append: bool,
    pub(super) value: Concat,
}

/// What stands behind a key or in a list: parts side by side, at least one.
#[derive(Debug)]
pub(super) struct Concat {
    pub(super) place: Place,
    pub(super) parts: Vec<Part>,
}

#[derive(Debug)]
pub(super) enum Part {
    Text(Text),
    Null,
    Ref(Ref),
    Object(Vec<Field>),
    List(Vec<Concat>),
}

#[derive(Debug)]
pub(super) struct Text {
    pub(super) text: String,
    /// Tells texts apart that are equal: a secret that a substitution copies is known by it.
    pub(super) id: u32,
    /// A word, and not quoted.
    pub(super) bare: bool,
    /// The blanks before it on its line, where a word stands before them.
    pub(super) gap: String,
}

/// `${path}`.
#[derive(Debug)]
pub(super) struct Ref {
    pub(super) path: Vec<String>,
    /// In an included file the path is first taken from where the `include` stands.
    pub(super) within: Vec<String>,
    pub(super) optional: bool,
    pub(super) place: Place,
    /// The value is a secret, and so may be what looks like a path.
    pub(super) secret: bool,
}
