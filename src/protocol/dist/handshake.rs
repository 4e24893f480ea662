//! The handshake, both sides, version 6 ("Distribution Handshake" in the ERTS User's
//! Guide).
//!
//! ```text
//! dialling                               accepting
//! send_name 'N' (or old 'n')  -------->  Named, decide()
//!                             <--------  's' ok | ok_simultaneous | nok | not_allowed | alive
//! Alive, answer_alive(),  's' -------->  (only after alive)
//!                             <--------  challenge 'N'
//! complement 'c'              -------->  (only after an old 'n')
//! challenge reply 'r'         -------->
//!                             <--------  challenge ack 'a', Done
//! Done
//! ```
//!
//! Polling order: [`Handshake::handle`] what was read, then [`Handshake::poll`] until
//! it answers `None`, then send what [`Handshake::transmit`] hands out; after an error
//! of `poll` too, since the peer may be owed a refusal.

mod error;
mod fields;

use std::sync::Arc;

pub use error::HandshakeError;
use fields::{Digest, Fields, checked_flags, digest, matching, parse_name, put_name};

use super::flags;
use super::frame::{Decoder, Prefix, put_message};
use crate::node::NodeName;
use crate::secret::Secret;

/// Longest handshake message accepted, bytes: a name of 255 and all fields stay below it.
pub const MAX_MESSAGE: usize = 512;

/// What this node says of itself; the same for every handshake.
#[derive(Debug)]
pub struct Local {
    /// Its name.
    pub name: NodeName,
    /// Tells its lives apart, as far as Erlang's identifiers go; not 0.
    pub creation: u32,
    /// Never empty: the first is offered, any is accepted.
    pub cookies: Arc<[Secret]>,
}

/// What the peer said of itself, proven by a cookie both know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// Its creation.
    pub creation: u32,
    /// Its capabilities.
    pub flags: u64,
}

/// How an accepting node answers a name, by what it already has with that node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Ok,
    /// A dial of our own that gives way.
    OkSimultaneous,
    /// A dial of our own that goes on; the peer shall give way.
    Nok,
    /// The name may not connect.
    NotAllowed,
    /// An established link; the peer says whether it wants another.
    Alive,
}

/// What a handshake asks of its driver, or is done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Accepting: the peer claims this name, unproven. Wants [`Handshake::decide`].
    Named(NodeName),
    /// Dialling: the peer believes that a link to us is up. Wants
    /// [`Handshake::answer_alive`].
    Alive,
    /// Both ends have proven that they know the cookie.
    Done(Peer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    // Dialling.
    Status,
    AliveAnswer,
    Challenge,
    Ack,
    // Accepting.
    Name,
    Decision,
    AliveReply,
    Complement,
    Reply,
    // Either.
    Done,
    Failed,
}

impl State {
    /// What the peer owes in this state.
    fn due(self) -> &'static str {
        match self {
            Self::Status | Self::AliveAnswer => "its status",
            Self::Challenge => "its challenge",
            Self::Ack => "its proof of the cookie",
            Self::Name | Self::Decision => "its name",
            Self::AliveReply => "its word on the link that is up",
            Self::Complement => "the rest of its flags",
            Self::Reply => "its answer to the challenge",
            Self::Done | Self::Failed => "nothing",
        }
    }
}

/// One handshake on one connection.
#[derive(Debug)]
pub struct Handshake {
    local: Arc<Local>,
    state: State,
    /// Our challenge to the peer.
    challenge: u32,
    /// Dialling: whom we want. Accepting: who claims to be there.
    peer: Option<NodeName>,
    peer_flags: u64,
    peer_creation: u32,
    /// The peer opened with the old 'n', so its upper flags and creation come as 'c'.
    old_name: bool,
    /// By the carrier: two bytes over TCP, four over TLS.
    prefix: Prefix,
    decoder: Decoder,
    out: Vec<u8>,
}

