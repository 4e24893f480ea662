//! Keys whose values are more than a text or a list: programs, blocks, secrets, paths.

use std::path::PathBuf;

use super::super::hocon::Words;
use super::super::keys::Key;
use super::super::loader::reason;
use super::super::names;
use super::super::tree::Value;
use super::{Fault, Reader, kind, quote, shorten, stars, swallowed};
use crate::secret::{Secret, shown_urls};

/// Most blocks in a list of them: each is a task, or several.
const MAX_BLOCKS: usize = 64;

impl Reader<'_> {
    /// A program and its arguments, which only a list can tell apart; empty if unset.
    pub(in crate::config) fn program(&mut self, key: &Key) -> Option<Vec<String>> {
        if let Some((node, path)) = self.find(key)
            && let Value::Text(words) = &node.value
        {
            let arguments = words.text.split_whitespace();
            let arguments: Vec<String> = arguments.map(|text| quote(&shown_urls(text))).collect();
            let hint = format!("write a list, one item an argument: [{}]", arguments.join(", "));
            self.fault(key, &path, &node.origin, words, Fault::hint(hint));
            return None;
        }
        let program = self.list(key, |text| {
            if text.contains('\0') {
                Err(Fault::found("a NUL character"))
            } else {
                Ok(text.to_owned())
            }
        })?;
        if self.is_set(key) && program.first().is_none_or(String::is_empty) {
            self.error(key, format!("found no program, allowed: {}", key.allowed), "");
            return None;
        }
        Some(program)
    }

    /// A list of blocks: `read` is called once for each, and the keys `key[].…` mean that
    /// one. `None` if any was refused.
    pub(in crate::config) fn blocks<T>(
        &mut self,
        key: &Key,
        read: impl Fn(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some((node, path)) = self.find(key) else { return Some(Vec::new()) };
        let Some(items) = node.items() else {
            self.misfit(key, &path, node);
            return None;
        };
        if items.len() > MAX_BLOCKS {
            let fault = Fault::found(format!("{} blocks", items.len()));
            self.fault(key, &path, &node.origin, &Words::default(), fault);
            return None;
        }
        let mut values = Vec::with_capacity(items.len());
        let mut shown = Vec::with_capacity(items.len());
        for (n, item) in items.iter().copied().enumerate() {
            let path = format!("{path}.{}", n + 1);
            if !matches!(item.value, Value::Object(_)) {
                self.misfit(key, &path, item);
                continue;
            }
            self.item = Some((n, item));
            let before = self.settings.len();
            let errors = self.errors.len();
            names::unknown_below(self, &format!("{}[]", key.path), &path, item);
            values.extend(read(self).filter(|_| self.errors.len() == errors));
            let fields = self.settings.split_off(before);
            let fields = fields.iter().map(|setting| {
                let (_, field) = setting.path.split_once("[].").unwrap_or_default();
                format!("{field} = {}", setting.value)
            });
            shown.push(format!("{{{}}}", fields.collect::<Vec<_>>().join(", ")));
        }
        self.item = None;
        if values.len() < items.len() {
            return None;
        }
        self.setting(key, format!("[{}]", shown.join(", ")), &node.origin);
        Some(values)
    }

    /// A block of names that are free, each with a text: `add` takes them one by one.
    pub(in crate::config) fn texts(
        &mut self,
        key: &Key,
        mut add: impl FnMut(&str, &str) -> Result<(), Fault>,
    ) -> Option<()> {
        let Some((node, path)) = self.find(key) else { return Some(()) };
        let Value::Object(fields) = &node.value else {
            self.misfit(key, &path, node);
            return None;
        };
        let mut shown = Vec::with_capacity(fields.len());
        for (name, field) in fields {
            let path = format!("{path}.{name}");
            let added = match &field.value {
                Value::Text(words) => add(name, &words.text).map(|()| words),
                other => Err(Fault::found(kind(other))),
            };
            match added {
                Ok(words) => shown.push(format!("{} = {}", quote(name), self.shown(key, words))),
                Err(fault) => {
                    self.fault(key, &path, &field.origin, &Words::default(), fault);
                }
            }
        }
        if shown.len() < fields.len() {
            return None;
        }
        self.setting(key, format!("{{{}}}", shown.join(", ")), &node.origin);
        Some(())
    }

    /// A secret, or several: `file:///path` is replaced by what the file holds. `read`
    /// gets that, and the file it was in. Empty if unset.
    pub(in crate::config) fn secrets<T>(
        &mut self,
        key: &Key,
        read: impl Fn(&str, Option<PathBuf>) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        let Some((node, path)) = self.find(key) else { return Some(Vec::new()) };
        let items = match &node.value {
            // A comma may be part of a secret: only a list holds several.
            Value::Text(words) => vec![(words.clone(), node.origin.clone())],
            _ => self.items(key, &path, node)?,
        };
        let mut secrets = Vec::new();
        let mut shown = Vec::new();
        for (words, origin) in &items {
            let text = &words.text;
            if let Some(fault) = swallowed(key, words) {
                self.fault(key, &path, origin, &Words::default(), fault);
                continue;
            }
            match self.secret(text).and_then(|(text, file)| read(&text, file)) {
                Ok(secret) => {
                    shown.push(if text.starts_with("file://") { quote(text) } else { stars() });
                    secrets.push(secret);
                }
                Err(fault) => self.fault(key, &path, origin, &Words::default(), fault),
            }
        }
        if secrets.len() < items.len() {
            return None;
        }
        let shown = match &node.value {
            Value::Text(_) => shown.concat(),
            _ => format!("[{}]", shown.join(", ")),
        };
        self.setting(key, shown, &node.origin);
        Some(secrets)
    }

    /// One secret, if it is set; `None` if it was refused.
    pub(in crate::config) fn optional_secret(
        &mut self,
        key: &Key,
        read: impl Fn(&str) -> Result<Secret, Fault>,
    ) -> Option<Option<Secret>> {
        Some(self.secrets(key, |text, _| read(text))?.into_iter().next())
    }

    fn secret(&self, text: &str) -> Result<(String, Option<PathBuf>), Fault> {
        let Some(path) = text.strip_prefix("file://") else { return Ok((text.to_owned(), None)) };
        let path = PathBuf::from(self.expand(path).0);
        let content = self.files.read(&path).map_err(|error| Fault {
            found: Some(format!("`{text}`, which cannot be read: {}", reason(&error))),
            hint: Some("the file must exist and be readable by this process".to_owned()),
        })?;
        let content = content.strip_suffix('\n').unwrap_or(&content);
        Ok((content.strip_suffix('\r').unwrap_or(content).to_owned(), Some(path)))
    }

    /// A path that has a default, with `${NAME}` expanded from the environment.
    pub(in crate::config) fn path(&mut self, key: &Key) -> Option<PathBuf> {
        self.optional_path(key)?
    }

    /// A path that may be missing, as [`optional`](Self::optional).
    pub(in crate::config) fn optional_path(&mut self, key: &Key) -> Option<Option<PathBuf>> {
        let text = self.optional(key, |text| match text {
            "" => Err(Fault::found("nothing")),
            text if text.contains('\0') => Err(Fault::found("a NUL character")),
            text => Ok(text.to_owned()),
        })?;
        let Some(text) = text else { return Some(None) };
        let (text, unknown) = self.expand(&text);
        if let Some(name) = unknown {
            let name = shorten(&name);
            let message = format!("`${{{name}}}` is not set in the environment and stays as it is");
            self.warn(key, message, "set it, or write the path out");
        }
        Some(Some(text.into()))
    }

    /// Expands `${NAME}`; the first name that is not set, too.
    pub(in crate::config) fn expand(&self, text: &str) -> (String, Option<String>) {
        let mut out = String::new();
        let mut unknown = None;
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${") {
            let Some((name, after)) = behind.split_once('}') else { break };
            out.push_str(before);
            match self.env.get(name) {
                Some(value) => out.push_str(value),
                None if name == "EMQX_ETC_DIR" => out.push_str(&self.etc_dir.to_string_lossy()),
                None => {
                    out.push_str(&format!("${{{name}}}"));
                    unknown.get_or_insert_with(|| name.to_owned());
                }
            }
            rest = after;
        }
        out.push_str(rest);
        (out, unknown)
    }
}
