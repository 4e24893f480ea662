//! The six invariants, each a function of what happened and of nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use muster::node::{ClusterId, Incarnation, NodeName};
use muster::protocol::membership::{Action, Epoch, Health, Reason, RequestId, Standing, State};

use crate::history::{Fact, History, Pid, View};

/// A broken invariant, and where.
#[derive(Debug)]
pub struct Violation {
    pub invariant: &'static str,
    pub step: u64,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken at step {}: {}", self.invariant, self.step, self.text)
    }
}

type Verdict = Result<(), Violation>;

/// All of them.
pub const CHECKS: [fn(&History) -> Verdict; 10] = [
    one_view_after_the_faults,
    started_at_once_is_one_cluster,
    who_left_stays_out,
    clusters_never_mix,
    nobody_reachable_is_removed,
    reports_are_in_order,
    requests_are_answered,
    tables_keep_their_bounds,
    who_is_not_admitted_changes_nothing,
    troubles_are_known_in_time,
];

fn broken(invariant: &'static str, step: u64, text: String) -> Verdict {
    Err(Violation { invariant, step, text })
}

/// Who each process is.
fn names(history: &History) -> BTreeMap<Pid, NodeName> {
    history
        .facts
        .iter()
        .filter_map(|(.., fact)| match fact {
            Fact::Start { pid, node, .. } => Some((*pid, node.clone())),
            _ => None,
        })
        .collect()
}

/// (1) After the faults stop, all live agents of one cluster agree on one view.
pub fn one_view_after_the_faults(history: &History) -> Verdict {
    match agreement(&history.end) {
        Ok(()) => Ok(()),
        Err(text) => broken("invariant 1 (one view)", history.steps, text),
    }
}

/// Whether live agents that know of each other see the same members: each other, and
/// nobody who is dead or has left.
pub fn agreement(end: &[View]) -> Result<(), String> {
    for view in end.iter().filter(|view| view.rightful) {
        if view.conflict {
            return Err(format!("{} believes that its name is taken", view.node));
        }
        if view.state == State::Forming && view.discovers {
            return Err(format!("{} is still forming", view.node));
        }
    }
    let joined: Vec<&View> =
        end.iter().filter(|view| view.rightful && view.state == State::Joined).collect();
    for left in end.iter().filter(|view| view.rightful && view.state == State::Left) {
        for view in joined.iter().filter(|view| view.cluster == left.cluster) {
            if view.members.iter().any(|(node, ..)| *node == left.node) {
                return Err(format!("{} left, and {} lists it", left.node, view.node));
            }
        }
    }
    for group in groups(&joined) {
        agree(&group)?;
    }
    Ok(())
}

/// Agents that should be one cluster: who knows or discovers whom, transitively.
fn groups<'a>(joined: &[&'a View]) -> Vec<Vec<&'a View>> {
    let knows = |a: &View, b: &View| {
        let listed = a.members.iter().any(|(node, ..)| *node == b.node);
        a.cluster == b.cluster && (a.contacts.contains(&b.node) || (listed && a.id == b.id))
    };
    let mut left: Vec<&View> = joined.to_vec();
    let mut groups = Vec::new();
    while let Some(first) = left.pop() {
        let mut group = vec![first];
        let mut next = 0;
        while next < group.len() {
            let (near, far): (Vec<&View>, Vec<&View>) = left
                .into_iter()
                .partition(|other| knows(group[next], other) || knows(other, group[next]));
            group.extend(near);
            left = far;
            next += 1;
        }
        group.sort_by(|a, b| a.node.cmp(&b.node));
        groups.push(group);
    }
    groups
}

fn agree(group: &[&View]) -> Result<(), String> {
    let Some(first) = group.first() else { return Ok(()) };
    for view in group {
        let alive: BTreeMap<&NodeName, &View> = group.iter().map(|v| (&v.node, *v)).collect();
        if view.id != first.id {
            let (a, b) = (&first.node, &view.node);
            return Err(format!("{a} is in cluster {:?}, {b} in {:?}", first.id, view.id));
        }
        for (node, boot, health) in &view.members {
            match (alive.get(node), health) {
                (Some(live), Health::Up) if live.boot == *boot => {}
                (Some(_), _) => {
                    return Err(format!(
                        "{} says that live {node} is {health:?} ({boot})",
                        view.node
                    ));
                }
                (None, Health::Down | Health::Unknown) => {}
                (None, _) => {
                    return Err(format!("{} says that dead {node} is {health:?}", view.node));
                }
            }
        }
        if let Some(missing) =
            alive.keys().find(|node| !view.members.iter().any(|(member, ..)| member == **node))
        {
            return Err(format!("{} does not list {missing}", view.node));
        }
        if view.hash != first.hash {
            return Err(format!("{} and {} have different views", first.node, view.node));
        }
        if view.content != first.content {
            return Err(format!("{} and {} hold different records", first.node, view.node));
        }
        if view.disagreeing > 0 {
            return Err(format!("{} believes that others disagree", view.node));
        }
    }
    Ok(())
}

