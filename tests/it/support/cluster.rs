//! Several agents of one cluster.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::agent::{Agent, Ground, Spec};
use super::wait::LONG;

/// Agents `emqx1@127.0.0.1`, `emqx2@127.0.0.1` and so on; indexed from 0.
#[derive(Debug)]
pub struct Cluster {
    agents: Vec<Agent>,
    ground: Arc<Ground>,
}

impl Cluster {
    /// Starts them at once, each with all of them as static seeds, and waits until
    /// every view has every member.
    #[track_caller]
    pub fn start(n: u16) -> Self {
        Self::start_with(n, |spec| spec)
    }

    /// As [`Cluster::start`], each with a change of configuration.
    #[track_caller]
    pub fn start_with(n: u16, change: impl Fn(Spec) -> Spec) -> Self {
        let mut cluster = Self::spawn_with(n, change);
        cluster.wait_formed();
        cluster
    }

    /// As [`Cluster::start_with`] without waiting.
    pub fn spawn_with(n: u16, change: impl Fn(Spec) -> Spec) -> Self {
        let ground = Ground::new(n);
        let seeds: Vec<_> = (1..=n).map(|k| Spec::new(&ground, k).name().to_owned()).collect();
        let agents = (1..=n).map(|k| change(Spec::new(&ground, k).seeds(&seeds)).spawn()).collect();
        Self { agents, ground }
    }

    pub fn ground(&self) -> &Arc<Ground> {
        &self.ground
    }

    /// The names of all, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.agents.iter().map(|agent| agent.name().to_owned()).collect();
        names.sort();
        names
    }

    /// Waits until every API answers and every view has every member running.
    #[track_caller]
    pub fn wait_formed(&mut self) {
        for agent in &mut self.agents {
            agent.wait_api();
        }
        let names = self.names();
        for agent in &self.agents {
            agent.wait_nodes(LONG, &names, &[]);
        }
    }

    /// Waits until every agent but those at `except` lists exactly these.
    #[track_caller]
    pub fn wait_nodes_but<S: AsRef<str>>(
        &self,
        except: &[usize],
        within: Duration,
        running: &[S],
        stopped: &[S],
    ) {
        for (index, agent) in self.agents.iter().enumerate() {
            if !except.contains(&index) {
                agent.wait_nodes(within, running, stopped);
            }
        }
    }

    /// [`Agent::history_of`] everybody at everybody.
    #[track_caller]
    pub fn histories(&self) -> Vec<Value> {
        let names = self.names();
        let pairs = self.agents.iter().flat_map(|at| names.iter().map(move |of| (at, of)));
        pairs.map(|(at, of)| at.history_of(of)).collect()
    }

    /// Adds an agent, started.
    pub fn push(&mut self, agent: Agent) {
        self.agents.push(agent);
    }
}

impl Deref for Cluster {
    type Target = [Agent];

    fn deref(&self) -> &[Agent] {
        &self.agents
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut [Agent] {
        &mut self.agents
    }
}
