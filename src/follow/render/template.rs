//! Templates: what they see, and what bounds them.

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{
    AutoEscape, Environment, Error, Output, State, UndefinedBehavior, Value, escape_formatter,
};
use serde::Serialize;

use super::view::{Place, View};

/// Longest template, bytes.
pub(super) const MAX_TEMPLATE: u64 = 1 << 20;

/// Longest file, bytes: thousands of members with some hundred bytes each, several times.
pub(super) const MAX_FILE: usize = 4 << 20;

/// Steps of a template: a hundred for each of 10,000 members, done in a second. What it makes
/// costs steps by its bytes, so no template holds more than 64 MB for that moment.
const FUEL: u64 = 1_000_000;

/// What a template sees of the cluster.
#[derive(Serialize)]
struct Cluster<'a> {
    name: &'a str,
    id: Option<&'a str>,
    #[serde(rename = "self")]
    self_node: &'a str,
    majority: bool,
}

/// Renders a template over a view. The work is bounded, so is the result; the template
/// reaches nothing else.
///
/// # Errors
/// What is wrong with the template, with its line, in words.
pub(super) fn render(source: &str, view: &View) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(print);
    environment.set_fuel(Some(FUEL));
    // A line that only holds a tag leaves nothing behind, and the file ends as the
    // template does.
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    environment.set_syntax(syntax.build().map_err(|error| words(&error))?);
    let cluster = Cluster {
        name: &view.cluster.name,
        id: view.cluster.id.as_deref(),
        self_node: &view.cluster.self_node,
        majority: view.cluster.majority,
    };
    let places = |places: Vec<Place<'_>>| Value::from(Serde(places));
    let context = Value::from_pairs([
        ("cluster", Value::from(Serde(cluster))),
        ("members", places(view.members())),
        ("serving", places(view.serving())),
    ]);
    let template = environment.template_from_str(source).map_err(|error| words(&error))?;
    let mut file = Bounded::default();
    match template.render_captured_to(context, &mut file) {
        Ok(_) => String::from_utf8(file.bytes).map_err(|error| error.to_string()),
        Err(_) if file.full => Err(format!("it makes a file of more than {MAX_FILE} bytes")),
        Err(error) => Err(words(&error)),
    }
}

/// Prints a value: a boolean in lower case, as the files of other programs have it, and
/// not the engine's `True`; anything else as the engine does.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool if value.is_true() => Ok(out.write_str("true")?),
        ValueKind::Bool => Ok(out.write_str("false")?),
        _ => escape_formatter(out, state, value),
    }
}

/// An error of the engine's on one line.
fn words(error: &Error) -> String {
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

/// Takes [`MAX_FILE`] bytes and no more.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_FILE {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
