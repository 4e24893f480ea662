//! The map in `src/lib.rs` is the house: every part imports what its row says, and
//! dependencies point down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A row of the map: the parts that it speaks of, and whom they may know.
#[derive(Debug)]
struct Row {
    parts: Vec<String>,
    knows: Knows,
}

#[derive(Debug)]
enum Knows {
    AllBelow,
    These(BTreeSet<String>),
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The names in "[`a`], [`b`]`::c`" and "`d.rs`": `a`, `b::c`, `d`.
fn names(cell: &str) -> Vec<String> {
    let joined = cell.replace("`]`::", "::").replace("[`", "`").replace("`]", "`");
    let quoted = joined.split('`').skip(1).step_by(2);
    quoted.map(|name| name.trim_end_matches(".rs").to_owned()).collect()
}

fn map() -> Vec<Row> {
    let text = fs::read_to_string(source().join("lib.rs")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | "));
    let rows = rows.map(|line| line.trim_end_matches(" |").split(" | ").collect::<Vec<_>>());
    rows.filter(|cells| cells.len() == 3 && cells[0].contains('`'))
        .map(|cells| Row {
            parts: names(cells[0]),
            knows: match cells[2] {
                "all below" => Knows::AllBelow,
                cell => Knows::These(names(cell).into_iter().collect()),
            },
        })
        .collect()
}

/// Whom the part may know, in full.
fn allowed(map: &[Row], part: &str) -> BTreeSet<String> {
    let at = map.iter().position(|row| row.parts.iter().any(|name| name == part));
    let at = at.unwrap_or_else(|| panic!("`{part}` is in no row of the map in src/lib.rs"));
    match &map[at].knows {
        Knows::These(these) => these.clone(),
        Knows::AllBelow => map[at + 1..].iter().flat_map(|row| row.parts.clone()).collect(),
    }
}

fn files(of: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(of).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code without comments and without the tests, which may know everybody.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// What stands behind every `crate::`, of groups each member: `node`, `protocol::dist`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(members(group).iter().map(|path| shortened(path))),
            None => drop(found.insert(shortened(rest))),
        }
    }
    found
}

/// The paths of a group whose opening brace has been read, as far as their first brace.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                found.push(group[begin..at].trim());
                begin = at + 1;
            }
            '}' if depth == 0 => {
                found.push(group[begin..at].trim());
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found.retain(|path| !path.is_empty());
    found
}

/// The part at the head of a path; of `protocol` with its half.
fn shortened(path: &str) -> String {
    let mut words = path.split(|c: char| !c.is_alphanumeric() && c != '_');
    let part = words.next().unwrap_or_default();
    // Behind the first of two colons nothing stands.
    let half = words.nth(1).filter(|half| ["dist", "membership"].contains(half));
    match half {
        Some(half) if part == "protocol" => format!("{part}::{half}"),
        _ => part.to_owned(),
    }
}

#[test]
fn every_part_knows_whom_the_map_says() {
    let map = map();
    let mut all = Vec::new();
    files(&source(), &mut all);
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for file in all {
        let relative = file.strip_prefix(source()).unwrap();
        let of_tests = relative.components().any(|part| {
            let part = part.as_os_str().to_string_lossy();
            part == "tests" || part == "tests.rs"
        });
        let part = relative.components().next().unwrap().as_os_str().to_string_lossy();
        let part = part.trim_end_matches(".rs").to_owned();
        if of_tests || part == "lib" {
            continue;
        }
        let allowed = allowed(&map, &part);
        for import in imports(&code(&fs::read_to_string(&file).unwrap())) {
            let whole = import.split("::").next().unwrap();
            if whole == part {
                continue;
            }
            if allowed.contains(&import) || allowed.contains(whole) {
                used.entry(part.clone()).or_default().insert(import);
            } else {
                wrong.push(format!("{}: crate::{import}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "not in the map of src/lib.rs:\n{}", wrong.join("\n"));
    // The other way round: who is named is known.
    for row in &map {
        let Knows::These(these) = &row.knows else { continue };
        let of_row: BTreeSet<_> =
            row.parts.iter().flat_map(|part| used.get(part)).flatten().collect();
        for known in these.iter().filter(|_| row.parts != ["main"]) {
            let is_used = of_row
                .iter()
                .any(|import| *import == known || import.split("::").next() == Some(known));
            assert!(is_used, "{:?} may know `{known}`, and does not", row.parts);
        }
    }
}

#[test]
fn dependencies_point_down_the_map() {
    let map = map();
    assert!(map.len() > 8, "the map was not found: {map:?}");
    for (at, row) in map.iter().enumerate() {
        let Knows::These(these) = &row.knows else { continue };
        for known in these {
            let whole = known.split("::").next().unwrap();
            let below = map[at + 1..].iter().any(|row| row.parts.iter().any(|part| part == whole));
            assert!(below, "{:?} knows `{known}`, which is not below it", row.parts);
        }
    }
    // Every part of the crate is somewhere.
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
    for part in lib.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        allowed(&map, part.trim_end_matches(';'));
    }
}

#[test]
fn the_reader_of_imports_sees_them_all() {
    let code = "use crate::{a, b::{c, d}, protocol::{dist::x, membership}};\nuse crate::protocol::dist::y;\n\
                fn f() { crate::e::g(); pub(crate) fn h() {} }";
    let found: Vec<_> = imports(code).into_iter().collect();
    assert_eq!(found, ["a", "b", "e", "protocol", "protocol::dist"]);
    assert_eq!(
        names("[`view`], [`protocol`]`::dist`, `main.rs`"),
        ["view", "protocol::dist", "main"]
    );
}
