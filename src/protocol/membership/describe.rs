//! What this node says of itself beyond being there. It raises its incarnation with every
//! change, so that others know which word is the last.

use std::sync::Arc;
use std::time::Duration;

use super::record::{Reason, Standing};
use super::request::RequestError;
use super::{Effect, Membership, News};
use crate::attributes::{Attributes, Broker, Tags};

impl Membership {
    /// New tags, and how the broker fares now.
    pub(super) fn describe(
        &mut self,
        now: Duration,
        tags: Tags,
        broker: Option<Broker>,
    ) -> Result<(), RequestError> {
        let draining = self.attributes.draining.clone();
        self.say(now, Attributes { tags, draining, broker })
    }

    /// Serves nobody new from now on, over restarts.
    pub(super) fn drain(&mut self, now: Duration, reason: String) -> Result<(), RequestError> {
        self.say(now, Attributes { draining: Some(reason), ..self.attributes.clone() })
    }

    /// Serves again.
    pub(super) fn undrain(&mut self, now: Duration) {
        // Less than what was within bounds is within them.
        let _never = self.say(now, Attributes { draining: None, ..self.attributes.clone() });
    }

    fn say(&mut self, now: Duration, said: Attributes) -> Result<(), RequestError> {
        if !said.is_bounded() {
            return Err(RequestError::BadRequest(
                "a text is too long, or has control characters in it: shorten it, to one line"
                    .to_owned(),
            ));
        }
        if said == self.attributes {
            return Ok(());
        }
        self.attributes = said;
        self.durable_changed();
        if self.me.standing == Standing::Left {
            return Ok(());
        }
        self.me.incarnation = self.me.incarnation.next();
        self.set_me(now);
        self.announce(now);
        self.effects.push_back(Effect::Event(News {
            node: self.me.node.clone(),
            from: self.me.health(),
            to: self.me.standing,
            epoch: self.me.epoch,
            incarnation: self.me.incarnation,
            reason: Reason::Updated,
            by: self.me.node.clone(),
        }));
        Ok(())
    }

    /// The same as before, in a higher incarnation: a sign of life for everybody.
    pub(super) fn say_anew(&mut self, now: Duration) {
        if self.me.standing == Standing::Left {
            return;
        }
        self.me.incarnation = self.me.incarnation.next();
        self.me.reason = Some(Reason::Refuted);
        self.set_me(now);
        self.announce(now);
    }

    /// What goes into this node's record.
    pub(super) fn own_attributes(&self) -> Option<Arc<Attributes>> {
        let is_member = self.me.standing != Standing::Left;
        (is_member && self.attributes != Attributes::default())
            .then(|| Arc::new(self.attributes.clone()))
    }
}
