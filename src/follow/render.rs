//! Files made of the members, `agent.render`: what stands in front of the brokers, or
//! beside them, reads them.
//!
//! Tasks: none of its own; [`run`] is one future for each file, owned by the followers.
//! Dropping it at any moment leaves the old file or the new one, and ends a program that
//! runs. Everything that waits for a file system does so on a thread that may.
//!
//! # Order
//!
//! A change of the members opens a quiet period (`wait`); behind it the template is
//! rendered. Bytes that differ from the target's become a candidate beside it; `check`
//! judges the candidate; it is synced and renamed; `command` runs. Whatever fails before
//! the rename leaves the target as it was. What failed is tried again with the next change,
//! with a changed template, and by itself after a while; a `command` that failed is owed
//! until it succeeds.

mod template;
mod view;
mod write;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, info};

pub(crate) use view::View;

use super::process::{self, Done, Job};
use super::{Standing, World, trust};
use crate::backoff::Backoff;
use crate::config::RenderConfig;
use crate::metrics::{Render, Word};
use crate::watched::{LOOK_INTERVAL, Watched};
use write::Candidate;

/// How long after a failure it is tried again by itself.
const RETRY: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(300));

/// Stands for the candidate in `check`'s arguments.
const FILE: &str = "{file}";

/// What came of one attempt that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rendered {
    /// The file was replaced.
    Written,
    /// It already held these bytes.
    Unchanged,
    /// This view is not rendered, and why.
    Held(&'static str),
}

impl Rendered {
    fn word(&self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Unchanged => "unchanged",
            Self::Held(_) => "held",
        }
    }
}

/// Why a file was not rendered. All but [`RenderError::Command`] leave the old file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenderError {
    /// The template is missing, too long, or written by others.
    #[error("the template cannot be used: {0}")]
    Source(String),
    /// The template is wrong.
    #[error("the template {0}: {1}")]
    Template(String, String),
    /// `check` said no.
    #[error("the check of the new file failed, the old one stays: {0}")]
    Check(String),
    /// The file system said no.
    #[error("the file cannot be written, the old one stays: {0}")]
    Write(String),
    /// `command` failed; the file is new, and the command is run again.
    #[error("the file is new, and the command behind it failed: {0}")]
    Command(String),
}

impl RenderError {
    fn word(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Template(..) => "template",
            Self::Check(_) => "check",
            Self::Write(_) => "write",
            Self::Command(_) => "command",
        }
    }
}

/// One file, and whether its command is owed.
#[derive(Debug)]
pub(crate) struct Renderer {
    config: RenderConfig,
    owed: bool,
}

/// A new file that waits for its check.
enum Next {
    Unchanged,
    Candidate(Candidate),
}

impl Renderer {
    pub(crate) fn new(config: RenderConfig) -> Self {
        Self { config, owed: false }
    }

    /// One attempt over one view.
    ///
    /// # Errors
    /// [`RenderError`].
    pub(crate) async fn render(&mut self, view: View) -> Result<Rendered, RenderError> {
        if let Some(reason) = view.held(self.config.require_majority) {
            return Ok(Rendered::Held(reason));
        }
        let config = self.config.clone();
        let prepared = blocking(move || {
            let text = text(&config.source, &view)?;
            let target = &config.target;
            let held =
                write::held(target).map_err(|error| RenderError::Write(error.to_string()))?;
            if held.is_some_and(|held| held == text.as_bytes()) {
                return Ok(Next::Unchanged);
            }
            let written = Candidate::write(target, text.as_bytes(), config.perms);
            Ok(Next::Candidate(written.map_err(|error| RenderError::Write(error.to_string()))?))
        });
        let outcome = match prepared.await? {
            Next::Unchanged => Rendered::Unchanged,
            Next::Candidate(candidate) => {
                self.check(&candidate).await?;
                let renamed = blocking(move || {
                    candidate.commit().map_err(|error| RenderError::Write(error.to_string()))
                });
                renamed.await?;
                self.owed = !self.config.command.is_empty();
                Rendered::Written
            }
        };
        if self.owed {
            let argv = self.config.command.clone();
            self.program("command", argv).await.map_err(RenderError::Command)?;
            self.owed = false;
        }
        Ok(outcome)
    }

    async fn check(&self, candidate: &Candidate) -> Result<(), RenderError> {
        if self.config.check.is_empty() {
            return Ok(());
        }
        let path = candidate.path().display().to_string();
        let argv = self.config.check.iter().map(|word| word.replace(FILE, &path)).collect();
        self.program("check", argv).await.map_err(RenderError::Check)
    }

