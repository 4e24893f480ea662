//! The one door for what peers say.
//!
//! A [`Record`] out of a message is a claim that anybody may have made up. [`admit`] weighs
//! it against who brought it and against what is held, and only what it lets through, an
//! [`Admitted`], can be learned.
//!
//! 1. What a node says of itself, over its own link, counts, within the range of numbers.
//! 2. While a node's own link brings something, nobody else speaks in its name, and nobody
//!    accuses it in an incarnation that it has not told us of: it would have told us first.
//!    Others may still accuse it, in the incarnation that it is in, and remove it.
//! 3. Of anybody else's node a peer may say what it likes, as news of news, within numbers
//!    that no honest growth reaches in thousands of years.
//!
//! A number that one member believes the others must believe too, whatever they hold, or
//! their views would differ for ever: so the ranges of rule 3 depend on the statement
//! alone. Only beyond them does it count what is held: a few steps further, since a node
//! whose numbers a liar has driven to the end of a range answers there. Who has not heard
//! of that refuses the answer, and asks the node itself. A node that is down cannot be
//! asked: its numbers count as the end of the range, and how far beyond they are is no part
//! of the view ([`is_driven`]). Tombstones have the widest range: whatever state a liar made
//! of a name, an operator's removal of it is believed by all, and one at the range's end or
//! beyond ends whatever else is said there of a node that is gone. No statement comes near the
//! end of a type.

use super::record::{Epoch, Record, Standing};
use crate::node::{BootId, Incarnation, NodeName};

/// Highest epoch, incarnation and burial that is ever believed; what remains up to the
/// type's end is for answers to it.
const TOP: u64 = 1 << 63;

/// Highest epoch and incarnation that is believed of a node over its own link, whatever is
/// held, and of the end of its membership from anybody.
const HIGHEST: u64 = 1 << 62;

/// Highest incarnation that anybody may tell of another's node, whatever is held: thirty
/// thousand years of a change in every second.
const RELAYED_INCARNATION: u64 = 1 << 40;

/// Highest epoch that anybody may tell of another's node, whatever is held.
const RELAYED_EPOCH: u64 = 1 << 32;

/// Beyond these an incarnation may be ahead of the one that is held by so much: half a year
/// of a change in every second, all of it missed.
const INCARNATIONS_AHEAD: u64 = 1 << 24;

/// By so much an epoch may be ahead of the one that is held: as many joins, all missed.
const EPOCHS_AHEAD: u64 = 1 << 16;

/// Highest epoch of which the end is believed, from anybody: beyond whatever a node said of
/// itself, and what that was answered.
const TOMBSTONES: u64 = HIGHEST + 2 * EPOCHS_AHEAD;

/// By so much a burial may be ahead of the highest that is held.
const BURIALS_AHEAD: u64 = 1 << 24;

/// A statement that may be learned.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    record: Record,
    /// Its numbers were beyond the range, and are the range's end now.
    pub(super) is_capped: bool,
}

impl Admitted {
    pub(super) fn into_record(self) -> Record {
        self.record
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }
}

/// Why a statement is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Its numbers are no outcome of honest growth.
    Numbers,
    /// The node that it is about would have said it itself.
    NotItsOwn,
}

/// What a claim is weighed against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// Whose link brought it.
    pub speaker: &'a NodeName,
    /// Whether it is about this very node, which has to answer whatever others believe.
    pub is_me: bool,
    /// What is held of the node it is about.
    pub held: Option<&'a Record>,
    /// The process at the other end of that node's own link, if it was heard just now.
    pub linked: Option<BootId>,
    /// The highest burial that is held.
    pub burials: u64,
    /// By which numbers the node goes by its own word, where it was turned away with it.
    pub vouched: Option<(Epoch, Incarnation)>,
}

