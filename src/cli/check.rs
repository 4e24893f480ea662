//! `muster check`.

use std::io::{self, Write as _};

use serde::Serialize;

use super::args::CheckArgs;
use super::error::CliError;
use super::{files, out};
use crate::config::{self, Config, ConfigErrors, Loaded, Origin, Warning};

/// `--json` of a configuration that holds.
#[derive(Debug, Serialize)]
struct Valid<'a> {
    valid: bool,
    warnings: &'a [Warning],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    effective: Vec<Value<'a>>,
}

/// One effective setting.
#[derive(Debug, Serialize)]
struct Value<'a> {
    key: &'a str,
    value: &'a str,
    origin: &'a Origin,
}

/// `--json` of one that does not.
#[derive(Debug, Serialize)]
struct Invalid<'a> {
    valid: bool,
    #[serde(flatten)]
    findings: &'a ConfigErrors,
}

pub(super) fn check(args: &CheckArgs) -> Result<(), CliError> {
    match files::load(&args.files.config) {
        Ok(loaded) if args.json => valid_json(&loaded, args.print),
        Ok(loaded) => valid(&loaded, args.print),
        Err(CliError::Config(errors)) if args.json => {
            out::json(&Invalid { valid: false, findings: &errors })?;
            Err(CliError::Config(errors))
        }
        Err(error) => Err(error),
    }
}

fn valid(loaded: &Loaded, print: bool) -> Result<(), CliError> {
    for warning in &loaded.warnings {
        writeln!(io::stderr(), "warning: {warning}")?;
    }
    match print {
        true => out::text(&config::explain(&loaded.effective)),
        false => out::line(&summary(&loaded.config)),
    }
}

fn summary(config: &Config) -> String {
    format!(
        "valid: {} in {}, {} over {}, API on {}",
        config.node.name,
        config.cluster.name,
        config.cluster.strategy.name(),
        config.cluster.proto_dist.name(),
        config.agent.api.listen
    )
}

fn valid_json(loaded: &Loaded, print: bool) -> Result<(), CliError> {
    let settings = if print { loaded.effective.as_slice() } else { &[] };
    let effective = settings
        .iter()
        .map(|setting| Value { key: &setting.path, value: &setting.value, origin: &setting.origin })
        .collect();
    out::json(&Valid { valid: true, warnings: &loaded.warnings, effective })
}
