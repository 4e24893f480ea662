//! The effective configuration, as text.

use super::error::Origin;
use super::reader::Setting;

/// One `key = value` line for every setting, which is HOCON again, with the origin in
/// a comment behind it. Secrets are stars.
#[must_use]
pub fn explain(settings: &[Setting]) -> String {
    let lines: Vec<String> = settings.iter().map(|s| format!("{} = {}", s.path, s.value)).collect();
    // Long values do not push the comments of all the others to the right.
    const WIDEST: usize = 60;
    let width = lines.iter().map(String::len).filter(|len| *len <= WIDEST).max().unwrap_or(0);
    let mut text = String::new();
    for (line, setting) in lines.iter().zip(settings) {
        let origin = match &setting.origin {
            Origin::Default => "default".to_owned(),
            origin => origin.to_string(),
        };
        text.push_str(&format!("{line:width$}  # {origin}\n"));
    }
    text
}
