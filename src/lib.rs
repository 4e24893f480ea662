//! muster: a cluster agent beside each broker node.
//!
//! It reads the node's `emqx.conf`, finds its peers with the configured discovery
//! strategy, holds an authenticated mesh with them over the Erlang distribution
//! protocol, keeps one agreed membership, and serves it on a local HTTP API and a
//! command line.
//!
//! # What flows where
//!
//! ```text
//!   emqx.conf, environment
//!          │
//!       config ── Config ──┐                      operators, brokers
//!                          ▼                        │          ▲
//!   backends ─ discovery ─ agent ── Snapshot ─────▶ api ◀── cli
//!              answers ─▶  │  ▲ ◀── commands ────── │
//!                          ▼  │     EventLog ──────▶│
//!   peers ── mesh ─ frames ─▶ protocol::membership
//!            │                (pure: records, probes, gossip)
//!            └─ protocol::dist (pure: handshake, frames, terms)
//! ```
//!
//! One task, the agent's driver, owns the membership machine. It hands the machine
//! what the mesh, discovery, operators and the clock bring, and carries out what the
//! machine wants: dial, send, close, report, answer. After every batch it publishes an
//! immutable [`view::Snapshot`]; whoever reads the cluster reads that and waits for
//! nobody.
//!
//! # Which part may know which
//!
//! Dependencies point down this table; nothing points up.
//!
//! | part | role | knows |
//! | --- | --- | --- |
//! | `main.rs` | arguments in, exit code out | [`cli`] |
//! | [`cli`] | the commands: clients of the HTTP API; `run` starts the agent | all below |
//! | [`agent`] | owns the parts, wires them, stops them in order; state on disk | all below |
//! | [`logging`] | lines on their way to standard error | [`config`] |
//! | [`follow`] | what reacts to the membership: the broker's probe, EMQX's cluster, files, hooks, DNS | [`api`], [`attributes`], [`backoff`], [`broker`], [`command`], [`config`], [`cookies`], [`escape`], [`events`], [`mesh`], [`metrics`], [`node`], [`notices`], [`protocol`]`::dist`, [`ready`], [`resolve`], [`secret`], [`view`], [`watched`] |
//! | [`api`] | HTTP over snapshots, commands and events | [`attributes`], [`broker`], [`command`], [`config`], [`events`], [`mesh`], [`metrics`], [`node`], [`notices`], [`reach`], [`ready`], [`secret`], [`throttle`], [`view`], [`watched`] |
//! | [`ready`] | whether a snapshot is where its configuration wants it, and what is amiss | [`attributes`], [`config`], [`node`], [`view`] |
//! | [`command`] | what may be asked of a running agent | [`protocol`]`::membership` |
//! | [`discovery`] | one trait, one file a strategy, one runner | [`backoff`], [`config`], [`cookies`], [`metrics`], [`node`], [`secret`], [`verifier`] |
//! | [`mesh`] | sockets: listen, dial, TCP, TLS, one driver per link | [`cookies`], [`escape`], [`metrics`], [`node`], [`protocol`]`::dist`, [`resolve`], [`secret`], [`throttle`], [`verifier`], [`watched`] |
//! | [`config`] | text to a typed, validated [`config::Config`] | [`attributes`], [`cookies`], [`node`], [`secret`] |
//! | [`protocol`] | the pure core: no tokio, no sockets, no clock, no global randomness | [`attributes`], [`backoff`], [`escape`], [`node`], [`secret`] |
//! | [`reach`] | who reaches whom: question, answer, matrix | [`node`], [`view`] |
//! | [`events`] | the ring of membership news | [`node`], [`view`] |
//! | [`view`], [`resolve`] | what is seen of members; a name's addresses | [`attributes`], [`node`] |
//! | [`broker`] | what this node's agent knows of the broker next door | [`attributes`] |
//! | [`cookies`] | the cookies in use | [`secret`] |
//! | [`verifier`] | certificates judged by rules of ours | nothing |
//! | [`notices`] | the board of standing troubles | [`escape`] |
//! | [`attributes`], [`backoff`], [`escape`], [`metrics`], [`node`], [`secret`], [`throttle`], [`watched`] | the words everybody uses | nothing |
//!
//! A test reads this table and every import. Besides,
//! CI fails when `protocol` names tokio, a socket, a clock or a global source of
//! randomness: the simulator in `tests/sim` runs the very same code in virtual time.

pub mod agent;
pub mod api;
pub mod attributes;
pub mod backoff;
pub mod broker;
pub mod cli;
pub mod command;
pub mod config;
pub mod cookies;
pub mod discovery;
pub mod escape;
pub mod events;
pub mod follow;
pub mod logging;
pub mod mesh;
pub mod metrics;
pub mod node;
pub mod notices;
pub mod protocol;
pub mod reach;
pub mod ready;
pub mod resolve;
pub mod secret;
pub mod throttle;
pub mod verifier;
pub mod view;
pub mod watched;