/// (2) Agents started at once are one cluster: quickly, and nobody is ever said down
/// or suspect where nothing goes wrong.
pub fn started_at_once_is_one_cluster(history: &History) -> Verdict {
    const NAME: &str = "invariant 2 (one cluster from the start)";
    if !history.faultless {
        return Ok(());
    }
    let until = history.scene_at.unwrap_or(Duration::MAX);
    for (_, step, fact) in history.facts.iter().take_while(|(at, ..)| *at < until) {
        if let Fact::News(pid, news) = fact
            && !matches!(news.to, Standing::Member(Health::Up))
        {
            return broken(NAME, *step, format!("process {pid} reports {news:?}"));
        }
    }
    let ids: BTreeSet<(&str, Option<ClusterId>)> = history
        .end
        .iter()
        .filter(|view| !view.contacts.is_empty())
        .map(|view| (view.cluster.as_str(), view.id))
        .collect();
    let clusters: BTreeSet<&str> = ids.iter().map(|(cluster, _)| *cluster).collect();
    if ids.len() > clusters.len() {
        return broken(NAME, history.steps, format!("several clusters: {ids:?}"));
    }
    Ok(())
}

/// An operator's wish that may bring a node back works for so long.
const PENDING: Duration = Duration::from_secs(10);

/// (3) What left or was removed never returns except by its own join.
pub fn who_left_stays_out(history: &History) -> Verdict {
    const NAME: &str = "invariant 3 (who left stays out)";
    let names = names(history);
    // What each node has said of itself: the highest epoch in which it was a member.
    let mut own: BTreeMap<&NodeName, Epoch> = BTreeMap::new();
    // What others have made up, or kept from before.
    let mut hearsay: BTreeMap<&NodeName, Epoch> = BTreeMap::new();
    // Tombstones by observer and node.
    let mut buried: BTreeMap<(Pid, &NodeName), Epoch> = BTreeMap::new();
    let mut asked: BTreeMap<RequestId, (&NodeName, &Action, Duration)> = BTreeMap::new();
    // Nodes that left for good, and when somebody last wanted them back.
    let mut out: BTreeSet<&NodeName> = BTreeSet::new();
    let mut wanted: BTreeMap<&NodeName, Duration> = BTreeMap::new();
    // Nodes whose last word of themselves is that they are members.
    let mut members: BTreeSet<&NodeName> = BTreeSet::new();
    // Second processes: what an operator asks of the first is nothing to them.
    let mut rogues: BTreeSet<Pid> = BTreeSet::new();
    for (at, step, fact) in &history.facts {
        match fact {
            Fact::Start { pid, rogue: true, .. } => {
                rogues.insert(*pid);
            }
            Fact::Start { node, amnesia: true, .. } => {
                out.remove(node);
            }
            Fact::Asked(pid, request, action) => {
                let node = &names[pid];
                asked.insert(*request, (node, action, *at));
                match action {
                    Action::Join { .. } | Action::SetDiscovery { enabled: true } => {
                        wanted.insert(node, *at);
                    }
                    Action::Invite { node } => {
                        wanted.insert(node, *at);
                    }
                    _ => {}
                }
            }
            Fact::Answered(_, request, Ok(())) => {
                if let Some((node, Action::Leave, at)) = asked.get(request) {
                    // A slow disk has both answered late: the leave, and the join after it.
                    let back = wanted.get(node).is_some_and(|wanted| wanted > at);
                    if !(back && members.contains(node)) {
                        out.insert(node);
                    }
                }
            }
            Fact::Own { pid, standing: Standing::Member(_), epoch, .. } => {
                let node = &names[pid];
                let best = own.entry(node).or_default();
                *best = (*best).max(*epoch);
                let may = wanted.get(node).is_some_and(|asked| *at <= *asked + PENDING + PENDING);
                if rogues.contains(pid) {
                    continue;
                }
                if out.contains(node) && !may {
                    let text = format!("{node} left, and is a member again in {epoch:?}");
                    return broken(NAME, *step, text);
                }
                out.remove(node);
                members.insert(node);
            }
            Fact::Own { pid, .. } if !rogues.contains(pid) => {
                members.remove(&names[pid]);
            }
            Fact::Hearsay { node, epoch } => {
                let best = hearsay.entry(node).or_default();
                *best = (*best).max(*epoch);
            }
            Fact::Held(pid, record) if record.is_member() => {
                let said = own.get(&record.node).max(hearsay.get(&record.node));
                if said.is_none_or(|said| *said < record.epoch) {
                    let text = format!("{} holds {record:?}, never said by it", names[pid]);
                    return broken(NAME, *step, text);
                }
                if buried.get(&(*pid, &record.node)).is_some_and(|epoch| record.epoch <= *epoch) {
                    let text = format!("{} holds {record:?} after a tombstone", names[pid]);
                    return broken(NAME, *step, text);
                }
            }
            Fact::Held(pid, record) => {
                buried.insert((*pid, &record.node), record.epoch);
            }
            Fact::Dropped(pid, node) => {
                buried.remove(&(*pid, node));
            }
            _ => {}
        }
    }
    Ok(())
}

