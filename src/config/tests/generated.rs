//! Trees written in every way the language has, and read again: nothing changes, and
//! nothing is lost.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::hocon::{self, Sources};

#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Text(String),
    List(Vec<Tree>),
    Object(BTreeMap<String, Tree>),
}

fn trees() -> impl Strategy<Value = Tree> {
    let text = prop_oneof![
        "[A-Za-z][A-Za-z0-9_.@%|-]{0,8}",
        "[0-9]{1,4}(ms|s|MB|%)?",
        "[ -~]{0,12}",
        "[ -~é｛\u{1F600}\\n\\t]{0,8}",
        "(true|false|null|include|-?[0-9]{1,3}\\.[0-9])",
    ];
    text.prop_map(Tree::Text).prop_recursive(4, 40, 5, |inner| {
        let key = prop_oneof!["[a-z][a-z0-9_]{0,4}", "[ -~]{1,6}", "(include|null|K8s)"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::List),
            prop::collection::btree_map(key, inner, 0..5).prop_map(Tree::Object),
        ]
    })
}

/// Writes a tree; every choice of style is taken from a list of numbers.
struct Writer {
    choices: Vec<u8>,
    at: usize,
    /// Texts that are written elsewhere and referred to.
    elsewhere: String,
    count: usize,
}

impl Writer {
    fn choose(&mut self, of: usize) -> usize {
        self.at += 1;
        let choice = self.choices.get(self.at % self.choices.len().max(1)).copied();
        usize::from(choice.unwrap_or_default()) % of
    }

    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        let n = self.choose(of.len());
        of[n]
    }

    fn blank(&mut self) -> &'static str {
        self.pick(&["", " ", "\t", "\n", "\r\n", " # a comment, } ] \" \n", "// another\n "])
    }

    fn quoted(text: &str) -> String {
        let mut quoted = String::from("\"");
        for c in text.chars() {
            match c {
                '"' => quoted.push_str("\\\""),
                '\\' => quoted.push_str("\\\\"),
                '\n' => quoted.push_str("\\n"),
                '\t' => quoted.push_str("\\t"),
                c => quoted.push(c),
            }
        }
        quoted + "\""
    }

    fn is_word(text: &str) -> bool {
        let mut chars = text.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic())
            && chars.all(|c| c.is_ascii_alphanumeric() || "_.@%|-".contains(c))
            && !["null", "include"].contains(&text)
    }

    fn text(&mut self, text: &str) -> String {
        match self.choose(6) {
            0 | 1 if Self::is_word(text) => text.to_owned(),
            2 if !text.contains("\"\"\"") && !text.ends_with('"') && !text.starts_with("~\n") => {
                format!("\"\"\"{text}\"\"\"")
            }
            3 if !text.contains('"') => {
                let indented: Vec<String> =
                    text.split('\n').map(|line| format!("  {line}")).collect();
                // A line of blanks has no indentation of its own to lose.
                if text.split('\n').all(|line| !line.trim().is_empty())
                    && !text.starts_with(' ')
                    && !text.ends_with('~')
                {
                    return format!("\"\"\"~\n{}\"\"\"", indented.join("\n"));
                }
                Self::quoted(text)
            }
            4 => {
                let middle = text.char_indices().map(|(at, _)| at).nth(text.chars().count() / 2);
                let (left, right) = text.split_at(middle.unwrap_or_default());
                format!("{} {}", Self::quoted(left), Self::quoted(right))
            }
            5 => {
                self.count += 1;
                let name = format!("e{}", self.count);
                let written = format!("{name} = {}\n", Self::quoted(text));
                self.elsewhere.push_str(&written);
                format!("${{{}{name}}}", self.pick(&["", "?"]))
            }
            _ => Self::quoted(text),
        }
    }

    fn value(&mut self, tree: &Tree) -> String {
        match tree {
            Tree::Text(text) => self.text(text),
            Tree::List(items) => {
                let mut written = String::from("[");
                for item in items {
                    written += self.blank();
                    written += &self.value(item);
                    written += self.pick(&[",", "\n", " , ", ",\n", "\r\n"]);
                }
                written + self.pick(&["]", " ]", "\n]"])
            }
            Tree::Object(fields) => {
                let fields = self.fields(fields);
                format!("{{{}{fields}{}}}", self.blank(), self.blank())
            }
        }
    }

    fn key(&mut self, key: &str) -> String {
        let plain = Self::is_word(key) && !key.contains('.');
        if plain && self.choose(3) > 0 { key.to_owned() } else { Self::quoted(key) }
    }

    fn fields(&mut self, fields: &BTreeMap<String, Tree>) -> String {
        let mut written = String::new();
        for (name, tree) in fields {
            let key = self.key(name);
            let field = match tree {
                Tree::Object(inner) => match self.choose(4) {
                    0 => format!("{key}{}{}", self.pick(&["", " ", "\n"]), self.value(tree)),
                    // In two blocks.
                    1 => {
                        let mut halves = [BTreeMap::new(), BTreeMap::new()];
                        for (n, (name, tree)) in inner.iter().enumerate() {
                            halves[n % 2].insert(name.clone(), tree.clone());
                        }
                        let [left, right] = halves.map(|half| self.value(&Tree::Object(half)));
                        format!("{key} = {left}\n{key} {right}")
                    }
                    // By dotted keys.
                    2 if !inner.is_empty() => {
                        let mut lines = Vec::new();
                        for (name, tree) in inner {
                            let name = self.key(name);
                            lines.push(format!("{key}.{name} = {}", self.value(tree)));
                        }
                        lines.join("\n")
                    }
                    _ => format!("{key} = {}", self.value(tree)),
                },
                Tree::List(items) if !items.is_empty() && self.choose(4) == 0 => {
                    let mut lines = vec![format!("{key} = []")];
                    for item in items {
                        lines.push(format!("{key} += {}", self.value(item)));
                    }
                    lines.join("\n")
                }
                _ => format!(
                    "{key}{}{}",
                    self.pick(&[" = ", "=", ":", " =\n", "\n: "]),
                    self.value(tree)
                ),
            };
            written += &field;
            // Without a comma too: EMQX knows a field by the sign behind its key.
            written += self.pick(&["\n", ",", " ,\n", " ", "\r\n"]);
        }
        written
    }
}

