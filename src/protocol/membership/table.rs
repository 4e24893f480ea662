//! Every record this node holds: members and tombstones, with the hash over the members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::door;
use super::message::{BUCKETS, BUCKETS_V1, Version};
use super::record::{Health, Record};
use crate::attributes::Attributes;
use crate::node::{ClusterId, NodeName, Role};

/// How this node came to know of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It linked with it, or knows it from an operator, from discovery or from the disk.
    Known,
    /// This member told it first, and no link has proven it since.
    Brought(NodeName),
}

/// A record and when this node began to hold its standing.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The record.
    pub record: Record,
    /// Since when it is running, or not running.
    pub since: Duration,
    /// How this node came to know of it.
    pub origin: Origin,
}

/// What became of a record that was offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is what the table holds, or less of the same.
    Known,
    /// The table holds better.
    Stale,
    /// There is no room for another node.
    Full,
    /// The table holds it now; it replaced this one.
    New(Option<Record>),
}

/// The records, and what is computed of them.
#[derive(Clone, Debug, Default)]
pub struct Table {
    entries: BTreeMap<NodeName, Entry>,
    /// Tombstones in the order of their burials.
    tombstones: BTreeSet<(u64, NodeName)>,
    most_members: usize,
    most_tombstones: usize,
    /// Running members that no link has proven.
    brought: BTreeSet<NodeName>,
    members: usize,
    /// Members that are not running: few, and looked over every second.
    stopped: BTreeSet<NodeName>,
    buckets: Vec<u64>,
    buckets_v1: Vec<u64>,
    /// All buckets in one.
    all: u64,
    /// The highest burial held.
    burials: u64,
}

impl Table {
    /// An empty table with room for so many.
    #[must_use]
    pub fn new(most_members: usize, most_tombstones: usize) -> Self {
        Self {
            most_members,
            most_tombstones,
            buckets: vec![0; BUCKETS],
            buckets_v1: vec![0; BUCKETS_V1],
            ..Self::default()
        }
    }

    /// The record of a node, member or tombstone.
    #[must_use]
    pub fn get(&self, node: &NodeName) -> Option<&Record> {
        self.entries.get(node).map(|entry| &entry.record)
    }

    /// The record of a member.
    #[must_use]
    pub fn member(&self, node: &NodeName) -> Option<&Record> {
        self.get(node).filter(|record| record.is_member())
    }

    /// Every entry, tombstones among them, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The members, by name.
    pub fn members(&self) -> impl Iterator<Item = &Record> {
        self.entries.values().map(|entry| &entry.record).filter(|record| record.is_member())
    }

