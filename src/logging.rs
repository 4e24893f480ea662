//! The log: one line an event on stderr, as text or as JSON.
//!
//! Nobody waits for it. Lines go through a bounded queue to a thread of their own, so that
//! a reader that stopped reading, or a full disk, costs lines and never the agent.
//!
//! Threads: one, named `log`, started by [`init`]; it ends with the process.

mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing::{Level, error, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, Registry, reload};

use crate::config::{LogConfig, LogFormat};
use queue::Queue;

/// At the end of the process the log's reader gets so long to take what is left.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The process has one already.
    #[error(transparent)]
    Taken(#[from] TryInitError),
    /// The system has no room for a thread.
    #[error("no thread for the log: {0}")]
    Thread(io::Error),
}

/// The process's log. Dropped, it waits for half a second at most until its lines are
/// written.
pub struct Log {
    queue: Arc<Queue>,
    filter: reload::Handle<Targets, Registry>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    /// Sets from when on lines of which level, and of more severe ones, are written.
    pub fn level_setter(&self) -> impl Fn(Level) + Send + Sync + 'static {
        let handle = self.filter.clone();
        move |level| {
            // It fails where there is no log any more, and then there is nothing to set.
            let _gone = handle.reload(filter(level));
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.flush(LAST_WORDS);
    }
}

/// Sends everything that is logged from now on to stderr, panics too. Once per process.
/// Lines that could not be written are counted in `dropped`.
///
/// # Errors
/// [`LogError`]
pub fn init(config: LogConfig, dropped: Counter) -> Result<Log, LogError> {
    let queue = Arc::new(Queue::new(dropped));
    let (filter, handle) = reload::Layer::new(filter(config.level));
    let layer = tracing_subscriber::fmt::layer();
    let lines = Arc::clone(&queue);
    let layer = match config.format {
        LogFormat::Json => {
            let writer = move || Lines(Arc::clone(&lines));
            layer.json().flatten_event(true).with_writer(writer).with_filter(filter).boxed()
        }
        LogFormat::Text => {
            let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let writer = move || OneLine { to: Lines(Arc::clone(&lines)), ansi };
            layer.with_ansi(ansi).with_writer(writer).with_filter(filter).boxed()
        }
    };
    tracing_subscriber::registry().with(layer).try_init()?;
    let lines = Arc::clone(&queue);
    let thread = std::thread::Builder::new().name("log".to_owned()).stack_size(STACK);
    thread.spawn(move || lines.write_to(io::stderr(), say_dropped)).map_err(LogError::Thread)?;
    // The standard hook writes to stderr itself, and would wait for its reader.
    std::panic::set_hook(Box::new(|panic| {
        let trace = Backtrace::capture();
        match trace.status() {
            BacktraceStatus::Captured => error!("{panic}\n{trace}"),
            _ => error!("{panic}"),
        }
    }));
    Ok(Log { queue, filter: handle })
}

/// What the log's thread needs: it formats one line of its own at most.
const STACK: usize = 128 * 1024;

fn say_dropped(count: u64) {
    warn!(
        "{count} lines of this log were dropped, since it could not be written: its reader did \
         not read, or its disk was full"
    );
}

/// Libraries are held at `warn` unless `trace` is asked for: their reports on single
/// connections are not an operator's business.
fn filter(level: Level) -> Targets {
    let trace = level == Level::TRACE;
    let libraries = if trace { Level::TRACE } else { Level::WARN };
    // It warns of whatever a stranger sends; the mesh says what came of it, and no more
    // than once a second.
    let rustls = if trace { Level::TRACE } else { Level::ERROR };
    Targets::new()
        .with_default(libraries.min(level))
        .with_target("rustls", rustls)
        .with_target(env!("CARGO_PKG_NAME"), level)
}

/// The queue as something to write to: every write is a line.
struct Lines(Arc<Queue>);

impl Write for Lines {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.push(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
