//! muster: a cluster agent beside each broker node.

pub mod agent;
pub mod api;
pub mod cli;
pub mod command;
pub mod config;
pub mod discovery;
pub mod events;
pub mod logging;
pub mod mesh;
pub mod metrics;
pub mod node;
pub mod protocol;
pub mod resolve;
pub mod secret;
pub mod view;