    /// How many members there are.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.members
    }

    /// How many members are up or suspect.
    #[must_use]
    pub fn running_count(&self) -> usize {
        self.members - self.stopped.len()
    }

    /// The members that are not running, by name.
    pub fn stopped(&self) -> impl Iterator<Item = &NodeName> {
        self.stopped.iter()
    }

    /// How many records there are, tombstones among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no record at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many tombstones there are.
    #[must_use]
    pub fn tombstone_count(&self) -> usize {
        self.tombstones.len()
    }

    /// How this node came to know of a node.
    #[must_use]
    pub fn origin(&self, node: &NodeName) -> Option<&Origin> {
        self.entries.get(node).map(|entry| &entry.origin)
    }

    /// Running members that no link has proven, by name.
    pub fn unproven(&self) -> impl Iterator<Item = &NodeName> {
        self.brought.iter()
    }

    /// How many these are.
    #[must_use]
    pub fn unproven_count(&self) -> usize {
        self.brought.len()
    }

    /// Whether no link has proven a node.
    #[must_use]
    pub fn is_unproven(&self, node: &NodeName) -> bool {
        matches!(self.origin(node), Some(Origin::Brought(_)))
    }

    /// A link with a node, or somebody whom this node trusts, proves that it is real.
    /// True: it was not proven before.
    pub fn prove(&mut self, node: &NodeName) -> bool {
        self.brought.remove(node);
        let entry = self.entries.get_mut(node);
        entry.is_some_and(|entry| {
            std::mem::replace(&mut entry.origin, Origin::Known) != Origin::Known
        })
    }

    /// Takes what a record adds to the one held; `origin` counts for a node not held yet.
    pub fn apply(&mut self, now: Duration, record: &Record, origin: &Origin) -> Applied {
        let (joined, since, origin) = match self.entries.get(&record.node) {
            Some(held) => {
                let joined = held.record.join(record);
                if joined.same_as(&held.record) {
                    let known = record.same_news(&held.record);
                    return if known { Applied::Known } else { Applied::Stale };
                }
                let same = held.record.is_running() == joined.is_running();
                (joined, if same { held.since } else { now }, held.origin.clone())
            }
            None => (record.clone(), now, origin.clone()),
        };
        let is_new = self.member(&record.node).is_none();
        if joined.is_member() && is_new && self.members >= self.most_members {
            return Applied::Full;
        }
        // Also of a member: it would be forgotten with its tombstone, and learned again.
        if !joined.is_member() && self.would_be_evicted(&joined) {
            return Applied::Full;
        }
        let before = self.remove(&record.node);
        self.insert(Entry { record: joined, since, origin });
        self.evict();
        Applied::New(before.map(|entry| entry.record))
    }

    /// Holds what was held of a member before, whatever was found out since: nobody else
    /// heard of that.
    pub fn put_back(&mut self, now: Duration, before: &Record) {
        if let Some(entry) = self.remove(&before.node) {
            self.insert(Entry { record: before.clone(), since: now, ..entry });
        }
    }

    /// A member that is down to the cluster has shown that its process lives: the time
    /// after which it is cleaned away begins anew.
    pub fn seen(&mut self, now: Duration, node: &NodeName) {
        if let Some(entry) = self.entries.get_mut(node)
            && entry.record.health() == Some(Health::Down)
        {
            entry.since = now;
        }
    }

    /// Forgets everything said of everybody.
    pub fn clear(&mut self) {
        *self = Self::new(self.most_members, self.most_tombstones);
    }

    /// Whether a tombstone would be the first to go.
    pub(super) fn would_be_evicted(&self, tombstone: &Record) -> bool {
        self.tombstones.len() >= self.most_tombstones
            && self
                .tombstones
                .first()
                .is_some_and(|(burial, node)| (tombstone.burial, &tombstone.node) < (*burial, node))
    }

    /// Whoever was buried first is forgotten first, here as everywhere.
    fn evict(&mut self) {
        while self.tombstones.len() > self.most_tombstones
            && let Some((_, oldest)) = self.tombstones.first().cloned()
        {
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, node: &NodeName) -> Option<Entry> {
        let entry = self.entries.remove(node)?;
        self.account(&entry, false);
        Some(entry)
    }

    fn insert(&mut self, mut entry: Entry) {
        if entry.record.by == entry.record.node {
            // One text instead of two: in large clusters names are half of the memory.
            entry.record.by = entry.record.node.clone();
        }
        self.account(&entry, true);
        self.entries.insert(entry.record.node.clone(), entry);
    }

    fn account(&mut self, entry: &Entry, add: bool) {
        let record = &entry.record;
        let place = place(&record.node);
        let digest = digest(record);
        self.buckets[place % BUCKETS] ^= digest;
        self.all ^= digest;
        self.burials = self.burials.max(record.burial);
        if !record.is_member() {
            let tombstone = (record.burial, record.node.clone());
            if add {
                self.tombstones.insert(tombstone);
            } else {
                self.tombstones.remove(&tombstone);
            }
            return;
        }
        if add && record.is_running() && entry.origin != Origin::Known {
            self.brought.insert(record.node.clone());
        } else {
            self.brought.remove(&record.node);
        }
        self.members = if add { self.members + 1 } else { self.members - 1 };
        if !record.is_running() {
            if add {
                self.stopped.insert(record.node.clone());
            } else {
                self.stopped.remove(&record.node);
            }
        }
        self.buckets_v1[place % BUCKETS_V1] ^= digest_v1(record);
    }

    /// The burial of whatever is buried next.
    #[must_use]
    pub fn next_burial(&self) -> u64 {
        self.burials.saturating_add(1)
    }

    /// Hash over what all members should agree on. In version 2 that is the cluster and all
    /// that is held of every node, but for opinions: a suspicion does not count. In version
    /// 1 it is, for each member, its epoch, incarnation, process life and whether it runs.
    #[must_use]
    pub fn view_hash(&self, id: Option<ClusterId>, version: Version) -> u64 {
        let mut hash = Fnv::default();
        hash.write(&id.map_or(0, |id| id.0).to_be_bytes());
        match version {
            Version::V1 => self.buckets_v1.iter().for_each(|part| hash.write(&part.to_be_bytes())),
            Version::V2 => hash.write(&self.all.to_be_bytes()),
        }
        hash.finish()
    }

    /// The hashes of the parts that [`Table::in_buckets`] lists.
    #[must_use]
    pub fn digest(&self, version: Version) -> &[u64] {
        match version {
            Version::V1 => &self.buckets_v1,
            Version::V2 => &self.buckets,
        }
    }

    /// The part that a node's record is in.
    pub(super) fn bucket(node: &NodeName, version: Version) -> u8 {
        let count = match version {
            Version::V1 => BUCKETS_V1,
            Version::V2 => BUCKETS,
        };
        (place(node) % count) as u8
    }

    /// Every record of some parts, tombstones among them. A part is there once for each
    /// hash of [`Table::digest`]; those of no number are nobody's.
    pub fn in_buckets<'a>(
        &'a self,
        wanted: &'a BTreeSet<u8>,
        version: Version,
    ) -> impl Iterator<Item = &'a Record> {
        self.entries
            .values()
            .map(|entry| &entry.record)
            .filter(move |record| wanted.contains(&Self::bucket(&record.node, version)))
    }

    /// Whether more than half of the cores are running of those that are on any side: who
    /// stopped by its own word is on none.
    #[must_use]
    pub fn majority(&self) -> bool {
        let (mut known, mut running) = (0, 0);
        let counts = |record: &&Record| record.role == Role::Core && !record.has_stopped();
        for record in self.members().filter(counts) {
            known += 1;
            running += usize::from(record.is_running());
        }
        running * 2 > known
    }

    /// The first core, by name, that is up: the one that acts for all.
    #[must_use]
    pub fn first_core_up(&self) -> Option<&NodeName> {
        self.members()
            .find(|r| r.role == Role::Core && r.health() == Some(Health::Up))
            .map(|record| &record.node)
    }
}

