//! `node.*`.

use std::path::PathBuf;

use super::address::node_name;
use super::keys;
use super::reader::{Fault, Read, Reader, word};
use crate::node::{NodeName, Role};
use crate::secret::Secret;

/// Longest cookie, bytes; an Erlang atom holds no more.
const MAX_COOKIE: usize = 255;

pub(super) struct NodeParts {
    pub(super) name: Option<Read<NodeName>>,
    pub(super) cookies: Option<Read<Vec<Secret>>>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) role: Option<Role>,
    pub(super) ssl_dist_optfile: Option<PathBuf>,
}

pub(super) fn read(r: &mut Reader<'_>) -> NodeParts {
    let name = r.scalar(&keys::NODE_NAME, node_name);
    if let Some(read) = name.as_ref().filter(|read| read.value.is_single_label()) {
        let message = format!("the host of `{}` has no dot", read.value);
        r.warn(read, message, "an Erlang long name needs one; use an address or a full DNS name");
    }
    let cookies = r.secrets(&keys::NODE_COOKIE, cookie);
    let empty = cookies.as_ref().is_some_and(|read| read.value.is_empty());
    if r.find(&keys::NODE_COOKIE).is_none() || empty {
        r.missing(
            &keys::NODE_COOKIE,
            "every node of a cluster has the same; set it here or in EMQX_NODE__COOKIE",
        );
    }
    NodeParts {
        name,
        cookies: cookies.filter(|read| !read.value.is_empty()),
        data_dir: r.path(&keys::NODE_DATA_DIR).map(|read| read.value),
        role: r
            .scalar(&keys::NODE_ROLE, |text| {
                word(&[("core", Role::Core), ("replicant", Role::Replicant)], text)
            })
            .map(|read| read.value),
        ssl_dist_optfile: r.path(&keys::NODE_SSL_DIST_OPTFILE).map(|read| read.value),
    }
}

/// EMQX refuses the same characters, since its scripts cannot pass them on.
fn cookie(text: &str) -> Result<(), Fault> {
    let refused = |c: char| c.is_control() || c.is_whitespace() || "\\'\"".contains(c);
    if text.is_empty() {
        Err(Fault::found("an empty cookie"))
    } else if text.len() > MAX_COOKIE {
        Err(Fault::found(format!("a cookie of {} bytes", text.len())))
    } else if let Some(at) = text.chars().position(refused) {
        Err(Fault::found(format!("a cookie whose character {} is not allowed", at + 1)))
    } else {
        Ok(())
    }
}
