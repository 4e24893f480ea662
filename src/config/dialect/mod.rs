//! EMQX's dialect, turned into the HOCON that the parser takes.
//!
//! One pass over the text of a file, with a stack of its own (no recursion but for
//! `include`, whose depth is bounded). It quotes unquoted values with an `@`, undoes
//! `"""~` indentation, keeps backslashes that escape nothing, writes `k8s` in lower
//! case, splices included files in, and notes on the way where every key and value
//! stands. It accepts anything: what is malformed is left for the parser to refuse,
//! except for what this pass can name better.

mod include;
mod strings;

use std::path::Path;
use std::sync::Arc;

use super::error::{Finding, Origin, Warning};
use super::growth::References;
use super::loader::Files;
use super::source::{Expanded, Index, Pos};
use strings::ends_unquoted;

/// Punctuation of East Asian keyboards, easily taken for ours.
pub(super) const FULL_WIDTH: &str = "｛｝［］：＝，“”＂＃＠";

/// Nesting of blocks, lists and dotted keys together. Configuration uses eight; the
/// parser and the trees behind it recurse, and this is far from their stack's end.
const MAX_DEPTH: usize = 64;
/// Substitutions in one layer: each may refer to another, and the parser follows them
/// by recursion.
const MAX_SUBSTITUTIONS: usize = 256;

/// One layer, expanded.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) expanded: Expanded,
    pub(super) index: Index,
    pub(super) references: References,
    pub(super) errors: Vec<Finding>,
    pub(super) warnings: Vec<Warning>,
}

/// Expands a text that was read from `file`.
pub(super) fn expand(file: &Arc<Path>, text: &str, files: &dyn Files) -> Layer {
    let mut expander = Expander {
        files,
        expanded: Expanded::new(),
        index: Index::default(),
        references: References::default(),
        errors: Vec::new(),
        warnings: Vec::new(),
        stack: vec![Arc::clone(file)],
        included: 0,
        substitutions: 0,
    };
    let mut path = Vec::new();
    Scanner::new(&mut expander, file, text, &mut path, 0).run();
    let Expander { expanded, index, references, errors, warnings, .. } = expander;
    Layer { expanded, index, references, errors, warnings }
}

struct Expander<'a> {
    files: &'a dyn Files,
    expanded: Expanded,
    index: Index,
    references: References,
    errors: Vec<Finding>,
    warnings: Vec<Warning>,
    /// The files being read, outermost first.
    stack: Vec<Arc<Path>>,
    included: usize,
    substitutions: usize,
}

enum Frame {
    Object {
        open: Pos,
        base: usize,
        /// The braces around a whole file, which are taken away so that it can be
        /// spliced in.
        root: bool,
    },
    List {
        open: Pos,
        base: usize,
        next: usize,
        indexed: bool,
    },
}

/// What the text is expected to go on with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Key,
    Value,
    /// More of the value, or the end of the field.
    Rest,
    /// Nothing but comments: the file's braces are closed.
    End,
}

/// The scan must not go on: the finding says why.
struct Stop;

struct Scanner<'s, 'a> {
    to: &'s mut Expander<'a>,
    file: &'s Arc<Path>,
    chars: Vec<char>,
    at: usize,
    pos: Pos,
    path: &'s mut Vec<String>,
    /// Nesting and path around this file.
    depth: usize,
    top: usize,
    frames: Vec<Frame>,
    expect: Expect,
    /// Parts of the value so far; a list is indexed only as the sole part.
    parts: usize,
    appending: bool,
}