    /// Runs one of the two programs; its output goes to the log, and with a failure also
    /// into its words.
    async fn program(&self, role: &str, argv: Vec<String>) -> Result<(), String> {
        let job =
            Job { argv, stdin: Vec::new(), environment: Vec::new(), timeout: self.config.timeout };
        let Done { result, output } = process::run(job).await;
        let lines = output.lines();
        let target = self.config.target.display();
        for line in &lines {
            info!(%target, "{role}: {line}");
        }
        result.map_err(|error| match lines.is_empty() {
            true => error.to_string(),
            false => format!("{error}: {}", lines.join("; ")),
        })
    }
}

/// The text of a file over a view. Blocks for as long as the file system does.
fn text(source: &Path, view: &View) -> Result<String, RenderError> {
    let real = trust::vetted(source).map_err(RenderError::Source)?;
    let failed =
        |error: &dyn std::fmt::Display| RenderError::Source(format!("{}: {error}", real.display()));
    let length = std::fs::metadata(&real).map_err(|error| failed(&error))?.len();
    if length > template::MAX_TEMPLATE {
        return Err(failed(&format!("it is longer than {} bytes", template::MAX_TEMPLATE)));
    }
    let source_text = std::fs::read_to_string(&real).map_err(|error| failed(&error))?;
    template::render(&source_text, view)
        .map_err(|error| RenderError::Template(source.display().to_string(), error))
}

/// What a file would hold now, and what it holds: for `muster render --dry-run`. Blocks.
///
/// # Errors
/// [`RenderError`].
pub(crate) fn preview(config: &RenderConfig, view: &View) -> Result<(String, String), RenderError> {
    let text = text(&config.source, view)?;
    let held =
        write::held(&config.target).map_err(|error| RenderError::Write(error.to_string()))?;
    Ok((String::from_utf8_lossy(&held.unwrap_or_default()).into_owned(), text))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RenderError> + Send + 'static,
) -> Result<T, RenderError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        // A panic of ours there is one here, and the supervisor's to report.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(RenderError::Write(error.to_string())),
        },
    }
}

/// Keeps one file up to date until it is dropped.
pub(super) async fn run(config: RenderConfig, mut world: World) {
    let target = config.target.display().to_string();
    let standing = Standing::new(&world.notices, format!("render {target}"));
    let changed_template = Notify::new();
    let mut template = pin!(watch(config.source.clone(), &changed_template));
    let mut renderer = Renderer::new(config.clone());
    let mut failures = 0;
    // What is rendered next, and what is known of it.
    let mut view = View::from(&**world.snapshots.borrow_and_update());
    loop {
        view = quiet(view, &config, &mut world).await;
        let again = match renderer.render(view.clone()).await {
            Ok(outcome) => {
                count(&world, &target, outcome.word());
                match outcome {
                    Rendered::Written => info!(%target, "rendered anew"),
                    Rendered::Unchanged => {}
                    Rendered::Held(reason) => debug!(%target, "not rendered: {reason}"),
                }
                // A view that is not rendered says nothing of what failed before.
                if !matches!(outcome, Rendered::Held(_)) {
                    standing.clear();
                }
                failures = 0;
                None
            }
            Err(error) => {
                count(&world, &target, error.word());
                standing.set(&error.to_string());
                let again = Instant::now() + RETRY.after(failures);
                failures = failures.saturating_add(1);
                Some(again)
            }
        };
        // Until there is something to do.
        loop {
            tokio::select! {
                changed = world.snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let fresh = View::from(&**world.snapshots.borrow_and_update());
                    if !fresh.same_news(&view) {
                        view = fresh;
                        break;
                    }
                }
                never = template.as_mut() => match never {},
                () = changed_template.notified() => break,
                () = until(again) => break,
            }
        }
    }
}

fn count(world: &World, target: &str, outcome: &'static str) {
    let labels = Render { target: target.to_owned(), outcome: Word(outcome) };
    world.metrics.render.get_or_create(&labels).inc();
}

/// Waits until the members have held still for `wait.min`, at most for `wait.max`; the
/// view as it is then.
async fn quiet(mut view: View, config: &RenderConfig, world: &mut World) -> View {
    let begun = Instant::now();
    let last = begun + config.wait_max;
    let mut due = begun + config.wait_min;
    loop {
        tokio::select! {
            biased;
            () = sleep_until(due.min(last)) => return view,
            changed = world.snapshots.changed() => {
                if changed.is_err() {
                    return view;
                }
                let fresh = View::from(&**world.snapshots.borrow_and_update());
                if !fresh.same_news(&view) {
                    due = Instant::now() + config.wait_min;
                    view = fresh;
                }
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Tells of a template that was read some time ago, and of every change of it.
async fn watch(source: PathBuf, changed: &Notify) -> Infallible {
    let mut watched = Watched::unread(vec![source]);
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let look = spawn_blocking(move || {
            let news = watched.changed();
            (watched, news)
        });
        // Only with the runtime it ends otherwise.
        let Ok((back, news)) = look.await else { return std::future::pending().await };
        watched = back;
        if news {
            changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
