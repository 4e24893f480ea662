//! When all is quiet and everybody agrees, one node gets into trouble, and it is measured
//! how soon all who should know it do: the others, and where it lives, the node itself.

use std::collections::BTreeSet;
use std::time::Duration;

use muster::node::NodeName;
use muster::protocol::membership::{Health, Record, State};
use rand::seq::IndexedRandom;

use crate::history::{Fact, Pid};
use crate::plan::Scene;
use crate::world::World;

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

impl World {
    /// Plays the planned scene, if there is somebody to play it with.
    pub fn play_scene(&mut self) {
        let Some(scene) = self.plan.scene else { return };
        let Some((victim, others)) = self.cast() else { return };
        let node = self.processes[victim].node;
        self.count(&format!("scene: {scene:?}"));
        self.trace(|w| format!("SCENE {scene:?} of {}", w.nodes[node].name));
        let begun = self.now;
        self.history.scene_at = Some(begun);
        let number = match scene {
            Scene::CutOff => Some(self.cut_off(node, true, true)),
            Scene::Deaf => Some(self.cut_off(node, true, false)),
            Scene::Mute => Some(self.cut_off(node, false, true)),
            Scene::Killed | Scene::Frozen | Scene::Stopped => None,
        };
        match scene {
            Scene::Killed => self.kill(victim),
            Scene::Stopped => self.stop(victim),
            Scene::Frozen => self.freeze(victim, Duration::from_secs(3600), false),
            Scene::CutOff | Scene::Deaf | Scene::Mute => {}
        }
        let leaves = self.plan.clusters[self.nodes[node].cluster].leave_on_stop;
        let mut took = None;
        while took.is_none() && self.now < begun + ms(30_000) {
            let next = self.now + ms(20);
            while self.step(next) {}
            self.now = next;
            let is_gone = others.iter().all(|pid| {
                let table = self.processes[*pid].machine.table();
                match table.member(&self.nodes[node].name).and_then(Record::health) {
                    Some(health) => health == Health::Down && !(leaves && scene == Scene::Stopped),
                    None => true,
                }
            });
            let knows = number.is_none() || {
                let table = self.processes[victim].machine.table();
                others.iter().all(|pid| {
                    let other = &self.processes[*pid].name;
                    !table.member(other).is_some_and(Record::is_running)
                })
            };
            took = (is_gone && knows).then(|| self.now - begun);
        }
        let text = format!("{scene:?} of {} among {}", self.nodes[node].name, others.len() + 1);
        let bound = self.bound(scene, others.len() + 1, self.nodes[node].cluster);
        self.fact(Fact::Scene { text, took, bound });
        match number {
            Some(number) => self.uncut(number),
            None if scene == Scene::Frozen => self.thaw(victim),
            None => self.start(node, false),
        }
    }

    /// By when all must know, where frames take their time.
    fn bound(&self, scene: Scene, members: usize, cluster: usize) -> Duration {
        let way = self.plan.latency + self.plan.jitter;
        let is_full = members <= self.plan.clusters[cluster].full_mesh_limit;
        let hops = if is_full { Duration::ZERO } else { ms(500) + way * 6 };
        hops + match scene {
            Scene::Killed | Scene::Stopped => ms(100) + way * 6,
            Scene::CutOff | Scene::Frozen => ms(3_200) + way * 10,
            Scene::Deaf | Scene::Mute => ms(5_200) + way * 16,
        }
    }

    /// Whom to disturb, and who is to notice: members of one cluster that agree.
    fn cast(&mut self) -> Option<(Pid, Vec<Pid>)> {
        let joined: Vec<Pid> = self
            .living()
            .into_iter()
            .filter(|pid| self.processes[*pid].machine.state() == State::Joined)
            .filter(|pid| {
                // Sides that an operator has to join again are no matter of time.
                self.plan.clusters[self.nodes[self.processes[*pid].node].cluster].autoheal
            })
            .collect();
        let victim = *joined.choose(&mut self.rng)?;
        let listed: BTreeSet<NodeName> = self.processes[victim]
            .machine
            .table()
            .members()
            .filter(|record| record.is_running())
            .map(|record| record.node.clone())
            .collect();
        let others: Vec<Pid> = joined
            .into_iter()
            .filter(|pid| *pid != victim && listed.contains(&self.processes[*pid].name))
            .collect();
        (!others.is_empty() && others.len() + 1 == listed.len()).then_some((victim, others))
    }
}
