//! Operators' requests and the disk: a request is answered when what it changed is saved.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Driver;
use crate::agent::disk::Saved;
use crate::command::{Command, RequestError};
use crate::protocol::membership::RequestId;

/// While everything changes the state is saved so often, but for what somebody waits for.
const SAVE_PAUSE: Duration = Duration::from_millis(500);
/// Or so seldom for each record in it: writing one takes some microseconds, so that about a
/// thousandth of a processor goes into it.
const SAVE_PAUSE_EACH: Duration = Duration::from_millis(10);
/// But never more seldom than this.
const LONGEST_SAVE_PAUSE: Duration = Duration::from_secs(5);

/// On the board: the state is not on disk.
const STATE_UNSAVED: &str = "state_unsaved";

/// Requests under way, and what of the state is on disk.
#[derive(Debug, Default)]
pub(super) struct Requests {
    next: u64,
    replies: BTreeMap<RequestId, oneshot::Sender<Result<(), RequestError>>>,
    /// Granted requests that wait for the disk, with the version they wait for.
    waiting: Vec<(u64, RequestId)>,
    /// The version that the last request left which changed anything: one that changes nothing
    /// waits for that, and not for whatever else befell the cluster meanwhile.
    decided: u64,
    /// The request that is being handled, if it has changed nothing.
    idle: Option<RequestId>,
    saved_version: u64,
    /// The newest version handed to the saver, and when.
    wanted_version: u64,
    wanted_at: Option<Instant>,
}

impl Driver {
    /// An operator asks for something.
    pub(super) fn command(&mut self, command: Command) {
        let now = self.now();
        self.book.requests.next += 1;
        let request = RequestId(self.book.requests.next);
        self.book.requests.replies.insert(request, command.reply);
        let before = self.machine.durable_version();
        self.machine.handle_request(now, request, command.action);
        self.book.requests.idle = (self.machine.durable_version() == before).then_some(request);
        self.carry_out();
        self.book.requests.idle = None;
    }

    /// A request is done, and answered when what it changed is on disk.
    pub(super) fn granted(&mut self, request: RequestId) {
        if self.book.requests.idle != Some(request) {
            self.book.requests.decided = self.machine.durable_version();
        }
        if self.book.requests.decided <= self.book.requests.saved_version {
            self.reply(request, Ok(()));
        } else {
            self.book.requests.waiting.push((self.book.requests.decided, request));
        }
    }

    /// Hands a state that is newer than the last one to the saver: at once where somebody
    /// waits for it.
    pub(super) fn save(&mut self) {
        let version = self.machine.durable_version();
        let pause = self.save_pause();
        let requests = &mut self.book.requests;
        let paused = requests.wanted_at.is_some_and(|at| at.elapsed() < pause);
        if version > requests.wanted_version && (!paused || !requests.waiting.is_empty()) {
            requests.wanted_version = version;
            requests.wanted_at = Some(Instant::now());
            self.saver.want(version, self.machine.durable());
        }
    }

    /// When the state is to be saved next.
    pub(super) fn next_save(&self) -> Option<Instant> {
        let Requests { wanted_at, wanted_version, .. } = self.book.requests;
        let unsaved = self.machine.durable_version() > wanted_version;
        wanted_at.filter(|_| unsaved).map(|at| at + self.save_pause())
    }

    /// Hands the state to the saver now. The version that is on disk when all is.
    pub(super) fn save_at_once(&mut self) -> u64 {
        self.book.requests.wanted_at = None;
        self.save();
        self.machine.durable_version()
    }

    fn save_pause(&self) -> Duration {
        let records = u32::try_from(self.machine.table().len()).unwrap_or(u32::MAX);
        let each = SAVE_PAUSE_EACH.saturating_mul(records);
        SAVE_PAUSE.max(each).min(LONGEST_SAVE_PAUSE)
    }

    /// The disk has a newer state, or has none for a new reason.
    pub(super) fn saved(&mut self, state: &Saved) {
        self.book.requests.saved_version = state.version;
        let unsaved = state.error.as_ref().map(|error| {
            format!(
                "the state is not saved, so that a restart forgets what changed since: {error}; \
                 it is tried again every second -> free space there, or let the agent's user \
                 write it"
            )
        });
        self.metrics.state_unsaved.set(i64::from(state.error.is_some()));
        self.presenter.board.tell(STATE_UNSAVED, unsaved.as_slice());
        for (version, request) in std::mem::take(&mut self.book.requests.waiting) {
            if version <= state.version {
                self.reply(request, Ok(()));
            } else if let Some(error) = &state.error {
                let text = format!("done, but it will not outlast a restart: {error}");
                self.reply(request, Err(RequestError::NotSaved(text)));
            } else {
                self.book.requests.waiting.push((version, request));
            }
        }
    }

    /// Answers whoever asked.
    pub(super) fn reply(&mut self, request: RequestId, result: Result<(), RequestError>) {
        if self.book.requests.idle != Some(request) {
            // Readers that come right after the answer see what was done.
            self.publish_now();
        }
        if let Some(reply) = self.book.requests.replies.remove(&request) {
            // Whoever asked may have gone away.
            let _gone = reply.send(result);
        }
    }
}
