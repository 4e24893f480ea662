//! Configuration as a whole: files and environment in, [`Config`] out.

use std::collections::HashMap;
use std::io;

use super::*;

/// Files in memory.
pub(super) struct Memory(pub(super) HashMap<PathBuf, String>);

impl Memory {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).into(), (*text).to_owned())).collect())
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

const BASE: &str = "node { name = \"emqx@127.0.0.1\", cookie = aaaaaaaaaaaaaaaaaaaaaaaa }\n";

fn layers(files: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let memory = Memory::new(files);
    let layers: Vec<PathBuf> = files
        .iter()
        .map(|(path, _)| PathBuf::from(path))
        .filter(|p| !p.starts_with("inc"))
        .collect();
    load_with(&layers, env.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())), &memory)
}

fn text(text: &str) -> Config {
    layers(&[("base.conf", BASE), ("emqx.conf", text)], &[])
        .unwrap_or_else(|e| panic!("{e}"))
        .config
}

fn with_env(env: &[(&str, &str)]) -> Loaded {
    layers(&[("base.conf", BASE)], env).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn defaults() {
    let Loaded { config, warnings, .. } = with_env(&[]);
    assert_eq!(warnings, []);
    assert_eq!(config.node.name.as_str(), "emqx@127.0.0.1");
    assert_eq!(config.node.data_dir, Path::new("data"));
    assert_eq!(config.node.ssl_dist_optfile, Path::new("etc/ssl_dist.conf"));
    assert_eq!(config.cluster.name, "emqxcl");
    assert_eq!(config.cluster.autoclean.map(|d| d.as_secs()), Some(86_400));
    assert!(config.cluster.autoheal);
    assert!(matches!(config.cluster.strategy, StrategyConfig::Manual));
    assert_eq!(config.cluster.proto_dist, ProtoDist::InetTcp);
    assert_eq!(config.agent.mesh.base_port, 6370);
    assert_eq!(config.agent.mesh.max_frame, 1 << 20);
    assert_eq!(config.agent.mesh.handshake_timeout.as_secs(), 7);
    assert_eq!(config.agent.api.listen, ApiListen::Tcp("127.0.0.1:7370".parse().unwrap()));
    assert_eq!(config.agent.discovery.interval.as_secs(), 5);
    assert_eq!(config.mesh_bind(), ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn offsets_move_both_ports() {
    let config = text("node.name = emqx12@s1.emqx.io");
    assert_eq!(config.mesh_port(), 6382);
    assert_eq!(config.agent.api.listen, ApiListen::Tcp("127.0.0.1:7382".parse().unwrap()));
    assert_eq!(config.mesh_bind(), ["0.0.0.0".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn the_dialect() {
    let config = text(
        r#"
        node.name = emqx@s1.emqx.io # comment
        me { seed = emqx@s3.emqx.io }
        cluster {
            discovery_strategy = STATIC
            static { seeds = [emqx@s1.emqx.io, emqx@s2.emqx.io] }
            static.seeds += ${me.seed} // comment
            description = """~
                two
                  lines
            ~"""
            core_nodes = "emqx@c1.io, emqx@c2.io"
        }
        listeners.tcp.default { bind = "0.0.0.0:1883", pattern = "^\d+$" }
        "#,
    );
    let StrategyConfig::Static { seeds } = &config.cluster.strategy else { panic!() };
    let seeds: Vec<&str> = seeds.iter().map(|seed| seed.as_str()).collect();
    assert_eq!(seeds, ["emqx@s1.emqx.io", "emqx@s2.emqx.io", "emqx@s3.emqx.io"]);
    assert_eq!(config.cluster.description, "two\n  lines\n");
    assert_eq!(config.cluster.core_nodes.len(), 2);
}