impl<'s, 'a> Scanner<'s, 'a> {
    fn new(
        to: &'s mut Expander<'a>,
        file: &'s Arc<Path>,
        text: &str,
        path: &'s mut Vec<String>,
        depth: usize,
    ) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let top = path.len();
        to.expanded.mark(file, Pos::START);
        Self {
            to,
            file,
            chars: text.chars().collect(),
            at: 0,
            pos: Pos::START,
            path,
            depth,
            top,
            frames: Vec::new(),
            expect: Expect::Key,
            parts: 0,
            appending: false,
        }
    }

    fn run(mut self) {
        if self.scan().is_ok()
            && let Some(Frame::Object { open, .. } | Frame::List { open, .. }) = self.frames.last()
        {
            let open = *open;
            let base = self.base();
            self.path.truncate(base);
            self.error(open, "this bracket is never closed", None);
        }
        self.path.truncate(self.top);
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(n, c)| self.peek(n) == Some(c))
    }

    /// Passes one character by without keeping it.
    fn skip(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        self.pos.advance(c);
        Some(c)
    }

    fn skip_n(&mut self, n: usize) {
        for _ in 0..n {
            self.skip();
        }
    }

    /// Passes one character on as it is.
    fn copy(&mut self) {
        if let Some(c) = self.skip() {
            self.to.expanded.push(c);
        }
    }

    fn copy_n(&mut self, n: usize) {
        for _ in 0..n {
            self.copy();
        }
    }

    /// After something was put into the text that is not in the file.
    fn mark(&mut self) {
        self.to.expanded.mark(self.file, self.pos);
    }

    fn origin(&self, pos: Pos) -> Origin {
        Origin::File { file: Arc::clone(self.file), line: pos.line, column: pos.column }
    }

    fn error(&mut self, pos: Pos, message: impl Into<String>, hint: Option<&str>) -> Stop {
        let origin = self.origin(pos);
        self.to.errors.push(Finding {
            origin,
            key: self.path.join("."),
            message: message.into(),
            hint: hint.map(str::to_owned),
        });
        Stop
    }

    fn base(&self) -> usize {
        match self.frames.last() {
            Some(Frame::Object { base, .. } | Frame::List { base, .. }) => *base,
            None => self.top,
        }
    }

    fn in_list(&self) -> bool {
        matches!(self.frames.last(), Some(Frame::List { .. }))
    }

    fn scan(&mut self) -> Result<(), Stop> {
        while let Some(c) = self.peek(0) {
            if c == '#' || self.starts_with("//") {
                while self.peek(0).is_some_and(|c| c != '\n') {
                    self.copy();
                }
            } else if c == '\n' {
                self.copy();
                if self.expect == Expect::Rest {
                    self.end_value();
                }
            } else if c.is_whitespace() {
                self.copy();
            } else {
                match self.expect {
                    Expect::Key => self.key_position(c)?,
                    Expect::Value | Expect::Rest => self.value_position(c)?,
                    Expect::End => {
                        return Err(self.error(
                            self.pos,
                            "found text behind the closing brace of the file",
                            None,
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn end_value(&mut self) {
        if let Some(Frame::List { next, .. }) = self.frames.last_mut() {
            if self.parts > 0 {
                *next += 1;
            }
            self.expect = Expect::Value;
        } else {
            self.expect = Expect::Key;
        }
        self.parts = 0;
        self.appending = false;
        let base = self.base();
        self.path.truncate(base);
    }

    fn open(&mut self, frame: Frame) -> Result<(), Stop> {
        self.frames.push(frame);
        self.check_depth()
    }

    fn check_depth(&mut self) -> Result<(), Stop> {
        let lists = self.frames.len();
        if self.depth + lists.max(self.path.len()) > MAX_DEPTH {
            self.path.truncate(4);
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(self.error(self.pos, message, None));
        }
        Ok(())
    }

    fn close(&mut self, c: char) -> Result<(), Stop> {
        match (self.frames.pop(), c) {
            (Some(Frame::Object { root: true, .. }), '}') => {
                self.skip();
                self.to.expanded.push(' ');
                self.expect = Expect::End;
                return Ok(());
            }
            (Some(Frame::Object { base, .. }), '}') | (Some(Frame::List { base, .. }), ']') => {
                self.path.truncate(base);
            }
            (Some(Frame::Object { open, .. } | Frame::List { open, .. }), _) => {
                let message = format!(
                    "found `{c}`, which does not close the bracket of line {}, column {}",
                    open.line, open.column
                );
                return Err(self.error(self.pos, message, None));
            }
            (None, _) => {
                let message = format!("found `{c}`, which closes nothing");
                return Err(self.error(self.pos, message, None));
            }
        }
        self.copy();
        self.expect = Expect::Rest;
        self.parts = 1;
        Ok(())
    }

    fn key_position(&mut self, c: char) -> Result<(), Stop> {
        match c {
            '}' | ']' => self.close(c),
            ',' => {
                self.copy();
                Ok(())
            }
            '{' if self.frames.is_empty() => {
                let frame = Frame::Object { open: self.pos, base: self.top, root: true };
                self.skip();
                self.to.expanded.push(' ');
                self.open(frame)
            }
            '[' if self.frames.is_empty() => {
                Err(self.error(self.pos, "found a list, allowed: keys with their values", None))
            }
            _ if self.is_include() => self.include(),
            _ => self.key(),
        }
    }

    /// `a.b."c.d"`, up to the separator.
    fn key(&mut self) -> Result<(), Stop> {
        let start = self.pos;
        let base = self.base();
        self.path.truncate(base);
        let mut segment = String::new();
        let mut written = String::new();
        while let Some(c) = self.peek(0) {
            match c {
                '=' | ':' | '{' | '}' | '[' | ']' | ',' | '\n' | '#' => break,
                '+' if self.peek(1) == Some('=') => break,
                '"' => {
                    self.skip();
                    written.push('"');
                    while let Some(c) = self.peek(0).filter(|c| *c != '"' && *c != '\n') {
                        self.skip();
                        written.push(c);
                        if c == '\\'
                            && let Some(escaped) = self.peek(0).filter(|c| *c != '\n')
                        {
                            self.skip();
                            written.push(escaped);
                            segment.push(escaped);
                        } else if c != '\\' {
                            segment.push(c);
                        }
                    }
                    if self.peek(0) == Some('"') {
                        self.skip();
                        written.push('"');
                    }
                }
                '.' => {
                    self.skip();
                    self.path.push(std::mem::take(&mut segment).trim().to_owned());
                    self.normalize(&mut written);
                    written.push('.');
                }
                c => {
                    self.skip();
                    segment.push(c);
                    written.push(c);
                }
            }
        }
        self.path.push(segment.trim().to_owned());
        self.normalize(&mut written);
        written.chars().for_each(|c| self.to.expanded.push(c));
        self.check_depth()?;
        for n in base + 1..self.path.len() {
            self.to.index.set_key(&self.path[..n], self.file, start);
        }
        self.to.index.set_key(self.path, self.file, start);
        self.to.references.field();
        self.parts = 0;
        if let Some(c) = written.chars().find(|c| FULL_WIDTH.contains(*c)) {
            self.path.truncate(base);
            let message = format!("found the full-width `{c}` in a key");
            return Err(self.error(start, message, Some("write the ASCII character")));
        }
        match self.peek(0) {
            Some('=' | ':') => {
                self.copy();
                self.expect = Expect::Value;
            }
            Some('+') => {
                self.copy_n(2);
                self.expect = Expect::Value;
                self.appending = true;
            }
            Some('{') => self.expect = Expect::Value,
            _ => {
                // The key may hold what was meant as the value, a cookie perhaps.
                self.path.truncate(base);
                let message = "found a key without a value";
                return Err(self.error(start, message, Some("write key = value, or key { … }")));
            }
        }
        Ok(())
    }

    /// `cluster.K8s`, as the last segment of `written`, becomes `cluster.k8s`: two
    /// layers may spell the block differently and are still to be merged.
    fn normalize(&mut self, written: &mut String) {
        let [root, block] = self.path.as_mut_slice() else { return };
        if root == "cluster" && block.eq_ignore_ascii_case("k8s") {
            *block = "k8s".to_owned();
            if let Some(at) = written.to_ascii_lowercase().rfind("k8s") {
                written.replace_range(at..at + 3, "k8s");
            }
        }
    }

    fn value_position(&mut self, c: char) -> Result<(), Stop> {
        match c {
            '}' | ']' => {
                self.close_field();
                self.close(c)
            }
            ',' => {
                self.copy();
                self.end_value();
                Ok(())
            }
            _ => {
                self.part_begins();
                match c {
                    '{' => {
                        let frame =
                            Frame::Object { open: self.pos, base: self.path.len(), root: false };
                        self.copy();
                        self.expect = Expect::Key;
                        self.open(frame)
                    }
                    '[' => {
                        let indexed = self.parts == 1 && !self.appending;
                        if !indexed {
                            self.to.index.forget_elements(self.path);
                        }
                        let base = self.path.len();
                        let frame = Frame::List { open: self.pos, base, next: 0, indexed };
                        self.copy();
                        self.expect = Expect::Value;
                        self.parts = 0;
                        self.appending = false;
                        self.open(frame)
                    }
                    _ => {
                        self.expect = Expect::Rest;
                        self.scalar(c)
                    }
                }
            }
        }
    }

    /// The end of a block ends its last field too.
    fn close_field(&mut self) {
        let base = self.base();
        self.path.truncate(base);
        self.parts = 0;
        self.appending = false;
    }

    fn part_begins(&mut self) {
        if self.parts == 0 {
            let element = match self.frames.last() {
                Some(Frame::List { next, indexed, .. }) => Some((*next, *indexed)),
                _ => None,
            };
            let indexed = element.is_none_or(|(_, indexed)| indexed);
            if let Some((next, _)) = element {
                self.path.push(format!("[{next}]"));
            }
            if indexed && !self.appending {
                self.to.index.set_value(self.path, self.file, self.pos);
            }
        } else if !self.in_list() {
            self.to.index.forget_elements(self.path);
        }
        self.parts += 1;
    }

    fn scalar(&mut self, c: char) -> Result<(), Stop> {
        if self.starts_with("\"\"\"") {
            return self.triple_quoted();
        }
        match c {
            '"' => self.quoted(),
            '$' if self.peek(1) == Some('{') => self.substitution(),
            c if ends_unquoted(c) => {
                self.copy();
                Ok(())
            }
            _ => {
                self.unquoted();
                Ok(())
            }
        }
    }

    fn substitution(&mut self) -> Result<(), Stop> {
        self.to.substitutions += 1;
        if self.to.substitutions > MAX_SUBSTITUTIONS {
            let message = format!("found more than {MAX_SUBSTITUTIONS} substitutions");
            return Err(self.error(self.pos, message, None));
        }
        self.copy_n(2);
        if self.peek(0) == Some('?') {
            self.copy();
        }
        let prefix: String = self.chars[self.at..].iter().take(11).collect();
        if prefix.eq_ignore_ascii_case("cluster.k8s") {
            self.skip_n(11);
            prefix.to_ascii_lowercase().chars().for_each(|c| self.to.expanded.push(c));
        }
        let mut target = prefix.to_ascii_lowercase();
        target.truncate(if target == "cluster.k8s" { 11 } else { 0 });
        while let Some(c) = self.peek(0).filter(|c| *c != '\n') {
            self.copy();
            if c == '}' {
                break;
            }
            target.push(c);
        }
        self.to.references.add(self.path, &target);
        Ok(())
    }
}