/// Where among the buckets a node name is.
fn place(node: &NodeName) -> usize {
    let mut hash = Fnv::default();
    hash.write(node.as_str().as_bytes());
    (hash.finish() % BUCKETS as u64) as usize
}

fn digest_v1(record: &Record) -> u64 {
    let mut hash = Fnv::default();
    hash.write(record.node.as_str().as_bytes());
    hash.write(&[0, u8::from(record.is_running())]);
    hash.write(&record.epoch.0.to_be_bytes());
    hash.write(&record.incarnation.0.to_be_bytes());
    hash.write(&record.boot.0.to_be_bytes());
    hash.finish()
}

fn digest(record: &Record) -> u64 {
    let mut hash = Fnv::default();
    hash.write(record.node.as_str().as_bytes());
    hash.write(&[0, record.standing.rank()]);
    if door::is_driven(record) {
        return hash.finish();
    }
    hash.write(&record.epoch.0.to_be_bytes());
    hash.write(&record.boot.0.to_be_bytes());
    if !record.is_member() {
        hash.write(&record.burial.to_be_bytes());
        return hash.finish();
    }
    hash.write(&[u8::from(record.is_running()), u8::from(record.has_stopped())]);
    hash.write(&record.incarnation.0.to_be_bytes());
    if let Some(attributes) = &record.attributes {
        hash_attributes(&mut hash, attributes);
    }
    hash.finish()
}

/// Every text with its length before it, so that no two sets of attributes look alike.
fn hash_attributes(hash: &mut Fnv, attributes: &Attributes) {
    let mut text = |text: &str| {
        hash.write(&(text.len() as u64).to_be_bytes());
        hash.write(text.as_bytes());
    };
    for (name, value) in attributes.tags.iter() {
        text(name);
        text(value);
    }
    text(if attributes.draining.is_some() { "draining" } else { "" });
    text(attributes.draining.as_deref().unwrap_or_default());
    if let Some(broker) = &attributes.broker {
        text(&broker.address);
        text(broker.status.name());
        text(&broker.detail);
    }
}

/// FNV-1a of 64 bits with a final mix: the same on every machine and release,
/// which the standard library's hasher does not promise.
#[derive(Debug)]
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(super) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) fn finish(&self) -> u64 {
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        mixed ^ (mixed >> 33)
    }
}
