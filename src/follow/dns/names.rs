//! Looks up the hosts that are names, apart from the queries: no answer waits for another
//! name server.
//!
//! No task of its own: one future of the server's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::table::{self, Hosts};
use crate::notices::Notices;
use crate::resolve::Resolver;
use crate::view::Snapshot;

/// Between two look-ups of a name: as long as resolvers keep the usual answer.
const AGAIN: Duration = Duration::from_secs(30);

/// Between two of a name that was not found.
const RETRY: Duration = Duration::from_secs(5);

/// Longest wait for one.
const LONGEST: Duration = Duration::from_secs(5);

/// Look-ups under way at one time.
const AT_ONCE: usize = 4;

/// Keeps the addresses of every host of the newest snapshot that is a name. What was
/// found stays until another look-up finds something else: a name server that is away
/// takes nobody out of the answers.
pub(super) async fn follow(
    mut snapshot: watch::Receiver<Arc<Snapshot>>,
    resolver: Resolver,
    found: watch::Sender<Arc<Hosts>>,
    notices: Arc<Notices>,
) {
    let mut due = Instant::now();
    let mut known: BTreeSet<String> = BTreeSet::new();
    loop {
        let wanted = table::names(&snapshot.borrow_and_update());
        let all = Instant::now() >= due;
        let ask: Vec<String> =
            wanted.iter().filter(|name| all || !known.contains(*name)).cloned().collect();
        if !ask.is_empty() || wanted != known {
            let mut hosts = Hosts::clone(&found.borrow());
            hosts.retain(|name, _| wanted.contains(name));
            let resolver = &resolver;
            let mut answers = futures_util::stream::iter(ask)
                .map(async |name| {
                    let answer = timeout(LONGEST, resolver.lookup(&name)).await;
                    (name, answer.ok().and_then(Result::ok))
                })
                .buffer_unordered(AT_ONCE);
            while let Some((name, answer)) = answers.next().await {
                if let Some(addresses) = answer {
                    hosts.insert(name, addresses);
                }
            }
            drop(answers);
            let missing: Vec<&str> = wanted
                .iter()
                .filter(|name| hosts.get(*name).is_none_or(Vec::is_empty))
                .map(String::as_str)
                .collect();
            say(&notices, &missing);
            let next = Instant::now() + if missing.is_empty() { AGAIN } else { RETRY };
            due = if all { next } else { due.min(next) };
            if **found.borrow() != hosts {
                found.send_replace(Arc::new(hosts));
            }
            known = wanted;
        } else if all {
            due = Instant::now() + AGAIN;
        }
        tokio::select! {
            // Without a publisher there is nothing to follow.
            changed = snapshot.changed() => if changed.is_err() { return },
            () = sleep_until(due) => {}
        }
    }
}

fn say(notices: &Notices, missing: &[&str]) {
    if missing.is_empty() {
        return notices.clear("dns_hosts");
    }
    let some: Vec<&str> = missing.iter().take(8).copied().collect();
    let text = format!(
        "no address is known of {}: the DNS answers leave them out; name the brokers' hosts \
         (agent.broker.address) so that this machine can resolve them",
        some.join(", ")
    );
    notices.set("dns_hosts", &text);
}