/// (4) Different names and, in manual mode, cluster ids never mix.
pub fn clusters_never_mix(history: &History) -> Verdict {
    const NAME: &str = "invariant 4 (clusters never mix)";
    let mut home: BTreeMap<&NodeName, &str> = BTreeMap::new();
    let mut process: BTreeMap<Pid, (&NodeName, bool)> = BTreeMap::new();
    let mut id_of: BTreeMap<Pid, ClusterId> = BTreeMap::new();
    let mut ever: BTreeSet<(&NodeName, ClusterId)> = BTreeSet::new();
    let hearsay = hearsay(history);
    for (_, _, fact) in &history.facts {
        if let Fact::Start { pid, node, cluster, automatic, .. } = fact {
            home.insert(node, cluster);
            process.insert(*pid, (node, *automatic));
        }
    }
    for (_, step, fact) in &history.facts {
        match fact {
            Fact::Own { pid, id: Some(id), .. } => {
                id_of.insert(*pid, *id);
                ever.insert((process[pid].0, *id));
            }
            Fact::Own { pid, id: None, .. } => {
                id_of.remove(pid);
            }
            Fact::Held(pid, record) if record.is_member() && !hearsay.contains(&record.node) => {
                let (node, automatic) = process[pid];
                if home.get(&record.node) != home.get(node) {
                    let text = format!("{node} takes {} for a member", record.node);
                    return broken(NAME, *step, text);
                }
                if let Some(id) = id_of.get(pid)
                    && !automatic
                    && !ever.contains(&(&record.node, *id))
                {
                    let text = format!("{node} in {id} takes {} for a member", record.node);
                    return broken(NAME, *step, text);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Nodes of which somebody said what they did not say themselves.
fn hearsay(history: &History) -> BTreeSet<&NodeName> {
    let said = history.facts.iter().filter_map(|(.., fact)| match fact {
        Fact::Hearsay { node, .. } => Some(node),
        _ => None,
    });
    said.collect()
}

/// Undisturbed for so long, a live member in reach has answered every suspicion.
const ANSWERED: Duration = Duration::from_secs(12);

/// (5) No live, reachable member is removed, but by an operator or by itself, and
/// whoever was down too long only by the side with most cores.
pub fn nobody_reachable_is_removed(history: &History) -> Verdict {
    const NAME: &str = "invariant 5 (nobody reachable is removed)";
    let names = names(history);
    let mut ordered: BTreeSet<(&NodeName, &NodeName)> = BTreeSet::new();
    let hearsay = hearsay(history);
    for (_, step, fact) in &history.facts {
        match fact {
            // A liar may remove, as an operator may, and in whose name it likes.
            Fact::Removed { victim, .. } if hearsay.contains(victim) => {}
            Fact::Asked(pid, _, Action::ForceLeave { node, .. }) => {
                ordered.insert((&names[pid], node));
            }
            Fact::Removed { pid, victim, standing, reachable, majority } => {
                let by = &names[pid];
                let wrong = match standing {
                    Standing::Autocleaned => {
                        !majority || reachable.is_some_and(|time| time > ANSWERED)
                    }
                    Standing::ForceLeft => !ordered.contains(&(by, victim)),
                    Standing::Left => by != victim,
                    Standing::Member(_) => false,
                };
                if wrong {
                    let text = format!(
                        "{by}: {victim} {standing:?}, in reach for {reachable:?}, majority {majority}"
                    );
                    return broken(NAME, *step, text);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// How often a node has joined, and what it has said since.
type Life = (Epoch, Incarnation);

/// (6) No event is reported twice or out of order for one member. An incarnation counts
/// within one membership: whoever lost its disk starts anew.
pub fn reports_are_in_order(history: &History) -> Verdict {
    const NAME: &str = "invariant 6 (reports in order)";
    let mut last: BTreeMap<(Pid, &NodeName), (Standing, Life)> = BTreeMap::new();
    let down = Standing::Member(Health::Down);
    for (_, step, fact) in &history.facts {
        match fact {
            Fact::Start { pid, node, known, .. } => {
                let unseen = (Epoch(0), Incarnation(0));
                for member in known.iter().filter(|member| *member != node) {
                    last.insert((*pid, member), (down, unseen));
                }
                // Of itself a process reports no more than what else it says.
                last.insert((*pid, node), (Standing::Member(Health::Up), unseen));
            }
            Fact::News(pid, news) => {
                let before = last.get(&(*pid, &news.node)).copied();
                let from = before.and_then(|(standing, _)| standing.health());
                let life = (news.epoch, news.incarnation);
                let is_same = news.from == news.to.health();
                let wrong = if from != news.from {
                    Some("does not follow")
                } else if is_same && !matches!(news.reason, Reason::Restarted | Reason::Updated) {
                    Some("says nothing new")
                } else if !is_same && news.reason == Reason::Updated {
                    Some("hides a change of its health")
                } else if from.is_some() && before.is_some_and(|(_, earlier)| life < earlier) {
                    Some("is of an earlier life")
                } else {
                    None
                };
                if let Some(wrong) = wrong {
                    let text = format!("process {pid}: {news:?} {wrong}, before: {before:?}");
                    return broken(NAME, *step, text);
                }
                last.insert((*pid, &news.node), (news.to, life));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A request is answered within its time, and what is answered is the truth.
pub fn requests_are_answered(history: &History) -> Verdict {
    const NAME: &str = "every request is answered once";
    let mut waiting: BTreeMap<RequestId, (Pid, u64, Duration)> = BTreeMap::new();
    for (at, step, fact) in &history.facts {
        match fact {
            Fact::Asked(pid, request, _) => {
                waiting.insert(*request, (*pid, *step, *at));
            }
            Fact::Answered(pid, request, result) => {
                let Some(_) = waiting.remove(request) else {
                    let text = format!("process {pid} answers {request:?} with {result:?}");
                    return broken(NAME, *step, text);
                };
            }
            Fact::End(pid) => waiting.retain(|_, (asked, ..)| asked != pid),
            _ => {}
        }
    }
    let due = |at: Duration| at + Duration::from_secs(10) < history.ended_at;
    match waiting.iter().find(|(_, (.., at))| due(*at)) {
        Some((request, (pid, step, _))) => {
            broken(NAME, *step, format!("process {pid} never answered {request:?}"))
        }
        None => Ok(()),
    }
}

/// No table holds more than its bound.
pub fn tables_keep_their_bounds(history: &History) -> Verdict {
    first(history, "tables keep their bounds", |fact| match fact {
        Fact::Overfull { pid, text } => Some(format!("process {pid} holds {text}")),
        _ => None,
    })
}

/// What a peer says that was not admitted changes nothing that anybody is shown.
pub fn who_is_not_admitted_changes_nothing(history: &History) -> Verdict {
    first(history, "who is not admitted changes nothing", |fact| match fact {
        Fact::Swayed { pid, text } => Some(format!("process {pid}: {text}")),
        _ => None,
    })
}

/// What happens to one node in quiet times is known in time, to it too.
pub fn troubles_are_known_in_time(history: &History) -> Verdict {
    first(history, "troubles are known in time", |fact| match fact {
        Fact::Scene { text, took, bound } if took.is_none_or(|took| took > *bound) => {
            Some(format!("{text}: {took:?}, bound {bound:?}"))
        }
        _ => None,
    })
}

/// The first fact that is wrong in itself.
fn first(
    history: &History,
    invariant: &'static str,
    wrong: impl Fn(&Fact) -> Option<String>,
) -> Verdict {
    let found = history.facts.iter().find_map(|(_, step, fact)| Some((*step, wrong(fact)?)));
    match found {
        Some((step, text)) => broken(invariant, step, text),
        None => Ok(()),
    }
}

// Named, since the scale bench reads this file from elsewhere.
#[cfg(test)]
#[path = "checks/tests.rs"]
mod tests;