/// Weighs a claim.
pub(super) fn admit(mut claim: Record, known: Known<'_>) -> Result<Admitted, Unfit> {
    let own = claim.node == *known.speaker;
    let is_capped = !life_is_sound(&claim, known);
    let is_gone = claim.is_member() && !claim.is_running();
    if !burial_is_sound(&claim, known) || is_capped && (own || known.is_me || !is_gone) {
        return Err(Unfit::Numbers);
    }
    if is_capped {
        // Whoever is gone cannot be asked itself.
        claim = match known.held.filter(|held| ends_driven(held, &claim)) {
            Some(held) => Record { epoch: claim.epoch, ..held.clone() },
            None => Record {
                epoch: claim.epoch.min(Epoch(RELAYED_EPOCH)),
                incarnation: claim.incarnation.min(Incarnation(RELAYED_INCARNATION)),
                ..claim
            },
        };
    }
    if own && claim.by != claim.node {
        return Err(Unfit::NotItsOwn);
    }
    if !own && known.linked.is_some() && !may_be_relayed(&claim, known.held) {
        return Err(Unfit::NotItsOwn);
    }
    if !claim.is_member() {
        // It says nothing of the tombstone, and is where the next life begins.
        let held = known.held.map_or(Incarnation(0), |held| held.incarnation);
        claim.incarnation = claim.incarnation.min(held.max(Incarnation(RELAYED_INCARNATION)));
    }
    Ok(Admitted { record: claim, is_capped })
}

fn burial_is_sound(claim: &Record, known: Known<'_>) -> bool {
    claim.burial <= known.burials.saturating_add(BURIALS_AHEAD).clamp(HIGHEST, TOP)
}

fn life_is_sound(claim: &Record, known: Known<'_>) -> bool {
    let is_own = claim.node == *known.speaker;
    let (epochs, incarnations) = match claim.is_member() {
        false => (TOMBSTONES, u64::MAX),
        true if known.is_me => (HIGHEST, HIGHEST),
        true if is_own => (HIGHEST + EPOCHS_AHEAD, HIGHEST + INCARNATIONS_AHEAD),
        true => (RELAYED_EPOCH, RELAYED_INCARNATION),
    };
    let is_vouched = |(epoch, incarnation): (Epoch, Incarnation)| {
        claim.epoch <= epoch && claim.incarnation <= incarnation
    };
    let ahead = |of: fn(&Record) -> u64, by: u64| {
        known.held.map_or(0, |held| of(held).saturating_add(by).min(TOP))
    };
    known.vouched.is_some_and(is_vouched)
        || claim.epoch.0 <= epochs.max(ahead(|held| held.epoch.0, EPOCHS_AHEAD))
            && claim.incarnation.0
                <= incarnations.max(ahead(|held| held.incarnation.0, INCARNATIONS_AHEAD))
}

/// Whether a tombstone holds against a claim whose numbers are cut to the range's end, since it
/// is of that end or beyond: then it ends all of the range, and its epoch has to be the claim's,
/// or whoever holds the claim would never believe it.
fn ends_driven(held: &Record, claim: &Record) -> bool {
    !held.is_member() && held.epoch.0 >= RELAYED_EPOCH && claim.epoch.0 <= TOMBSTONES
}

/// Whether a node may go by these numbers, as it says itself.
pub(super) fn is_its_own(said: &Record, held: &Record) -> bool {
    let known = Known {
        speaker: &said.node,
        is_me: false,
        held: Some(held),
        linked: None,
        burials: said.burial,
        vouched: None,
    };
    life_is_sound(said, known)
}

/// Whether a member that does not run was last heard with numbers that not everybody may have
/// believed: then how high they are is no part of the view.
pub(super) fn is_driven(record: &Record) -> bool {
    let is_beyond = record.epoch.0 >= RELAYED_EPOCH || record.incarnation.0 >= RELAYED_INCARNATION;
    is_beyond && record.is_member() && !record.is_running()
}

/// What others may say of a node that is linked and heard.
fn may_be_relayed(claim: &Record, held: Option<&Record>) -> bool {
    let Some(held) = held else { return true };
    let removal = matches!(claim.standing, Standing::ForceLeft | Standing::Autocleaned);
    let ahead = (claim.epoch, claim.incarnation) > (held.epoch, held.incarnation);
    let in_its_name = claim.by == claim.node && claim.supersedes(held);
    removal || !(in_its_name || ahead)
}

/// Whether a record out of this node's own state is one that it would still believe.
pub(super) fn is_sound(record: &Record) -> bool {
    record.epoch.0 <= TOP && record.incarnation.0 <= TOP && record.burial <= TOP
}

#[cfg(test)]
mod tests;
