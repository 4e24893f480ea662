//! The reference chapters that are generated from the code are as new as the code.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use muster::config::{InEmqx, KEYS, Key, Unset};

/// Holds a chapter against the code; with `BLESS` set it is written anew.
fn hold(chapter: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(chapter);
    if std::fs::read_to_string(&path).is_ok_and(|text| text == wanted) {
        return;
    }
    assert!(
        std::env::var_os("BLESS").is_some(),
        "docs/{chapter} is older than the code: run `just bless`"
    );
    std::fs::write(path, wanted).unwrap();
}

const GENERATED: &str = "<!-- generated from the code; `just bless` writes it anew -->\n";

fn default(key: &Key) -> String {
    match key.unset {
        Unset::Text("") => "`\"\"`".to_owned(),
        Unset::Text(text) => format!("`{text}`"),
        Unset::List(items) => format!("`[{}]`", items.join(", ")),
        Unset::Nothing(words) => words.to_owned(),
        Unset::Required => "required".to_owned(),
    }
}

/// What the text of a value is read as.
fn kind(key: &Key) -> &'static str {
    let allowed = key.allowed;
    if allowed == "true, false" {
        "boolean"
    } else if allowed.starts_with("a duration") {
        "duration"
    } else if allowed.starts_with("a size") {
        "size"
    } else if allowed.contains("list") || matches!(key.unset, Unset::List(_)) {
        "list"
    } else if allowed.starts_with("a block") {
        "block"
    } else if allowed.starts_with(|c: char| c.is_ascii_digit()) && allowed.contains(" to ") {
        if allowed.contains("bytes") || allowed.contains("characters") { "text" } else { "number" }
    } else if allowed.contains(", ") && allowed.split(", ").all(|word| !word.contains(' ')) {
        "one of"
    } else {
        "text"
    }
}

/// `node`, `cluster`, `cluster.k8s`, `agent.mesh`: the block that a key stands in.
fn section_of(path: &'static str) -> &'static str {
    let second = path.match_indices('.').nth(1).map(|(at, _)| &path[..at]);
    let first = path.split_once('.').map_or(path, |(root, _)| root);
    match (first, second) {
        ("agent", None) if path == "agent.render" || path == "agent.hooks" => path,
        ("agent" | "cluster", Some(block)) => block.trim_end_matches("[]"),
        _ => first,
    }
}

fn keys() -> String {
    let mut text = format!(
        "# Every key\n\n{GENERATED}\n\
         What each key is for, what it may be, and what EMQX makes of it in a file that it reads \
         too. The language and the rules are in [configuration](configuration.md).\n\n\
         In EMQX: **same**, the key means the same there; **passes by**, EMQX warns of the root \
         `agent` and goes on, so it may stand in a shared file; **not in a shared file**, EMQX \
         does not start with it: put it into a file of the agent's own, or into its variable.\n"
    );
    let mut open = "";
    for key in KEYS {
        let section = section_of(key.path);
        if section != open {
            open = section;
            writeln!(text, "\n## `{section}`\n").unwrap();
            text.push_str("| key | kind | default | meaning | allowed | in EMQX | variable |\n");
            text.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
        }
        let emqx = match key.in_emqx() {
            InEmqx::Same => "same",
            InEmqx::PassesBy => "passes by",
            InEmqx::Refuses => "not in a shared file",
        };
        let old = key.alias.map(|alias| format!(", old name `{alias}`")).unwrap_or_default();
        let secret = if key.secret { " Never shown." } else { "" };
        writeln!(
            text,
            "| `{}`{old} | {} | {} | {}{secret} | {} | {emqx} | `{}` |",
            key.path,
            kind(key),
            default(key),
            key.meaning,
            key.allowed.replace('|', "\\|"),
            key.env(),
        )
        .unwrap();
    }
    text
}

#[test]
fn every_key_stands_in_the_reference() {
    hold("reference-keys.md", &keys());
}

/// The help of a command, and of those below it.
fn help(of: &[&str], text: &mut String) {
    let output = Command::new(env!("CARGO_BIN_EXE_muster"))
        .args(of)
        .arg("--help")
        .env_clear()
        .env("COLUMNS", "80")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<_> = said.lines().map(str::trim_end).collect();
    let name = [&["muster"], of].concat().join(" ");
    writeln!(text, "\n## {name}\n\n```text\n{}\n```", said.join("\n").trim_end()).unwrap();
    let commands = said
        .iter()
        .skip_while(|line| **line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    for command in commands.filter_map(|line| line.split_whitespace().next()) {
        if command != "help" {
            help(&[of, &[command]].concat(), text);
        }
    }
}

#[test]
fn every_command_stands_in_the_reference() {
    let mut text = format!(
        "# Every command\n\n{GENERATED}\n\
         Exit codes: 0, it is done; 1, it was refused or failed; 2, the command line is wrong; 69, \
         no agent answers; 78, the configuration cannot be used.\n\n\
         The agent is found by `--url`, else by the configuration that `-c` names, else by \
         `MUSTER_URL`, else at `http://127.0.0.1:7370`; its token by `--token`, `-c`, \
         `MUSTER_TOKEN`. The manual pages say the same: `muster man`.\n"
    );
    help(&[], &mut text);
    assert!(text.matches("\n## muster").count() > 20, "{text}");
    hold("reference-commands.md", &text);
}
