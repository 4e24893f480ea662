//! The log: one line an event on stderr, as text or as JSON.

use std::io::{self, IsTerminal as _, Write};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{LogConfig, LogFormat};

/// Sends everything that is logged from now on to stderr. Once per process.
///
/// Libraries are held at `warn` unless `trace` is asked for: their reports on
/// single connections are not an operator's business.
///
/// # Errors
/// When the process has a log already.
pub fn init(config: LogConfig) -> Result<(), TryInitError> {
    let trace = config.level == Level::TRACE;
    let libraries = if trace { Level::TRACE } else { Level::WARN };
    // It warns of whatever a stranger sends; the mesh says what came of it, and no more
    // than once a second.
    let rustls = if trace { Level::TRACE } else { Level::ERROR };
    let filter = Targets::new()
        .with_default(LevelFilter::from_level(libraries.min(config.level)))
        .with_target("rustls", rustls)
        .with_target(env!("CARGO_PKG_NAME"), config.level);
    let layer = tracing_subscriber::fmt::layer();
    let layer = match config.format {
        LogFormat::Json => {
            layer.json().flatten_event(true).with_writer(io::stderr).with_filter(filter).boxed()
        }
        LogFormat::Text => {
            let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let writer = move || OneLine { to: io::stderr(), ansi };
            layer.with_ansi(ansi).with_writer(writer).with_filter(filter).boxed()
        }
    };
    tracing_subscriber::registry().with(layer).try_init()
}

/// Keeps every event on its line and the terminal in its state, whatever text of a
/// peer or a backend the event quotes.
///
/// The formatter hands over an event in one write. It escapes `ESC` in what it is
/// given to format, so that those left are its own colours.
struct OneLine<W> {
    to: W,
    ansi: bool,
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(buf);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut safe = String::with_capacity(text.len());
        for c in line.chars() {
            match c {
                '\t' => safe.push(c),
                '\x1b' if self.ansi => safe.push(c),
                c if c.is_control() => safe.extend(c.escape_default()),
                c => safe.push(c),
            }
        }
        safe.push_str(&text[line.len()..]);
        self.to.write_all(safe.as_bytes())?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(ansi: bool, text: &str) -> String {
        let mut line = OneLine { to: Vec::new(), ansi };
        line.write_all(text.as_bytes()).unwrap();
        String::from_utf8(line.to).unwrap()
    }

    #[test]
    fn a_quoted_text_cannot_forge_a_line_or_steer_the_terminal() {
        let hostile = "bad name: x\n2026 INFO all is well\r\x07\u{9b}2J\x1b[2J\n";
        assert_eq!(
            written(false, hostile),
            "bad name: x\\n2026 INFO all is well\\r\\u{7}\\u{9b}2J\\u{1b}[2J\n"
        );
        assert_eq!(written(true, "\x1b[32mINFO\x1b[0m ä\tb\n"), "\x1b[32mINFO\x1b[0m ä\tb\n");
    }
}
