//! `include`: the text of another file, in the place of the statement.

use std::path::Path;
use std::sync::Arc;

use super::super::error::Finding;
use super::super::loader::reason;
use super::super::source::Pos;
use super::{Expect, Scanner, Stop};

/// How deep includes go.
const MAX_INCLUDE_DEPTH: usize = 16;
/// How many files one layer includes.
const MAX_INCLUDES: usize = 256;

impl Scanner<'_, '_> {
    /// `include` as a statement, not as the beginning of a key.
    pub(super) fn is_include(&self) -> bool {
        let word = "include";
        if !self.starts_with(word) {
            return false;
        }
        let rest = self.chars[self.at + word.len()..].iter();
        let rest: String = rest.skip_while(|c| matches!(c, ' ' | '\t')).take(10).collect();
        ["\"", "required", "file", "url", "classpath", "package"]
            .iter()
            .any(|form| rest.starts_with(form))
    }

    /// `include "x"`, `include file("x")`, `include required("x")`,
    /// `include required(file("x"))`.
    pub(super) fn include(&mut self) -> Result<(), Stop> {
        let start = self.pos;
        let mut statement = String::new();
        while self.peek(0).is_some_and(|c| c != '"' && c != '\n') {
            statement.extend(self.skip());
        }
        let mut name = String::new();
        if self.skip() == Some('"') {
            while self.peek(0).is_some_and(|c| c != '"' && c != '\n') {
                name.extend(self.skip());
            }
            self.skip();
        }
        let form: String = statement["include".len()..].split_whitespace().collect();
        let (required, parentheses) = match form.as_str() {
            "" => (false, 0),
            "file(" => (false, 1),
            "required(" => (true, 1),
            "required(file(" => (true, 2),
            _ => {
                let hint = "allowed: include \"x\", file(\"x\"), required(\"x\")";
                return Err(self.error(start, "this form of include is not known", Some(hint)));
            }
        };
        for _ in 0..parentheses {
            while self.peek(0).is_some_and(|c| matches!(c, ' ' | '\t')) {
                self.skip();
            }
            if self.skip() != Some(')') {
                return Err(self.error(start, "this include lacks a `)`", None));
            }
        }
        self.splice(start, &name, required)?;
        // A comma that follows would stand alone.
        while self.peek(0).is_some_and(|c| matches!(c, ' ' | '\t' | ',')) {
            self.skip();
        }
        self.to.expanded.push('\n');
        self.mark();
        self.expect = Expect::Key;
        Ok(())
    }

    fn splice(&mut self, start: Pos, name: &str, required: bool) -> Result<(), Stop> {
        let path: Arc<Path> = match self.file.parent() {
            Some(parent) => parent.join(name).into(),
            None => Path::new(name).into(),
        };
        if self.to.stack.contains(&path) {
            let message = format!("{} includes itself", path.display());
            return Err(self.error(start, message, None));
        }
        self.to.included += 1;
        if self.to.stack.len() > MAX_INCLUDE_DEPTH || self.to.included > MAX_INCLUDES {
            let message = format!(
                "includes go deeper than {MAX_INCLUDE_DEPTH} or are more than {MAX_INCLUDES}"
            );
            return Err(self.error(start, message, None));
        }
        let text = match self.to.files.read(&path) {
            Ok(text) => text,
            Err(error) => {
                let missing = error.kind() == std::io::ErrorKind::NotFound;
                let message = format!("cannot include {}: {}", path.display(), reason(&error));
                if required || !missing {
                    return Err(self.error(start, message, None));
                }
                let origin = self.origin(start);
                self.to.warnings.push(Finding {
                    origin,
                    key: String::new(),
                    message,
                    hint: Some("write include required(\"…\") to make this an error".to_owned()),
                });
                return Ok(());
            }
        };
        self.to.expanded.push('\n');
        self.to.stack.push(Arc::clone(&path));
        let before = self.to.errors.len();
        let base = self.base();
        self.path.truncate(base);
        let depth = self.depth + self.frames.len();
        Scanner::new(self.to, &path, &text, self.path, depth).run();
        self.to.stack.pop();
        if self.to.errors.len() > before { Err(Stop) } else { Ok(()) }
    }
}
