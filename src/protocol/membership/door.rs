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
//! 3. Of anybody else's node a peer may say what it likes, as news of news; but no number
//!    may run ahead of what is held by more than years of honest growth. So no statement
//!    comes near the end of a type, and the node it is about can always say something
//!    that beats it.

use super::record::{Record, Standing};
use crate::node::{BootId, NodeName};

/// Highest epoch, incarnation and burial that is ever believed; what remains up to the
/// type's end is for answers to it.
const HIGHEST: u64 = 1 << 62;

/// Highest incarnation that is believed of a node never heard of: thirty thousand years of
/// a change in every second.
const FIRST_INCARNATION: u64 = 1 << 40;

/// Highest epoch that is believed of a node never heard of.
const FIRST_EPOCH: u64 = 1 << 32;

/// By so much an incarnation may be ahead of the one that is held: half a year of a change
/// in every second, all of it missed.
const INCARNATIONS_AHEAD: u64 = 1 << 24;

/// By so much an epoch may be ahead of the one that is held: as many joins, all missed.
const EPOCHS_AHEAD: u64 = 1 << 16;

/// By so much a burial may be ahead of the highest that is held.
const BURIALS_AHEAD: u64 = 1 << 24;

/// A statement that may be learned.
#[derive(Clone, Debug)]
pub(super) struct Admitted(Record);

impl Admitted {
    pub(super) fn into_record(self) -> Record {
        self.0
    }

    pub(super) fn record(&self) -> &Record {
        &self.0
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
    /// What is held of the node it is about.
    pub held: Option<&'a Record>,
    /// The process at the other end of that node's own link, if it was heard just now.
    pub linked: Option<BootId>,
    /// The highest burial that is held.
    pub burials: u64,
}

/// Weighs a claim.
pub(super) fn admit(claim: Record, known: Known<'_>) -> Result<Admitted, Unfit> {
    if !numbers_are_sound(&claim, known) {
        return Err(Unfit::Numbers);
    }
    let own = claim.node == *known.speaker;
    if own && claim.by != claim.node {
        return Err(Unfit::NotItsOwn);
    }
    if !own && known.linked.is_some() && !may_be_relayed(&claim, known.held) {
        return Err(Unfit::NotItsOwn);
    }
    Ok(Admitted(claim))
}

fn numbers_are_sound(claim: &Record, known: Known<'_>) -> bool {
    let (epochs, incarnations) = match known.held {
        _ if claim.node == *known.speaker => (HIGHEST, HIGHEST),
        Some(held) => (
            held.epoch.0.saturating_add(EPOCHS_AHEAD),
            held.incarnation.0.saturating_add(INCARNATIONS_AHEAD),
        ),
        None => (FIRST_EPOCH, FIRST_INCARNATION),
    };
    claim.epoch.0 <= epochs.min(HIGHEST)
        && claim.incarnation.0 <= incarnations.min(HIGHEST)
        && claim.burial <= known.burials.saturating_add(BURIALS_AHEAD).min(HIGHEST)
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
    record.epoch.0 <= HIGHEST && record.incarnation.0 <= HIGHEST && record.burial <= HIGHEST
}

#[cfg(test)]
mod tests;
