//! What happened, as far as the invariants speak of it: the checkers' only input.

use std::time::Duration;

use muster::node::{BootId, ClusterId, NodeName};
use muster::protocol::membership::{
    Action, Epoch, Health, News, Record, RequestError, RequestId, Standing, State,
};

/// One process life, numbered in the order of starts.
pub type Pid = usize;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A process was started.
    Start {
        /// It.
        pid: Pid,
        /// Its name.
        node: NodeName,
        /// Its `cluster.name`.
        cluster: String,
        /// Whether its strategy joins what it discovers.
        automatic: bool,
        /// The members it knew from its disk.
        known: Vec<NodeName>,
        /// Whether it was started with a disk that had lost what an earlier life knew.
        amnesia: bool,
        /// Whether it is a second process under a name that is taken.
        rogue: bool,
    },
    /// A process ended.
    End(Pid),
    /// It reported this.
    News(Pid, News),
    /// It says this of itself from now on.
    Own {
        /// The process.
        pid: Pid,
        /// Its cluster.
        id: Option<ClusterId>,
        /// Its standing.
        standing: Standing,
        /// Its epoch.
        epoch: Epoch,
    },
    /// Its table holds this record from now on.
    Held(Pid, Record),
    /// Its table holds nothing on this node any more.
    Dropped(Pid, NodeName),
    /// It removed a member that had been alive and in its reach for so long.
    Removed {
        /// Who removed.
        pid: Pid,
        /// Whom.
        victim: NodeName,
        /// How.
        standing: Standing,
        /// For how long both ran undisturbed and could talk; `None`: the victim is dead.
        reachable: Option<Duration>,
        /// Whether most of the cores that it knew were running for it.
        majority: bool,
    },
    /// An operator asked it for something.
    Asked(Pid, RequestId, Action),
    /// It answered.
    Answered(Pid, RequestId, Result<(), RequestError>),
    /// Somebody other than the node itself brought up that it were a member in this epoch:
    /// a liar, or a disk from before the history. Others may take it for true.
    Hearsay {
        /// The node, which there may never have been.
        node: NodeName,
        /// The epoch.
        epoch: Epoch,
    },
    /// One of its tables holds more than it may.
    Overfull {
        /// The process.
        pid: Pid,
        /// Which table, with what it holds and might.
        text: String,
    },
    /// Something that was shown changed on the word of somebody who was not admitted.
    Swayed {
        /// Whose view.
        pid: Pid,
        /// What was said, and what changed.
        text: String,
    },
    /// In quiet times one node was disturbed, and those concerned knew it so soon.
    Scene {
        /// What was done to it.
        text: String,
        /// How long it took until all who should knew it; `None`: they did not.
        took: Option<Duration>,
        /// Within which time they had to.
        bound: Duration,
    },
}

/// One live agent at the end.
#[derive(Clone, Debug)]
pub struct View {
    /// Its name.
    pub node: NodeName,
    /// Its `cluster.name`.
    pub cluster: String,
    /// Its cluster's id.
    pub id: Option<ClusterId>,
    /// Where it stands.
    pub state: State,
    /// Whether its discovery runs (or is none).
    pub discovers: bool,
    /// Whether another process holds its name.
    pub conflict: bool,
    /// Whether it is the process that its name leads to.
    pub rightful: bool,
    /// Its process life.
    pub boot: BootId,
    /// Hash over its view.
    pub hash: u64,
    /// Another over all that it holds, tombstones too, that the machine does not compute.
    pub content: u64,
    /// How many linked members it thinks to see another view.
    pub disagreeing: usize,
    /// Every member, with the boot id and the health that it holds.
    pub members: Vec<(NodeName, BootId, Health)>,
    /// Nodes that discovery names to it.
    pub contacts: Vec<NodeName>,
}

/// The whole.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Facts in order, with the time and the step.
    pub facts: Vec<(Duration, u64, Fact)>,
    /// The live agents at the end.
    pub end: Vec<View>,
    /// When the last fault ended.
    pub calm_at: Duration,
    /// When the simulation ended.
    pub ended_at: Duration,
    /// When a scene began, see [`Fact::Scene`].
    pub scene_at: Option<Duration>,
    /// Steps taken.
    pub steps: u64,
    /// Whether no fault was to strike, nor any operator.
    pub faultless: bool,
}

impl History {
    /// Notes a fact.
    pub fn note(&mut self, now: Duration, step: u64, fact: Fact) {
        self.facts.push((now, step, fact));
    }
}
