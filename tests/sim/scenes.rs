//! Every trouble of one node in quiet times, over ways of every length and at any moment of
//! the others' rounds. Histories come to few of these, since each draws one of them at most.

use std::time::Duration;

use crate::plan::{Plan, Scene};
use crate::{history, number};

/// One way in milliseconds.
const LATENCIES: [u64; 4] = [0, 10, 100, 300];

const SCENES: [Scene; 6] =
    [Scene::CutOff, Scene::Deaf, Scene::Mute, Scene::Killed, Scene::Frozen, Scene::Stopped];

/// Of each scene at each latency.
const TIMES: u64 = 10;

/// Seeds 68 and 94 at 300 ms: a link is young for many rounds of probes, and was held for much
/// longer than it is meanwhile.
#[test]
fn every_trouble_of_one_node_is_known_in_time() {
    let (from, times) = (number("SIM_FROM").unwrap_or(60), number("SIM_SCENES").unwrap_or(TIMES));
    let mut late = Vec::new();
    for scene in SCENES {
        for latency in LATENCIES.map(Duration::from_millis) {
            for seed in from..from + times {
                let draw = |seed| Plan { scene: Some(scene), latency, ..Plan::undisturbed(seed) };
                if let Err(text) = history(seed, draw) {
                    late.push(format!("{scene:?}, {latency:?} each way: {text}"));
                }
            }
        }
    }
    let first = late.first().map(String::as_str).unwrap_or_default();
    assert!(late.is_empty(), "{} of {}: {first}", late.len(), times * 24);
}
