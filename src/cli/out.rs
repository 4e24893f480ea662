//! Writing to stdout, which may be a pipe that nobody reads any more.

use std::io::{self, Write as _};

use serde::Serialize;

use super::error::CliError;

/// Writes a text as it is.
pub(super) fn text(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a line.
pub(super) fn line(line: &str) -> Result<(), CliError> {
    text(&format!("{line}\n"))
}

/// Writes indented JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Result<(), CliError> {
    let json = serde_json::to_string_pretty(value);
    line(&json.map_err(|error| CliError::Failed(error.to_string()))?)
}

/// Writes JSON on one line, for streams.
pub(super) fn json_line<T: Serialize>(value: &T) -> Result<(), CliError> {
    let json = serde_json::to_string(value);
    line(&json.map_err(|error| CliError::Failed(error.to_string()))?)
}

/// Columns of the width of their widest cell, two blanks between them.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["NODE", "STATUS"], vec!["emqx@ä", "up"], vec!["e@a.example", "down"]];
        let rows: Vec<Vec<String>> =
            rows.map(|row| row.iter().map(ToString::to_string).collect()).into();
        assert_eq!(table(&rows), "NODE         STATUS\nemqx@ä       up\ne@a.example  down\n");
        assert_eq!(table(&[]), "");
    }
}