impl Handshake {
    /// Begins as the dialling end, over a carrier of these lengths. `challenge` must be fresh random bits.
    #[must_use]
    pub fn dial(prefix: Prefix, local: Arc<Local>, peer: NodeName, challenge: u32) -> Self {
        let mut handshake = Self::new(prefix, local, State::Status, challenge);
        handshake.peer = Some(peer);
        let mut message = Vec::with_capacity(64);
        message.push(b'N');
        message.extend_from_slice(&flags::OFFERED.to_be_bytes());
        message.extend_from_slice(&handshake.local.creation.to_be_bytes());
        put_name(&mut message, &handshake.local.name);
        handshake.put(&message);
        handshake
    }

    /// Begins as the accepting end, over a carrier of these lengths. `challenge` must be fresh random bits.
    #[must_use]
    pub fn accept(prefix: Prefix, local: Arc<Local>, challenge: u32) -> Self {
        Self::new(prefix, local, State::Name, challenge)
    }

    fn new(prefix: Prefix, local: Arc<Local>, state: State, challenge: u32) -> Self {
        Self {
            local,
            state,
            challenge,
            peer: None,
            peer_flags: 0,
            peer_creation: 0,
            old_name: false,
            prefix,
            decoder: Decoder::new(prefix, MAX_MESSAGE),
            out: Vec::new(),
        }
    }

    /// Takes what was read from the connection.
    pub fn handle(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
    }

    /// What happened; `None`: more bytes, or the driver's word, are needed.
    ///
    /// # Errors
    /// The handshake is over; nothing more is read.
    pub fn poll(&mut self) -> Result<Option<Event>, HandshakeError> {
        let answer = self.step();
        if answer.is_err() {
            self.state = State::Failed;
        }
        answer
    }

