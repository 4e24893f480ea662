//! Where things stand: from a place in the expanded text back to file, line and
//! column, and from a key path to where it was written.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::error::Origin;

/// A line and a column, both counted from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pos {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Pos {
    pub(super) const START: Self = Self { line: 1, column: 1 };

    pub(super) fn advance(&mut self, c: char) {
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
    }
}

/// From `at` in the expanded text on, the text is that of `file` from `from` on.
#[derive(Clone, Debug)]
struct Segment {
    at: Pos,
    file: Arc<Path>,
    from: Pos,
}

/// The text handed to the parser, and where each part of it came from.
#[derive(Clone, Debug)]
pub(super) struct Expanded {
    text: String,
    end: Pos,
    /// Ascending by `at`.
    segments: Vec<Segment>,
}

impl Expanded {
    pub(super) fn new() -> Self {
        Self { text: String::new(), end: Pos::START, segments: Vec::new() }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// A line, counted from 1; empty beyond the end.
    pub(super) fn line(&self, line: usize) -> &str {
        line.checked_sub(1).and_then(|n| self.text.split('\n').nth(n)).unwrap_or_default()
    }

    pub(super) fn push(&mut self, c: char) {
        self.text.push(c);
        self.end.advance(c);
    }

    /// What is pushed next comes from there.
    pub(super) fn mark(&mut self, file: &Arc<Path>, from: Pos) {
        self.segments.push(Segment { at: self.end, file: Arc::clone(file), from });
    }

    pub(super) fn append(&mut self, other: &Self) {
        let lines = self.end.line - 1;
        let shift = |pos: Pos| Pos { line: pos.line + lines, column: pos.column };
        self.segments
            .extend(other.segments.iter().map(|s| Segment { at: shift(s.at), ..s.clone() }));
        self.text.push_str(&other.text);
        self.end = shift(other.end);
        self.push('\n');
    }

    /// Where a place of the expanded text was written.
    pub(super) fn origin(&self, line: usize, column: usize) -> Origin {
        let pos = Pos { line, column };
        let before = self.segments.partition_point(|s| s.at <= pos);
        let Some(segment) = before.checked_sub(1).and_then(|n| self.segments.get(n)) else {
            return Origin::Default;
        };
        let from = if pos.line == segment.at.line {
            Pos {
                line: segment.from.line,
                column: segment.from.column + pos.column - segment.at.column,
            }
        } else {
            Pos { line: segment.from.line + pos.line - segment.at.line, column: pos.column }
        };
        Origin::File { file: Arc::clone(&segment.file), line: from.line, column: from.column }
    }
}

/// A key's place and, behind it, the value's.
#[derive(Clone, Debug)]
struct Place {
    file: Arc<Path>,
    key: Pos,
    value: Pos,
}

/// Key path to place; a key written again replaces its place. List elements are
/// found under `[0]`, `[1]`, … where the list was written as one literal.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    places: BTreeMap<Vec<String>, Place>,
}

impl Index {
    pub(super) fn set_key(&mut self, path: &[String], file: &Arc<Path>, key: Pos) {
        let place = Place { file: Arc::clone(file), key, value: key };
        self.places.insert(path.to_vec(), place);
    }

    /// The value of a key begins; list elements of an earlier value are forgotten.
    pub(super) fn set_value(&mut self, path: &[String], file: &Arc<Path>, value: Pos) {
        self.forget_elements(path);
        let place = self.places.entry(path.to_vec()).or_insert_with(|| Place {
            file: Arc::clone(file),
            key: value,
            value,
        });
        place.value = value;
    }

    /// For a list put together from several parts: which element came from which
    /// is known only after substitution.
    pub(super) fn forget_elements(&mut self, path: &[String]) {
        let below: Vec<Vec<String>> = self
            .places
            .range(path.to_vec()..)
            .take_while(|(other, _)| other.starts_with(path))
            .filter(|(other, _)| other.get(path.len()).is_some_and(|s| s.starts_with('[')))
            .map(|(other, _)| other.clone())
            .collect();
        for path in below {
            self.places.remove(&path);
        }
    }

    pub(super) fn extend(&mut self, other: Self) {
        for (path, place) in other.places {
            if !path.last().is_some_and(|s| s.starts_with('[')) {
                self.forget_elements(&path);
            }
            self.places.insert(path, place);
        }
    }

    /// Where the value of a path was written, or of the nearest path above it.
    pub(super) fn value(&self, path: &[String]) -> Origin {
        self.find(path, |place| place.value)
    }

    /// Where the key was written.
    pub(super) fn key(&self, path: &[String]) -> Origin {
        self.find(path, |place| place.key)
    }

    fn find(&self, path: &[String], pick: impl Fn(&Place) -> Pos) -> Origin {
        (1..=path.len()).rev().find_map(|n| self.places.get(&path[..n])).map_or(
            Origin::Default,
            |place| {
                let pos = pick(place);
                Origin::File { file: Arc::clone(&place.file), line: pos.line, column: pos.column }
            },
        )
    }
}
