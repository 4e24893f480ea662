//! Much to tell over a link that takes little.

use std::time::Duration;

use muster::protocol::membership::Settings;

use crate::calm;
use crate::checks::CHECKS;
use crate::plan::Plan;
use crate::world::World;

/// What one has and the other has not.
const RECORDS: usize = 9_000;

/// Bytes that the link takes in a second.
const BANDWIDTH: u64 = 400_000;

/// FAULTS: what was told at once was dropped where the link's queue was full, and never told
/// again.
#[test]
fn nine_thousand_records_over_a_narrow_link_arrive_whole() {
    let mut plan = Plan { chaos: Duration::ZERO, ..Plan::basic(4) };
    plan.clusters.truncate(1);
    plan.clusters[0].automatic = true;
    plan.clusters[0].full_mesh_limit = 64;
    plan.clusters[0].whole_view_limit = Settings::WHOLE_VIEW;
    plan.nodes.truncate(2);
    for node in &mut plan.nodes {
        node.cluster = 0;
        node.start = Duration::ZERO;
    }
    plan.latency = Duration::from_millis(5);
    plan.queue = 64;
    plan.bandwidth = Some(BANDWIDTH);
    plan.tombstones = RECORDS;
    // A seed that fills the first disk.
    let mut worlds = (0..32).map(|seed| World::new(Plan { seed, ..plan.clone() }, false));
    let is_full = |world: &World| world.nodes[0].disk.records.len() == RECORDS;
    let mut world = worlds.find(is_full).unwrap();
    world.nodes[1].disk.records.clear();
    let outcome = calm::run_world(world);
    for check in CHECKS {
        assert!(check(&outcome.history).is_ok(), "{:?}", check(&outcome.history));
    }
    assert!(!outcome.fired.contains_key("frame dropped: queue full"), "{:?}", outcome.fired);
    let took = outcome.agreed_after.unwrap();
    println!("{RECORDS} records over {BANDWIDTH} bytes a second in {took:?}");
    // Some 100 bytes each, and as much again for the hashes and the ways.
    let least = Duration::from_secs(RECORDS as u64 * 100 / BANDWIDTH);
    assert!(took <= least * 3, "{took:?}");
}