    fn step(&mut self) -> Result<Option<Event>, HandshakeError> {
        // These wait for the driver, and the last two for nothing.
        let idle = [State::AliveAnswer, State::Decision, State::Done, State::Failed];
        while !idle.contains(&self.state) {
            let Some(frame) = self.decoder.next_frame()? else { return Ok(None) };
            // At most MAX_MESSAGE bytes; frees the decoder for what follows.
            let message = frame.to_vec();
            let event = match self.state {
                State::Status => self.on_status(&message)?,
                State::Challenge => self.on_challenge(&message)?,
                State::Ack => Some(self.on_ack(&message)?),
                State::Name => Some(self.on_name(&message)?),
                State::AliveReply => self.on_alive_reply(&message)?,
                State::Complement => self.on_complement(&message)?,
                State::Reply => Some(self.on_reply(&message)?),
                State::AliveAnswer | State::Decision | State::Done | State::Failed => None,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// Bytes to send, possibly none.
    #[must_use]
    pub fn transmit(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// The connection ended: what that says.
    #[must_use]
    pub fn closed(&self) -> HandshakeError {
        match self.state {
            State::Ack => HandshakeError::CookieRefused,
            state => HandshakeError::Closed(state.due()),
        }
    }

    /// The name the peer claims, or was dialled under.
    #[must_use]
    pub fn peer(&self) -> Option<&NodeName> {
        self.peer.as_ref()
    }

    /// Bytes that arrived behind the handshake: the link's first frames.
    #[must_use]
    pub fn into_rest(self) -> Vec<u8> {
        self.decoder.into_rest()
    }

    /// The answer to [`Event::Named`]; at any other time it changes nothing.
    ///
    /// # Errors
    /// The decision itself ends the handshake; the peer is owed its status still.
    pub fn decide(&mut self, decision: Decision) -> Result<(), HandshakeError> {
        if self.state != State::Decision {
            return Ok(());
        }
        let (status, next) = match decision {
            Decision::Ok => ("ok", Ok(())),
            Decision::OkSimultaneous => ("ok_simultaneous", Ok(())),
            Decision::Nok => ("nok", Err(HandshakeError::Simultaneous)),
            Decision::NotAllowed => ("not_allowed", Err(HandshakeError::NotAllowed)),
            Decision::Alive => ("alive", Ok(())),
        };
        self.put_status(status);
        match (&next, decision) {
            (Err(_), _) => self.state = State::Failed,
            (Ok(()), Decision::Alive) => self.state = State::AliveReply,
            (Ok(()), _) => self.send_challenge(),
        }
        next
    }

    /// The answer to [`Event::Alive`]: whether this node wants the new link, having
    /// none itself. At any other time it changes nothing.
    ///
    /// # Errors
    /// [`HandshakeError::AlreadyUp`] when it does not.
    pub fn answer_alive(&mut self, wanted: bool) -> Result<(), HandshakeError> {
        if self.state != State::AliveAnswer {
            return Ok(());
        }
        self.put_status(if wanted { "true" } else { "false" });
        if wanted {
            self.state = State::Challenge;
            Ok(())
        } else {
            self.state = State::Failed;
            Err(HandshakeError::AlreadyUp)
        }
    }

    fn garbage(&self) -> HandshakeError {
        HandshakeError::Garbage(self.state.due())
    }

    fn put(&mut self, message: &[u8]) {
        put_message(&mut self.out, self.prefix, message);
    }

    fn put_status(&mut self, status: &str) {
        let mut message = vec![b's'];
        message.extend_from_slice(status.as_bytes());
        self.put(&message);
    }

    fn send_challenge(&mut self) {
        let mut message = Vec::with_capacity(64);
        message.push(b'N');
        message.extend_from_slice(&flags::OFFERED.to_be_bytes());
        message.extend_from_slice(&self.challenge.to_be_bytes());
        message.extend_from_slice(&self.local.creation.to_be_bytes());
        put_name(&mut message, &self.local.name);
        self.put(&message);
        self.state = if self.old_name { State::Complement } else { State::Reply };
    }

    fn on_status(&mut self, message: &[u8]) -> Result<Option<Event>, HandshakeError> {
        match message {
            b"sok" | b"sok_simultaneous" => {
                self.state = State::Challenge;
                Ok(None)
            }
            b"snok" => Err(HandshakeError::Simultaneous),
            b"snot_allowed" => Err(HandshakeError::NotAllowed),
            b"salive" => {
                self.state = State::AliveAnswer;
                Ok(Some(Event::Alive))
            }
            // `named:` too: only a node that asks for a name is given one.
            _ => Err(self.garbage()),
        }
    }

    fn on_challenge(&mut self, message: &[u8]) -> Result<Option<Event>, HandshakeError> {
        let mut fields = match message.split_first() {
            Some((b'N', fields)) => Fields(fields),
            Some((b'n', _)) => return Err(HandshakeError::OldVersion),
            _ => return Err(self.garbage()),
        };
        let read = (|| Some((fields.u64()?, fields.u32()?, fields.u32()?, fields.name()?)))();
        let Some((flags, challenge, creation, name)) = read else { return Err(self.garbage()) };
        let name = parse_name(name)?;
        if name == self.local.name && creation == self.local.creation {
            return Err(HandshakeError::Itself);
        }
        if self.peer.as_ref() != Some(&name) {
            return Err(HandshakeError::OtherName(name));
        }
        self.peer_flags = checked_flags(flags)?;
        self.peer_creation = creation;
        let Some(cookie) = self.local.cookies.first() else {
            return Err(HandshakeError::WrongCookie);
        };
        let mut reply = vec![b'r'];
        reply.extend_from_slice(&self.challenge.to_be_bytes());
        reply.extend_from_slice(&digest(cookie, challenge));
        self.put(&reply);
        self.state = State::Ack;
        Ok(None)
    }

    fn on_ack(&mut self, message: &[u8]) -> Result<Event, HandshakeError> {
        let given = match message.split_first() {
            Some((b'a', given)) => Digest::try_from(given).map_err(|_| self.garbage())?,
            _ => return Err(self.garbage()),
        };
        // The cookie that was offered: another of ours would be an answer to a
        // question that was not asked.
        let offered = self.local.cookies.get(..1).unwrap_or_default();
        if matching(offered, self.challenge, &given).is_none() {
            return Err(HandshakeError::UnprovenPeer);
        }
        self.done()
    }

    fn on_name(&mut self, message: &[u8]) -> Result<Event, HandshakeError> {
        let (flags, name) = match message.split_first() {
            Some((b'N', fields)) => {
                let mut fields = Fields(fields);
                let read = (|| Some((fields.u64()?, fields.u32()?, fields.name()?)))();
                let Some((flags, creation, name)) = read else { return Err(self.garbage()) };
                self.peer_creation = creation;
                (flags, name)
            }
            Some((b'n', fields)) => {
                let mut fields = Fields(fields);
                let read = (|| Some((fields.u16()?, fields.u32()?)))();
                let Some((_version, flags)) = read else { return Err(self.garbage()) };
                if u64::from(flags) & flags::HANDSHAKE_23 == 0 {
                    return Err(HandshakeError::OldVersion);
                }
                self.old_name = true;
                (u64::from(flags), fields.0)
            }
            _ => return Err(self.garbage()),
        };
        let name = parse_name(name)?;
        self.peer = Some(name.clone());
        if name == self.local.name && self.peer_creation == self.local.creation {
            // A challenge is what says who is here; nobody's answer to it is taken.
            self.put_status("ok");
            self.send_challenge();
            return Err(HandshakeError::Itself);
        }
        if name == self.local.name {
            self.put_status("not_allowed");
            return Err(HandshakeError::OwnName);
        }
        match checked_flags(flags) {
            Ok(flags) => self.peer_flags = flags,
            Err(error) => {
                self.put_status("not_allowed");
                return Err(error);
            }
        }
        self.state = State::Decision;
        Ok(Event::Named(name))
    }

    fn on_alive_reply(&mut self, message: &[u8]) -> Result<Option<Event>, HandshakeError> {
        match message {
            b"strue" => {
                self.send_challenge();
                Ok(None)
            }
            b"sfalse" => Err(HandshakeError::AlreadyUp),
            _ => Err(self.garbage()),
        }
    }

    fn on_complement(&mut self, message: &[u8]) -> Result<Option<Event>, HandshakeError> {
        let Some((b'c', fields)) = message.split_first() else { return Err(self.garbage()) };
        let mut fields = Fields(fields);
        let read = (|| Some((fields.u32()?, fields.u32()?)))();
        let Some((upper, creation)) = read else { return Err(self.garbage()) };
        self.peer_flags |= u64::from(upper) << 32;
        self.peer_creation = creation;
        self.state = State::Reply;
        Ok(None)
    }

    fn on_reply(&mut self, message: &[u8]) -> Result<Event, HandshakeError> {
        let Some((b'r', fields)) = message.split_first() else { return Err(self.garbage()) };
        let mut fields = Fields(fields);
        let theirs = fields.u32();
        let given = Digest::try_from(fields.0).ok();
        let (Some(theirs), Some(given)) = (theirs, given) else { return Err(self.garbage()) };
        let Some(cookie) = matching(&self.local.cookies, self.challenge, &given) else {
            return Err(HandshakeError::WrongCookie);
        };
        let mut ack = vec![b'a'];
        ack.extend_from_slice(&digest(cookie, theirs));
        self.put(&ack);
        self.done()
    }

    fn done(&mut self) -> Result<Event, HandshakeError> {
        let name = self.peer.clone().ok_or_else(|| self.garbage())?;
        self.state = State::Done;
        Ok(Event::Done(Peer { name, creation: self.peer_creation, flags: self.peer_flags }))
    }
}

#[cfg(test)]
mod tests;
