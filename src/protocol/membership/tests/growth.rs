//! What a cluster costs as it grows, and how fast many deaths at once are agreed on.

use super::*;

impl Net {
    fn formed(n: u64) -> Self {
        let mut net = Self::new();
        for index in 1..=n {
            net.start(settings(index, true), Durable::default());
        }
        net.discover_all();
        net
    }

    fn until(&mut self, most: Duration, mut done: impl FnMut(&Self) -> bool) -> Duration {
        let start = self.now;
        while !done(self) {
            assert!(self.now - start < most, "not within {most:?}");
            self.run(Duration::from_millis(20));
        }
        self.now - start
    }

    fn agree_on(&self, running: usize) -> bool {
        let hashes: BTreeSet<u64> = self.nodes.values().map(Membership::view_hash).collect();
        let counts = self.nodes.values().map(|machine| machine.table().running_count());
        hashes.len() == 1 && counts.into_iter().all(|count| count == running)
    }
}

#[test]
fn the_death_of_half_is_agreed_on_within_a_second() {
    let mut net = Net::formed(200);
    net.until(Duration::from_secs(10), |net| net.agree_on(200));
    net.run(Duration::from_secs(12));
    let doomed: BTreeSet<NodeName> = (1..=200).step_by(2).map(name).collect();
    net.nodes.retain(|node, _| !doomed.contains(node));
    net.cut(|a, b| doomed.contains(a) || doomed.contains(b));
    let took = net.until(Duration::from_secs(10), |net| net.agree_on(100));
    assert!(took <= Duration::from_secs(1), "{took:?}");
}

/// Dials, frames and records read are what a member's processor time goes to while the
/// cluster forms.
#[test]
fn forming_costs_a_member_little_more_where_they_are_many() {
    let cost = |n: u64| {
        let mut net = Net::formed(n);
        let took = net.until(Duration::from_secs(10), |net| net.agree_on(n as usize));
        let each = |count: usize| count / n as usize;
        (took, each(net.dialled), each(net.frames), each(net.read))
    };
    let (few, many) = (cost(50), cost(200));
    let (took, dialled, frames, read) = many;
    assert!(took <= Duration::from_secs(1), "{took:?}");
    assert!(dialled <= few.1, "dials: {few:?}, {many:?}");
    assert!(frames <= 3 * few.2, "frames: {few:?}, {many:?}");
    assert!(read <= 10 * few.3, "records: {few:?}, {many:?}");
}
