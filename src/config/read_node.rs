//! `node.*`.

use std::path::PathBuf;

use super::address::node_name;
use super::keys;
use super::reader::{Fault, Read, Reader, word};
use crate::cookies::{self, Cookies, Source};
use crate::node::{NodeName, Role};

pub(super) struct NodeParts {
    pub(super) name: Option<Read<NodeName>>,
    pub(super) cookies: Option<Read<Cookies>>,
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
    let cookies = r.secrets(&keys::NODE_COOKIE, |text, file| {
        let fault = |error: cookies::CookieError| Fault::found(error.to_string());
        match file {
            Some(path) => Ok((Source::File(path), cookies::parse_file(text).map_err(fault)?)),
            None => {
                let cookie = cookies::parse(text).map_err(fault)?;
                Ok((Source::Text(cookie.clone()), vec![cookie]))
            }
        }
    });
    let empty = cookies.as_ref().is_some_and(|read| read.value.is_empty());
    if r.find(&keys::NODE_COOKIE).is_none() || empty {
        r.missing(
            &keys::NODE_COOKIE,
            "every node of a cluster has the same; set it here or in EMQX_NODE__COOKIE",
        );
    }
    NodeParts {
        name,
        cookies: cookies.filter(|_| !empty).map(|Read { value, origin, key }| {
            let (sources, read): (Vec<_>, Vec<_>) = value.into_iter().unzip();
            Read { value: Cookies::new(sources, read.concat()), origin, key }
        }),
        data_dir: r.path(&keys::NODE_DATA_DIR).map(|read| read.value),
        role: r
            .scalar(&keys::NODE_ROLE, |text| {
                word(&[("core", Role::Core), ("replicant", Role::Replicant)], text)
            })
            .map(|read| read.value),
        ssl_dist_optfile: r.path(&keys::NODE_SSL_DIST_OPTFILE).map(|read| read.value),
    }
}
