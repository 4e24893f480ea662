//! What both kinds of simulated clusters can do.

use std::time::Duration;

/// The state of a member, as others report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Up,
    Suspect,
    Down,
    Left,
}

/// A change that everybody is to learn of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new member joins through the chosen one.
    Join,
    /// The chosen one leaves.
    Leave,
    /// `kill -9`: its system answers for it.
    Kill,
    /// Its machine is gone without a word.
    PowerOff,
}

impl Change {
    pub fn title(self) -> &'static str {
        match self {
            Self::Join => "join until all know",
            Self::Leave => "leave until all know",
            Self::Kill => "`kill -9` until all know",
            Self::PowerOff => "machine gone until all know",
        }
    }

    pub fn state(self) -> State {
        match self {
            Self::Join => State::Up,
            Self::Leave => State::Left,
            Self::Kill | Self::PowerOff => State::Down,
        }
    }
}

/// One member reports a change of another.
#[derive(Clone, Copy, Debug)]
pub struct News {
    pub at: Duration,
    pub observer: usize,
    pub member: usize,
    pub state: State,
}

/// Messages sent and their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub messages: u64,
    pub bytes: u64,
}

/// A cluster in virtual time; its members are numbered.
pub trait Cluster {
    /// Between two probes of a member.
    fn period(&self) -> Duration;

    fn now(&self) -> Duration;

    /// Everything happens that is due until then.
    fn run(&mut self, until: Duration);

    /// Processes that run and belong to the cluster.
    fn living(&self) -> Vec<usize>;

    /// All that was sent since the start.
    fn sent(&self) -> Traffic;

    /// What was reported since this was last asked.
    fn news(&mut self) -> Vec<News>;

    /// For so long all messages to and from a member wait, while its timers run.
    fn block(&mut self, member: usize, time: Duration);

    /// Makes a change happen to, or through, a member; answers with the one it is about.
    /// `None`: this kind of cluster knows no such change.
    fn begin(&mut self, change: Change, member: usize) -> Option<usize>;
}

/// Resident memory of this process in bytes.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() << 10
}
