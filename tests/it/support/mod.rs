//! What several topics need: processes, ports, waiting.
//!
//! Synchronous on purpose: the agents are other processes, and a test that
//! blocks disturbs nobody. [`agent::Spec`] describes an agent, [`agent::Agent`]
//! is a started one, [`cluster::Cluster`] several; everything started is killed
//! when its owner is dropped.
#![allow(dead_code, reason = "every topic uses its own part of this")]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]

pub mod adversary;
pub mod agent;
pub mod bind;
pub mod broker;
pub mod brokers;
pub mod cluster;
pub mod discovery;
pub mod dns;
pub mod etcd;
pub mod flood;
pub mod http;
pub mod kube;
pub mod liar;
pub mod mcast;
pub mod mesh;
pub mod mqtt;
pub mod netns;
pub mod pki;
pub mod programs;
pub mod slow_wire;
pub mod soak;
pub mod told;
pub mod wait;
pub mod watch;