fn read(text: &str) -> Result<Tree, String> {
    let none = |_: &std::path::Path| Ok(None);
    let open = |_: &str| false;
    let mut sources = Sources::new(&none, &open, 0);
    sources.layer(&std::path::Path::new("t").into(), text);
    let root = sources.resolve(&|_| None);
    match sources.problems.first() {
        None => Ok(tree(root.value)),
        Some(problem) => Err(format!("{problem:?}")),
    }
}

fn tree(value: hocon::Value) -> Tree {
    match value {
        hocon::Value::Null => Tree::Text("null".to_owned()),
        hocon::Value::Text(words) => Tree::Text(words.text),
        hocon::Value::List(items) => {
            Tree::List(items.into_iter().map(|item| tree(item.value)).collect())
        }
        hocon::Value::Object(fields) => {
            let fields = fields.into_iter();
            let fields = fields.filter(|(_, node)| !matches!(node.value, hocon::Value::Null));
            Tree::Object(fields.map(|(name, node)| (name, tree(node.value))).collect())
        }
    }
}

/// What EMQX's own parser (emqx/hocon of 2026-08-21, with numbers as texts) made of texts
/// that a generator of ours wrote.
#[test]
fn emqx_reads_the_same() {
    fn expected(value: &serde_json::Value) -> Tree {
        match value {
            serde_json::Value::Array(items) => Tree::List(items.iter().map(expected).collect()),
            serde_json::Value::Object(fields) => {
                Tree::Object(fields.iter().map(|(name, v)| (name.clone(), expected(v))).collect())
            }
            other => Tree::Text(other.as_str().unwrap().to_owned()),
        }
    }
    let answers = include_str!("../../../tests/data/emqx-hocon.jsonl");
    for line in answers.lines() {
        let answer: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = answer["text"].as_str().unwrap();
        let found = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(found, expected(&answer["value"]), "{text}");
    }
    assert!(answers.lines().count() > 200);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_written_is_read_again(
        fields in prop::collection::btree_map("[a-d]", trees(), 1..5),
        choices in prop::collection::vec(any::<u8>(), 1..64),
    ) {
        let mut writer = Writer { choices, at: 0, elsewhere: String::new(), count: 0 };
        let written = writer.fields(&fields);
        let text = format!("t {{ {written} }}\n{}", writer.elsewhere);
        let root = read(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        let Tree::Object(mut root) = root else { panic!("{text}") };
        prop_assert_eq!(root.remove("t"), Some(Tree::Object(fields)), "{}", text);
        prop_assert_eq!(root.len(), writer.count, "{}", text);
    }

    /// Whatever is cut out of a text or put into it, it is read or refused.
    #[test]
    fn damaged_texts_are_read_or_refused(
        fields in prop::collection::btree_map("[a-d]", trees(), 1..4),
        choices in prop::collection::vec(any::<u8>(), 1..64),
        at in any::<prop::sample::Index>(),
        put in "[{}\\[\\],=:+\"'\\\\$#\n.a-c ]{0,2}",
        cut in 0usize..3,
    ) {
        let mut writer = Writer { choices, at: 0, elsewhere: String::new(), count: 0 };
        let written = writer.fields(&fields);
        let mut chars: Vec<char> = format!("{written}\n{}", writer.elsewhere).chars().collect();
        let at = at.index(chars.len());
        let end = (at + cut).min(chars.len());
        chars.splice(at..end, put.chars());
        let _ = read(&chars.into_iter().collect::<String>());
    }
}
