//! HOCON as EMQX's own parser reads it, with the place of everything.
//!
//! ```text
//! text --lexer--> tokens --parser--> fields --resolve--> Node
//!                            include ^  layers, `${…}` ^
//! ```
//!
//! Values are texts: which of them are numbers is for whoever reads a key. EMQX's grammar
//! knows a key by the sign behind it and pays no heed to line ends, so a field may follow
//! another on its line, and texts are joined over lines. The specification's rest is taken
//! besides: dots in quoted keys, `+=`, the environment behind `${…}`.
//!
//! Nothing here recurses deeper than [`MAX_DEPTH`] and what `resolve` allows, nothing
//! multiplies beyond `MAX_WORK`, and no message repeats a value.

mod ast;
mod lexer;
mod parser;
mod resolve;
mod strings;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ast::Field;
pub(super) use ast::Place;
pub(super) use lexer::FULL_WIDTH;
use parser::{Parser, Stop};

/// Nesting of blocks, lists and dotted keys together. Configuration uses eight.
const MAX_DEPTH: usize = 64;
/// Substitutions in all files together: each is walked, and may lead to the next.
const MAX_REFERENCES: usize = 1024;
/// How deep includes go.
const MAX_INCLUDE_DEPTH: usize = 16;
/// How many files are included, all told.
const MAX_INCLUDES: usize = 256;

/// What is wrong, or odd, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) place: Place,
    /// The key in whose value, or whose block, it stands; empty at the root.
    pub(super) key: String,
    pub(super) message: String,
    /// Empty: none.
    pub(super) hint: String,
}

impl Problem {
    fn new(place: Place, path: &[String], message: impl Into<String>, hint: &str) -> Self {
        Self { place, key: path.join("."), message: message.into(), hint: hint.to_owned() }
    }
}

/// Reads the text of an included file; `None`: there is no such file.
pub(super) type ReadFile<'a> = dyn Fn(&Path) -> Result<Option<String>, String> + 'a;

/// Everything that was read, and what was found wrong with it.
pub(super) struct Sources<'a> {
    read: &'a ReadFile<'a>,
    /// Whether a key's value must never be shown.
    is_secret: &'a dyn Fn(&str) -> bool,
    pub(super) files: Vec<Arc<Path>>,
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<Problem>,
    /// Texts that end where a comment begins, and what to say of it if they are ours.
    pub(super) cut: Vec<(u32, Problem)>,
    /// The layers, one behind the other.
    fields: Vec<Field>,
    /// The files being read, outermost first.
    stack: Vec<Arc<Path>>,
    included: usize,
    references: usize,
    ids: u32,
}

impl<'a> Sources<'a> {
    /// `ids`: how many texts were read before.
    pub(super) fn new(
        read: &'a ReadFile<'a>,
        is_secret: &'a dyn Fn(&str) -> bool,
        ids: u32,
    ) -> Self {
        Self {
            read,
            is_secret,
            files: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
            cut: Vec::new(),
            fields: Vec::new(),
            stack: Vec::new(),
            included: 0,
            references: 0,
            ids,
        }
    }

    /// Lays a text over those before it.
    pub(super) fn layer(&mut self, file: &Arc<Path>, text: &str) {
        self.stack.push(Arc::clone(file));
        if let Ok(fields) = self.parse(file, text, &[], 0) {
            self.fields.extend(fields);
        }
        self.stack.pop();
    }

    /// How many texts were read, these among them.
    pub(super) fn ids(&self) -> u32 {
        self.ids
    }

    /// All layers merged, and substitutions resolved over all of them; what cannot be
    /// resolved is added to the problems.
    pub(super) fn resolve(&mut self, env: &dyn Fn(&str) -> Option<String>) -> Node {
        let fields = std::mem::take(&mut self.fields);
        let (root, problems, ids) = resolve::resolve(&fields, env, self.ids);
        self.problems.extend(problems);
        self.ids = ids;
        root
    }

    fn parse(
        &mut self,
        file: &Arc<Path>,
        text: &str,
        path: &[String],
        nesting: usize,
    ) -> Result<Vec<Field>, Stop> {
        let number = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        self.files.push(Arc::clone(file));
        let (tokens, refusal) = lexer::tokens(text);
        let (path, within) = (path.to_vec(), path.len());
        let file = number;
        Parser { to: self, file, tokens, refusal, at: 0, path, within, nesting }.file()
    }

    /// The fields of another file, in the place of the statement.
    fn include(
        &mut self,
        place: Place,
        path: &[String],
        nesting: usize,
        name: &str,
        required: bool,
    ) -> Result<Vec<Field>, Stop> {
        let refuse = |to: &mut Self, message: String| {
            to.problems.push(Problem::new(place, path, message, ""));
            Err(Stop)
        };
        let around = self.stack.last().and_then(|file| file.parent());
        let file: Arc<Path> = around.unwrap_or(Path::new("")).join(name).into();
        if self.stack.contains(&file) {
            return refuse(self, format!("{} includes itself", file.display()));
        }
        self.included += 1;
        if self.stack.len() > MAX_INCLUDE_DEPTH || self.included > MAX_INCLUDES {
            let message = format!(
                "includes go deeper than {MAX_INCLUDE_DEPTH} or are more than {MAX_INCLUDES}"
            );
            return refuse(self, message);
        }
        match (self.read)(&file) {
            Ok(Some(text)) => {
                self.stack.push(Arc::clone(&file));
                let fields = self.parse(&file, &text, path, nesting);
                self.stack.pop();
                fields
            }
            Ok(None) if !required => {
                let message = format!("cannot include {}: no such file", file.display());
                let hint = "write include required(\"…\") to make this an error";
                self.notes.push(Problem::new(place, path, message, hint));
                Ok(Vec::new())
            }
            Ok(None) => {
                let message = format!("cannot include {}: no such file", file.display());
                refuse(self, message)
            }
            Err(why) => refuse(self, format!("cannot include {}: {why}", file.display())),
        }
    }
}

/// A value, where it was written, and where its key was.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
    pub(super) key: Place,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Text(Words),
    List(Vec<Node>),
    Object(BTreeMap<String, Node>),
}

/// A text and what it was put together from.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    pub(super) text: String,
    /// Tells the written texts in it apart from equal ones.
    pub(super) ids: Vec<u32>,
    /// Of several, the words without quotes.
    pub(super) bare: Vec<String>,
    /// Whether it is one whole number without quotes, and so a number to EMQX.
    pub(super) whole_number: bool,
}
