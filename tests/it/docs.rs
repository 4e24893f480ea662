//! The documents are run: their configuration loads, their commands and routes exist,
//! and the tutorial's first part works from start to end.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use muster::cli::dev::ports::PortLease;
use muster::events::EventKind;
use muster::protocol::membership::Reason;

use super::support::programs::skip_without;
use super::support::wait::{LONG, eventually};

const MUSTER: &str = env!("CARGO_BIN_EXE_muster");

/// What a fragment without a node of its own is laid over.
const BASE: &str = "node { name = \"emqx@127.0.0.1\", cookie = \"a-cookie-for-tests-only\" }\n";

/// A fenced block of a document.
#[derive(Debug)]
struct Snippet {
    /// `docs/file.md:12`.
    place: String,
    language: String,
    text: String,
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let mut files = vec![repository().join("README.md"), repository().join("CONTRIBUTING.md")];
    for entry in std::fs::read_dir(repository().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn snippets(file: &Path) -> Vec<Snippet> {
    let text = std::fs::read_to_string(file).unwrap();
    let name = file.strip_prefix(repository()).unwrap().display();
    let mut found = Vec::new();
    let mut open: Option<Snippet> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                open = Some(Snippet {
                    place: format!("{name}:{}", number + 1),
                    language: language.trim().to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(snippet)) => writeln!(snippet.text, "{line}").unwrap(),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{name}: a fence that never closes");
    found
}

fn of_language(language: &str) -> Vec<Snippet> {
    let all = documents().into_iter().flat_map(|file| snippets(&file));
    let found: Vec<_> = all.filter(|snippet| snippet.language == language).collect();
    assert!(!found.is_empty(), "no {language} in any document");
    found
}

/// Lines of shell, continued ones joined, without here-documents and comments.
fn shell_lines(snippet: &Snippet) -> Vec<String> {
    let mut lines = Vec::new();
    let mut document_end: Option<String> = None;
    for line in snippet.text.replace("\\\n", " ").lines() {
        if let Some(end) = &document_end {
            if line == end {
                document_end = None;
            }
            continue;
        }
        if let Some((_, word)) = line.split_once("<<") {
            document_end = Some(word.trim_matches(['\'', '"', ' ', '-']).to_owned());
        }
        lines.push(line.trim().to_owned());
    }
    lines
}

#[test]
fn every_configuration_in_the_documents_loads() {
    let directory = tempfile::tempdir().unwrap();
    // A path that the documents name for a secret exists where they are followed.
    let cookie = directory.path().join("cookie");
    std::fs::write(&cookie, "a-cookie-for-tests-only\n").unwrap();
    for snippet in of_language("hocon") {
        let text = snippet
            .text
            .replace("file:///etc/emqx/cookie", &format!("file://{}", cookie.display()))
            .replace("file:///etc/muster/cookie", &format!("file://{}", cookie.display()));
        let (base, over) = (directory.path().join("base.conf"), directory.path().join("over.conf"));
        std::fs::write(&base, BASE).unwrap();
        std::fs::write(&over, text).unwrap();
        if let Err(errors) = muster::config::load(&[base, over], []) {
            panic!("{}:\n{errors}", snippet.place);
        }
    }
}

#[test]
fn every_command_in_the_documents_exists() {
    for snippet in of_language("bash") {
        for line in shell_lines(&snippet) {
            // What follows a command on its line is the shell's.
            let words: Vec<_> = line
                .split_whitespace()
                .take_while(|word| !matches!(*word, "|" | "&" | "&&" | ";" | ">" | "#"))
                .skip_while(|word| word.contains('='))
                .collect();
            let arguments = match words.as_slice() {
                ["muster", arguments @ ..] => arguments,
                ["cargo", "run", .., "--", "dev", "-n", "3"] => &["dev", "-n", "3"],
                _ => continue,
            };
            // Asked for its help a command checks the options before it.
            let output = Command::new(MUSTER)
                .args(arguments)
                .arg("--help")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}: {line}\n{}",
                snippet.place,
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

#[test]
fn every_route_in_the_documents_exists() {
    let document = serde_json::to_value(muster::api::openapi_document()).unwrap();
    let known = document["paths"].as_object().unwrap();
    for file in documents() {
        let text = std::fs::read_to_string(&file).unwrap();
        for (_, rest) in text.match_indices("/api/v").map(|(at, _)| text.split_at(at)) {
            let end = rest.find(|c: char| c.is_whitespace() || "`'\"?)|,".contains(c));
            let path = rest[..end.unwrap_or(rest.len())].trim_end_matches(['.', ':']);
            assert!(
                known.keys().any(|template| fits(template, path)),
                "{}: no route {path}",
                file.display()
            );
        }
    }
}

#[test]
fn the_reference_of_the_api_is_whole() {
    let text = std::fs::read_to_string(repository().join("docs/api.md")).unwrap();
    let document = serde_json::to_value(muster::api::openapi_document()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            // Two routes may share a row.
            let route = format!("{} {path}`", method.to_uppercase());
            assert!(text.contains(&route), "docs/api.md has no {route}");
        }
    }
    for reason in Reason::ALL {
        let row = format!("\n| `{}` | ", reason.code());
        assert!(text.contains(&row), "docs/api.md has no reason {}", reason.code());
    }
    for kind in EventKind::ALL {
        let row = format!("\n| `{}` | ", kind.name());
        assert!(text.contains(&row), "docs/api.md has no kind {}", kind.name());
    }
}

/// Whether a path is one that a template such as `/members/{node}` stands for.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(&path).all(|(t, p)| t == p || (t.starts_with('{') && !p.is_empty()))
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    for file in documents() {
        let text = std::fs::read_to_string(&file).unwrap();
        for (_, rest) in text.match_indices("](").map(|(at, _)| text.split_at(at + 2)) {
            let target = rest.split(')').next().unwrap();
            let path = target.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let path = file.parent().unwrap().join(path);
            assert!(path.exists(), "{}: no {target}", file.display());
        }
    }
}

/// The tutorials that run as they stand, and what else they need.
const TUTORIALS: [(&str, &[&str]); 6] = [
    ("getting-started.md", &["jq"]),
    ("tutorial-manual.md", &[]),
    ("tutorial-dns.md", &["dnsmasq"]),
    ("tutorial-etcd.md", &["etcd", "etcdctl"]),
    ("tutorial-mcast.md", &[]),
    ("tutorial-singleton.md", &[]),
];

#[test]
fn the_tutorials_work() {
    for (name, _) in TUTORIALS {
        let chapter = repository().join("docs").join(name);
        assert!(documents().contains(&chapter), "there is no {name}");
    }
    // They use the default ports, as their readers do.
    let _ports = eventually("the default ports to be free", LONG, || {
        PortLease::default_or_any(3).ok().filter(|lease| lease.mesh_base() == 6370)
    });
    for (name, programs) in TUTORIALS {
        if !skip_without(&[&["bash", "curl", "openssl"], programs].concat()) {
            follow(name);
        }
    }
}

/// Runs a tutorial's commands in their order; each of its texts is printed by them.
fn follow(name: &str) {
    let tutorial = snippets(&repository().join("docs").join(name));
    let mut script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || :' EXIT\n".to_owned();
    let bash = tutorial.iter().filter(|snippet| snippet.language == "bash");
    script.extend(bash.map(|snippet| snippet.text.as_str()));
    let directory = tempfile::tempdir().unwrap();
    let programs = Path::new(MUSTER).parent().unwrap().display();
    let path = format!("{programs}:{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(directory.path())
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let mut logs = String::new();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "log") {
            let log = std::fs::read_to_string(&file).unwrap();
            writeln!(logs, "--- {}\n{log}", file.display()).unwrap();
        }
    }
    assert!(
        output.status.success(),
        "{name}: {}\n{printed}\n{}\n{logs}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    for promised in tutorial.iter().filter(|snippet| snippet.language == "text") {
        assert!(printed.contains(promised.text.trim()), "{name}: not as promised:\n{printed}");
    }
}
